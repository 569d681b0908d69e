"""A personal model with the features of its photos, whichever engine runs it; without torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fewshot_lite.core.config import switches_checked
from fewshot_lite.core.errors import InputError
from fewshot_lite.core.files import DEFAULT_PERSONAL, as_path, check_output
from fewshot_lite.heads.array_head import ArrayHead, DescribedHead
from fewshot_lite.heads.groups import groups_per_class
from fewshot_lite.heads.in_numpy import Array
from fewshot_lite.images.kinds import check_model_name
from fewshot_lite.personal.classifier import PhotoClassifier
from fewshot_lite.personal.file_contents import Contents, write_personal
from fewshot_lite.personal.novelty_threshold import novelty_of_support, threshold
from fewshot_lite.personal.undo import keep_backup

if TYPE_CHECKING:
    from fewshot_lite.personal.support import Support


def check_personal(personal: object, kind: type | None = None) -> None:
    """Raise InputError unless an argument is a `kind` of personal model, by default any."""
    if not isinstance(personal, kind or WithPhotos):
        needed = "personal model" if kind is None else kind.__name__
        raise InputError(
            f"personal: {type(personal).__name__} is no {needed}. Give one that MetaModel.adapt "
            "made or PersonalModel.load read."
        )


class WithPhotos(PhotoClassifier):
    """A personal model that keeps the features of its N photos; arrays are NumPy's or torch's."""

    adaptation: Support | None = None
    """The support set it was adapted to, without the images; None if it was loaded from a file."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.class_names = contents.class_names
        self.image_size = contents.image_size
        self.provenance = contents.provenance

    @property
    @abstractmethod
    def array_head(self) -> ArrayHead:
        """The head on NumPy arrays."""

    @property
    @abstractmethod
    def network_name(self) -> str:
        """The name of the backbone."""

    @abstractmethod
    def features_of(self, pixels: npt.NDArray[np.uint8]) -> Array:
        """Return the features (B, d) of images (B, 3, S, S)."""

    @abstractmethod
    def _stored(self) -> tuple[Mapping[str, Any], Mapping[str, Array], DescribedHead]:
        """Return the network and the head as `write_personal` takes them."""

    @switches_checked
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
            path: the file to write.
            force: overwrite an existing file.
            thumbnails: write the thumbnails of its photos, if it has any.
            backup: keep the overwritten file; see `personal.undo`.

        Raises:
            UsageError: the file exists and `force` is not set, its folder does not exist, or the
                name is that of another kind of file, e.g. of a photo.
        """
        path = as_path(path, "path")
        check_model_name(path)
        check_output(path, force=force, stream=True)
        contents = replace(
            self.contents,
            provenance=self.provenance,
            support_strangeness=self.support_strangeness,
            thumbnails=self.thumbnails if thumbnails else (),
        )
        replaces = keep_backup(path) if force and backup else None
        write_personal(path, *self._stored(), contents, replaces=replaces, force=force)
        return path

    @property
    def photos(self) -> tuple[str, ...]:
        """N names of the photos; empty if they are not known."""
        return self.contents.photos

    @property
    def thumbnails(self) -> tuple[bytes, ...]:
        """N small JPEGs of the photos; empty if there are none."""
        return self.contents.thumbnails

    @property
    def labels(self) -> Any:
        """int64 (N,) of 0..K-1."""
        return self.contents.labels

    @property
    def features(self) -> Any:
        """float32 (N, d), features of the photos as they are."""
        return self.contents.features[:, 0]

    @property
    def groups(self) -> Any:
        """int64 (N,), equal for frames of one clip, which are left out together."""
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
        """The number of examples of each class: photos, and clips as one each."""
        return self._per_class(self.contents.together)

    def _per_class(self, groups: Array | None) -> dict[str, int]:
        counts = groups_per_class(self.contents.labels, len(self.class_names), groups)
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    @property
    def adapted_by_gradient(self) -> bool:
        """Whether gradient steps on the photos adapted the network."""
        return self.contents.leave_one_out_logits is not None

    @property
    def known_digests(self) -> frozenset[int]:
        digests = self.contents.digests
        return frozenset(() if digests is None else digests.tolist()) - {0}

    def rows(self) -> tuple[Any, Any, Any]:
        """Return the rows that the head is fitted to; see `Contents.rows`."""
        return self.contents.rows()

    def leave_one_out_logits(self) -> Any:
        """Return the leave-one-out logits (N, K) of the photos; NaN for a class's only one.

        Photos are left out of the head alone (`Head.leave_one_out_logits`); where gradient steps
        adapted the network, out of the whole adaptation, a fold at a time (`cross_adaptation`).
        """
        if self.contents.leave_one_out_logits is not None:
            return self.contents.leave_one_out_logits
        rows, labels, photos = self.contents.rows()
        support = rows, labels, len(self.class_names)
        logits = self.array_head.leave_one_out_logits(support, self.contents.together[photos])
        return logits[:: self.contents.features.shape[1]]

    @cached_property
    def support_strangeness(self) -> Array:
        """The leave-one-out novelty score of each photo, float32 (N,); NaN for a class's only one.

        Computed at the first access unless the file has it.
        """
        contents = self.contents
        if contents.support_strangeness is not None:
            return contents.support_strangeness
        support = contents.features[:, 0], contents.labels, len(self.class_names)
        return novelty_of_support(*support, contents.together)

    def threshold(self, reject: float) -> float:
        groups = self.contents.together.tolist()
        return threshold(self.support_strangeness.tolist(), reject, groups)
