"""What a personal model knows of its photos, whichever engine runs it; this imports no torch."""

from __future__ import annotations

from typing import Any, Protocol

from fewshot_lite.heads.array_head import ArrayHead


class WithPhotos(Protocol):
    """A personal model that keeps the features of its N photos; arrays are NumPy's or torch's."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names."""

    @property
    def photos(self) -> tuple[str, ...]:
        """N names, or none."""

    @property
    def labels(self) -> Any:
        """int64 (N,) of 0..K-1."""

    @property
    def features(self) -> Any:
        """(N, d), of the photos as they are."""

    @property
    def shots(self) -> dict[str, int]:
        """The number of photos of each class."""

    @property
    def groups(self) -> Any:
        """int64 (N,), one number for the frames of a clip, which are left out together."""

    @property
    def adapted_by_gradient(self) -> bool:
        """Whether gradient steps on the photos made the network and the head."""

    @property
    def array_head(self) -> ArrayHead:
        """Its head as a function of arrays."""

    def leave_one_out_logits(self) -> Any:
        """What the other photos make of each, (N, K); NaN for a class's only photo."""

    def rows(self) -> tuple[Any, Any, Any]:
        """The rows that the head is fitted to: features (N V, d), labels and photos (N V,)."""
