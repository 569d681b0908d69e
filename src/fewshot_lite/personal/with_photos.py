"""What a personal model knows of its photos, whichever engine runs it; this imports no torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fewshot_lite.core.files import DEFAULT_PERSONAL, check_output
from fewshot_lite.heads.array_head import ArrayHead, DescribedHead
from fewshot_lite.heads.groups import groups_per_class
from fewshot_lite.heads.in_numpy import Array
from fewshot_lite.personal.classifier import PhotoClassifier
from fewshot_lite.personal.file_contents import Contents, write_personal
from fewshot_lite.personal.novelty_threshold import strangeness_of_support, threshold
from fewshot_lite.personal.undo import keep_backup

if TYPE_CHECKING:
    from fewshot_lite.personal.support import Support


class WithPhotos(PhotoClassifier):
    """A personal model that keeps the features of its N photos; arrays are NumPy's or torch's."""

    adaptation: Support | None = None
    """What it was adapted to, without the images; None in one that was loaded from a file."""

    def __init__(self, contents: Contents) -> None:
        """Take in all that a file has besides network and head."""
        self.contents = contents
        self.class_names = contents.class_names
        self.image_size = contents.image_size
        self.provenance = contents.provenance

    @property
    @abstractmethod
    def array_head(self) -> ArrayHead:
        """Its head as a function of arrays."""

    @property
    @abstractmethod
    def network_name(self) -> str:
        """What its network is called."""

    @abstractmethod
    def features_of(self, pixels: npt.NDArray[np.uint8]) -> Array:
        """Features (B, d) of images (B, 3, S, S)."""

    @abstractmethod
    def _stored(self) -> tuple[Mapping[str, Any], Mapping[str, Array], DescribedHead]:
        """The network and the head, as `write_personal` takes them."""

    def save(
        self,
        path: str | Path = DEFAULT_PERSONAL,
        *,
        force: bool = False,
        thumbnails: bool = True,
        backup: bool = True,
    ) -> Path:
        """Write the model, whole or not at all.

        Args:
            path: where to.
            force: it may be there.
            thumbnails: with the small pictures of its photos, if it has any.
            backup: keep the file that was there; see `personal.undo`.

        Raises:
            UsageError: the file exists and `force` is not set, or its folder is not there.
        """
        path = Path(path)
        check_output(path, force=force, stream=True)
        contents = replace(
            self.contents,
            provenance=self.provenance,
            support_strangeness=self.support_strangeness,
            thumbnails=self.thumbnails if thumbnails else (),
        )
        if force and backup:
            keep_backup(path)
        write_personal(path, *self._stored(), contents, force=force)
        return path

    @property
    def photos(self) -> tuple[str, ...]:
        """N names of the photos, or none."""
        return self.contents.photos

    @property
    def thumbnails(self) -> tuple[bytes, ...]:
        """N small JPEGs of the photos, or none."""
        return self.contents.thumbnails

    @property
    def labels(self) -> Any:
        """int64 (N,) of 0..K-1."""
        return self.contents.labels

    @property
    def features(self) -> Any:
        """float32 (N, d), of the photos as they are."""
        return self.contents.features[:, 0]

    @property
    def groups(self) -> Any:
        """int64 (N,), one number for the frames of a clip, which are left out together."""
        return self.contents.together

    @property
    def clips(self) -> bool:
        """Whether some of the photos are frames of one clip."""
        return self.contents.clips

    @property
    def shots(self) -> dict[str, int]:
        """The number of photos of each class."""
        return self._per_class(None)

    @property
    def examples(self) -> dict[str, int]:
        """The number of photos and clips of each class, which are left out as one each."""
        return self._per_class(self.contents.together)

    def _per_class(self, groups: Array | None) -> dict[str, int]:
        counts = groups_per_class(self.contents.labels, len(self.class_names), groups)
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    @property
    def adapted_by_gradient(self) -> bool:
        """Whether gradient steps on the photos made the network."""
        return self.contents.leave_one_out_logits is not None

    @property
    def known_digests(self) -> frozenset[int]:
        digests = self.contents.digests
        return frozenset(() if digests is None else digests.tolist()) - {0}

    def rows(self) -> tuple[Any, Any, Any]:
        """The rows that the head is fitted to: features (N V, d), labels and photos (N V,)."""
        return self.contents.rows()

    def leave_one_out_logits(self) -> Any:
        """Leave-one-out logits of the photos, (N, K); NaN for a class's only photo or clip.

        Left out of the head alone (`Head.leave_one_out_logits`); where gradient steps adapted the
        network, of all of the adaptation, a fold at a time (`cross_adaptation`).
        """
        if self.contents.leave_one_out_logits is not None:
            return self.contents.leave_one_out_logits
        rows, labels, photos = self.contents.rows()
        support = rows, labels, len(self.class_names)
        groups = self.contents.together[photos]
        found = self.array_head.leave_one_out_logits(support, groups)
        return found[:: self.contents.features.shape[1]]

    @cached_property
    def support_strangeness(self) -> Array:
        """How strange each photo is to the others, float32 (N,); NaN for a class's only one.

        Computed when it is first asked for, unless the file told.
        """
        known, features = self.contents.support_strangeness, self.contents.features[:, 0]
        if known is not None:
            return known
        given = self.contents.labels, len(self.class_names), self.contents.together
        return strangeness_of_support(features, *given)

    def threshold(self, reject: float) -> float:
        groups = self.contents.together.tolist()
        return threshold(self.support_strangeness.tolist(), reject, groups)
