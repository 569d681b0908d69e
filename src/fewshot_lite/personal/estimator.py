"""An estimator with scikit-learn's interface.

    classifier = FewShotClassifier().fit(photos, labels)
    classifier.predict(others)

It follows scikit-learn's conventions (`clone`, pipelines and cross-validation accept it) without
importing it. Each `fit` opens the base anew and makes a `PersonalModel`, `model_`.
"""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from fewshot_lite.core.config import HeadName, check_switch, switches_checked
from fewshot_lite.core.errors import FewshotError, InputError, UsageError
from fewshot_lite.core.files import DEFAULT_BASE
from fewshot_lite.images.inputs import Photo, Taken, as_sources, is_photo
from fewshot_lite.images.videos import FRAMES
from fewshot_lite.personal.sample_weights import as_weights

if TYPE_CHECKING:
    from fewshot_lite.personal.personal_model import PersonalModel

#: The entry of a model's provenance with the labels and parameters of an estimator.
_RECORD = "estimator"


class NotFittedError(InputError, AttributeError):
    """The estimator is not fitted; scikit-learn's error has the same built-in bases."""


class FewShotClassifier:
    """A few-shot classifier of photos, adapted in one forward pass."""

    _estimator_type = "classifier"  # for scikit-learn before 1.6

    model_: PersonalModel
    """The personal model that `fit` made."""
    classes_: npt.NDArray[Any]
    """The K labels, sorted."""

    def __init__(
        self,
        base: str | Path = DEFAULT_BASE,
        refine: bool | str = False,
        *,
        head: HeadName = "default",
        views: int | None = None,
        mirror: bool | None = None,
        frames: int | None = None,
        careful: bool = False,
        reject: float = 0.05,
        device: str = "cpu",
    ) -> None:
        """Store the parameters; `fit` reads and checks them.

        Args:
            base: as `MetaModel.load` takes it.
            refine: whether to take gradient steps from the one-pass solution, which takes longer;
                "auto" takes them if photos left out are classified better after them.
            head: as `MetaModel.adapt` takes it.
            views: as `MetaModel.adapt` takes it.
            mirror: as `MetaModel.adapt` takes it.
            frames: as `MetaModel.adapt` takes it.
            careful: average over views of a photo, which takes three times as long.
            reject: the share of one's own photos that `is_novel` may call novel.
            device: the device to run on.
        """
        self.base = base
        self.refine = refine
        self.head = head
        self.views = views
        self.mirror = mirror
        self.frames = frames
        self.careful = careful
        self.reject = reject
        self.device = device

    def fit(
        self, X: str | os.PathLike[str] | Iterable[Photo], y: Iterable[Any] | None = None
    ) -> Self:
        """Adapt the base to photos. Photos that cannot be read are left out with a warning.

        Args:
            X: N photos in any forms and sizes (`images.inputs.Photo`); or a folder with one folder
                of photos per class, whose names are the labels.
            y: N labels, strings or numbers; None with a folder.

        Raises:
            UsageError, FewshotError: as `MetaModel.adapt`.
        """
        from fewshot_lite.personal.meta_model import MetaModel

        check_switch("refine", self.refine, "auto")
        check_switch("careful", self.careful)
        photos: str | os.PathLike[str] | list[Taken]
        labels = None
        if isinstance(X, str | os.PathLike):
            photos = X
            if y is not None:
                raise InputError("y: must be left out with a folder: its folders are the labels.")
        else:
            photos = _sources(X)
            labels = _labels(y, len(photos))
            if len(np.unique(labels)) < 2:
                raise InputError(f"y: one class only in {len(photos)} photos. Give two or more.")
        model = MetaModel.load(self.base, device=self.device).adapt(
            photos,
            None if labels is None else labels.tolist(),
            head=self.head,
            views=self.views,
            mirror=self.mirror,
            frames=self.frames,
            refine="auto" if isinstance(self.refine, str) else "on" if self.refine else "off",
        )
        assert model.adaptation is not None
        for skipped in model.adaptation.skipped:
            warnings.warn(f"{skipped.path}: {skipped.reason}: left out", stacklevel=2)
        self.model_ = model
        self.classes_ = _in_model(np.array(model.class_names) if labels is None else labels, model)
        return self

    def partial_fit(
        self,
        X: Iterable[Photo],
        y: Iterable[Any],
        classes: Iterable[Any] | None = None,
    ) -> Self:
        """Add photos of present and new classes; the first call is `fit`.

        The network stays as `fit` made it, and the head is fitted anew to all photos. Photos that
        the model has already are left out, with a warning if their label differs.

        Args:
            X: N photos, as for `fit`.
            y: N labels.
            classes: ignored; a class is added with its first photo.

        Raises:
            UsageError, FewshotError: as `personal.editing.add`.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X, y)
        from fewshot_lite.personal.editing import NothingNew, add

        sources = _sources(X)
        labels = _labels(y, len(sources))
        if (labels.dtype.kind in "iuf") != (self.classes_.dtype.kind in "iuf"):
            raise InputError(
                f"y: labels of type {labels.dtype}, but those of `fit` are {self.classes_.dtype}."
            )
        try:
            edit = add(self.model_, sources, labels=labels.tolist(), frames=self.frames)
        except NothingNew as nothing:
            duplicates = nothing.duplicates
        else:
            duplicates = edit.duplicates
            for skipped in edit.skipped:
                warnings.warn(f"{skipped.path}: {skipped.reason}: left out", stacklevel=2)
            self.classes_ = _in_model(np.union1d(self.classes_, labels), edit.model)
            self.model_ = edit.model
        for item in duplicates:
            if item.label != item.wanted:
                warnings.warn(f"{item.path}: stays {item.label!r}, as it is known", stacklevel=2)
        return self

    def predict(self, X: Iterable[Photo]) -> npt.NDArray[Any]:
        """Return the likeliest label of each of M photos, (M,); see `is_novel` for novel ones.

        Raises:
            NotFittedError: before `fit`.
            UsageError, FewshotError: a value that is no photo, or cannot be read.
        """
        likeliest = self.predict_proba(X).argmax(axis=1)
        labels: npt.NDArray[Any] = self.classes_[likeliest]
        return labels

    def predict_proba(self, X: Iterable[Photo]) -> npt.NDArray[np.float64]:
        """Return class probabilities (M, K) in the order of `classes_`; errors as `predict`."""
        return self._answers(X)[0]

    def decision_function(self, X: Iterable[Photo]) -> npt.NDArray[np.float64]:
        """Return log probabilities (M, K); for two classes the log odds of the second, (M,)."""
        logits: npt.NDArray[np.float64] = np.log(np.maximum(self.predict_proba(X), 1e-30))
        return logits if logits.shape[1] != 2 else logits[:, 1] - logits[:, 0]

    def is_novel(self, X: Iterable[Photo], reject: float | None = None) -> npt.NDArray[np.bool_]:
        """Return whether each of M photos shows none of the classes, (M,).

        Args:
            X: M photos.
            reject: the share of one's own photos that may be called novel; None for the
                estimator's.
        """
        scores = self._answers(X)[1]
        novel: npt.NDArray[np.bool_] = scores > self.model_.threshold(
            self.reject if reject is None else reject
        )
        return novel

    def score(
        self,
        X: Iterable[Photo],
        y: Iterable[Any],
        sample_weight: npt.ArrayLike | None = None,
    ) -> float:
        """Return the accuracy on M photos with labels `y`.

        Raises:
            InputError: no photos, another number of labels or weights, or weights that are not
                finite numbers from 0 up, of a sum above 0.
            NotFittedError, UsageError, FewshotError: as `predict`.
        """
        sources = _sources(X)
        if not sources:
            raise InputError("X: no photos. Give one or more to score.")
        labels = _labels(y, len(sources))
        weights = None if sample_weight is None else as_weights(sample_weight, len(sources))
        return float(np.average(self.predict(sources) == labels, weights=weights))

    @switches_checked
    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the personal model; `load` and the command line read it.

        Raises:
            NotFittedError: before `fit`.
            UsageError: as `PersonalModel.save`.
        """
        model = self._fitted()
        params = {**self.get_params(), "base": str(self.base)}
        params = {k: v.item() if isinstance(v, np.generic) else v for k, v in params.items()}
        record = {"classes": self.classes_.tolist(), "params": params}
        model.provenance = {**model.provenance, _RECORD: record}
        return model.save(path, force=force)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> Self:
        """Read a file of `save` or `fewshot-lite adapt`.

        Raises:
            UsageError, FewshotError: as `PersonalModel.load`.
        """
        from fewshot_lite.personal.personal_model import PersonalModel

        model = PersonalModel.load(path, device=device)
        record = model.provenance.get(_RECORD)
        record = record if isinstance(record, dict) else {}
        known, params = cls().get_params(), record.get("params")
        kept = {k: v for k, v in params.items() if k in known} if isinstance(params, dict) else {}
        estimator = cls(**{**kept, "device": device})
        names = model.class_names
        labels = record.get("classes")
        if not isinstance(labels, list) or sorted(map(str, labels)) != sorted(names):
            labels = list(names)  # adapted, or classes renamed, on the command line
        estimator.model_, estimator.classes_ = model, _in_model(np.array(labels), model)
        return estimator

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name; `deep` has no effect."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Self:
        """Set parameters, which take effect at the next `fit`.

        Raises:
            ValueError: no parameter of this name.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"{name!r}: no parameter. There are {', '.join(known)}.")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if repr(value) != repr(defaults[name].default)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the parameters of an unfitted estimator, which other processes need.

        Raises:
            UsageError: it is fitted.
        """
        if self.__sklearn_is_fitted__():
            raise UsageError(
                f"A fitted {type(self).__name__} is not pickled, as whoever opens a pickle runs "
                f"what is in it. Use save(path) and {type(self).__name__}.load(path)."
            )
        return dict(vars(self))

    def __sklearn_is_fitted__(self) -> bool:
        return "model_" in vars(self)

    def __sklearn_tags__(self) -> Any:
        """Return the tags of scikit-learn 1.6 and later, which alone calls this."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            transformer_tags=None,
            classifier_tags=ClassifierTags(),
            regressor_tags=None,
            input_tags=InputTags(two_d_array=False, three_d_array=True, string=True),
            no_validation=True,  # photos are checked when they are read
        )

    def _fitted(self) -> PersonalModel:
        if not self.__sklearn_is_fitted__():
            if "sklearn.utils.validation" in sys.modules:  # callers may expect its own error
                sys.modules["sklearn.utils.validation"].check_is_fitted(self)
            raise NotFittedError(f"This {type(self).__name__} is not fitted. Call fit(X, y) first.")
        return self.model_

    def _answers(
        self, X: Iterable[Photo]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return probabilities (M, K) and novelty scores (M,) of photos."""
        model = self._fitted()
        model.careful = self.careful
        sources = _sources(X)
        column = {str(label): k for k, label in enumerate(self.classes_.tolist())}
        probabilities = np.zeros((len(sources), len(column)))
        scores = np.zeros(len(sources))
        frames = FRAMES if self.frames is None else self.frames
        answers = model.classify_stream(sources, top=len(column), reject=None, frames=frames)
        for row, (source, answer) in enumerate(zip(sources, answers, strict=True)):
            if answer.problem is not None or answer.strangeness is None:
                raise FewshotError(f"{source}: {answer.problem}.")
            for name, probability in answer.labels:
                probabilities[row, column[name]] = probability
            scores[row] = answer.strangeness
        return probabilities / probabilities.sum(axis=1, keepdims=True), scores


def _sources(X: Any) -> list[Taken]:
    """Return several photos; an array (N, H, W) is N grey ones, as scikit-learn's digits are.

    Raises:
        InputError: one photo.
    """
    grey = isinstance(X, np.ndarray) and X.ndim == 3 and X.shape[-1] not in (1, 3, 4)
    if (is_photo(X) and not grey) or not isinstance(X, Iterable):
        raise InputError("X: not several photos. Give a list of them, also of one: [photo].")
    return list(as_sources(X, "X"))


def _labels(y: Any, photos: int) -> npt.NDArray[Any]:
    """Return a label for each photo, as an array.

    Raises:
        InputError: none, another number of them, or values that are no labels.
    """
    if y is None:
        raise InputError("y: missing. Give a label for each of the photos.")
    if not isinstance(y, Iterable) and not hasattr(y, "__array__"):
        raise InputError(f"y: {y!r}. Give a label for each of the photos.")
    values = y if hasattr(y, "__array__") else list(y)
    labels = np.asarray(values)
    if labels.shape != (photos,):
        raise InputError(f"y: labels of shape {labels.shape} for {photos} photos.")
    given = values if isinstance(values, list) else labels.tolist()
    for place, value in enumerate(given):
        if not isinstance(value, str) and str(value) in ("None", "nan", "NaT", "<NA>"):
            raise InputError(f"y: y[{place}] is {value}, no label. Leave such photos out.")
    if labels.dtype.kind == "U" and not all(isinstance(v, str) for v in given):  # NumPy makes texts
        raise InputError("y: labels of several types. Give strings, or whole numbers.")
    if labels.dtype.kind not in "iufbUO":
        raise InputError(f"y: labels of type {labels.dtype}. Give strings or whole numbers.")
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.trunc(labels)):
        raise InputError("y: continuous values, not labels. Give strings or whole numbers.")
    try:
        np.unique(labels)
    except TypeError:
        raise InputError("y: labels of several types. Give strings, or whole numbers.") from None
    return labels


def _in_model(labels: npt.NDArray[Any], model: PersonalModel) -> npt.NDArray[Any]:
    """Return the distinct labels that are classes of a model, sorted."""
    every = np.unique(labels)
    return every[[str(label) in model.class_names for label in every.tolist()]]
