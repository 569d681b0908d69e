"""Leave-one-out of heads whose logit of a class depends on the mean of that class alone."""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot_lite.heads.base import Head
from fewshot_lite.heads.features import class_means

#: Photos at a time, to bound the (photos, photos) products.
_CHUNK = 256


class ClassMeanHead(Head):
    """A head of which a photo left out changes one column: the logit of its own class."""

    def prepared(self, features: Tensor) -> Tensor:
        """Features (B, d) as the means are taken of them."""
        raise NotImplementedError

    def _leave_one_out(
        self, features: Tensor, labels: Tensor, classes: int, rows: Tensor
    ) -> Tensor:
        logits = self.logits(self.fit(features, labels, classes), features)[rows]  # (P, g, K)
        features = self.prepared(features).to(logits.dtype)
        means, shots = class_means(features, labels, classes)
        own, size = labels[rows[:, 0]], rows.shape[1]  # (P,)
        count = shots[own][:, None]
        others = (means[own] * count - features[rows].sum(1)) / (count - size)  # (P, d)
        for part in torch.arange(len(rows), device=rows.device).split(_CHUNK):
            # As many classes of one image each; every photo looks at its own.
            numbers = torch.arange(len(part), device=rows.device)
            statistics = self.fit(others[part], numbers, len(part))
            found = self.logits(statistics, features[rows[part]].flatten(0, 1))
            found = found.unflatten(0, (len(part), size))  # (p, g, p)
            logits[part[:, None], numbers.new_tensor(range(size)), own[part][:, None]] = found[
                numbers[:, None], numbers.new_tensor(range(size)), numbers[:, None]
            ]
        return logits
