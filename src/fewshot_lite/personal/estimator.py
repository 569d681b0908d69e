"""The estimator for scikit-learn's users: photos and labels in, `fit` and `predict`.

    classifier = FewShotClassifier().fit(photos, labels)
    classifier.predict(others)

It keeps scikit-learn's conventions (`clone`, pipelines and cross-validation take it) and does not
import it. Each `fit` opens the base anew; what it makes is a `PersonalModel`, `model_`.
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

from fewshot_lite.core.config import HeadName
from fewshot_lite.core.errors import FewshotError, InputError, UsageError
from fewshot_lite.core.files import DEFAULT_BASE
from fewshot_lite.images.inputs import Photo, Taken, as_sources, is_photo
from fewshot_lite.images.videos import FRAMES

if TYPE_CHECKING:
    from fewshot_lite.personal.personal_model import PersonalModel

#: The entry of a model's record that tells the labels and parameters of an estimator.
_RECORD = "estimator"


class NotFittedError(InputError, AttributeError):
    """An estimator was asked before it was fitted; of scikit-learn's error's own bases."""


class FewShotClassifier:
    """Learns classes from a few photos each, in one forward pass."""

    _estimator_type = "classifier"  # what scikit-learn before 1.6 goes by

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
        """Nothing is read or checked before `fit`.

        Args:
            base: what `MetaModel.load` takes.
            refine: whether to take gradient steps from the one-pass solution, which takes longer;
                "auto" takes them if photos left out are named better after them.
            head: as `MetaModel.adapt` takes it.
            views: as `MetaModel.adapt` takes it.
            mirror: as `MetaModel.adapt` takes it.
            frames: that are drawn of each video among the photos, as `MetaModel.adapt` takes it.
            careful: answer by the mean over views of a photo, which takes three times as long.
            reject: the share of one's own photos that `is_novel` may take for something else.
            device: where to.
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
        """Adapt the base to photos.

        Args:
            X: N photos in any forms and sizes (`images.inputs.Photo`); or a folder with one folder
                of photos per class, whose names are the labels.
            y: N labels, strings or numbers; none with a folder.

        Raises:
            UsageError, FewshotError: as `MetaModel.adapt`. Photos that cannot be read are left out
                with a warning.
        """
        from fewshot_lite.personal.meta_model import MetaModel

        if self.refine not in (True, False, "auto"):
            raise InputError(f"refine: {self.refine!r} is not True, False or 'auto'.")
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
            refine="auto" if self.refine == "auto" else "on" if self.refine else "off",
        )
        assert model.adaptation is not None
        for skipped in model.adaptation.skipped:
            warnings.warn(f"{skipped.path}: {skipped.reason}: left out", stacklevel=2)
        self.model_ = model
        self.classes_ = _known(np.array(model.class_names) if labels is None else labels, model)
        return self

    def partial_fit(
        self,
        X: Iterable[Photo],
        y: Iterable[Any],
        classes: Iterable[Any] | None = None,
    ) -> Self:
        """Add photos, of classes that there are and of new ones; the first time, as `fit`.

        The network stays as `fit` made it: the head is fitted anew on all photos. Photos that the
        model has already are left out, with a warning if they have another label in it.

        Args:
            X: N photos, as for `fit`.
            y: N labels.
            classes: ignored; a class begins with its first photo.

        Raises:
            UsageError, FewshotError: as `personal.editing.add`.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X, y)
        from fewshot_lite.personal.editing import NothingNew, add

        sources = _sources(X)
        labels = _labels(y, len(sources))
        numbers = "iuf"
        if (labels.dtype.kind in numbers) != (self.classes_.dtype.kind in numbers):
            raise InputError(
                f"y: labels of type {labels.dtype}, but those of `fit` are {self.classes_.dtype}."
            )
        try:
            edit = add(self.model_, sources, labels=labels.tolist(), frames=self.frames)
        except NothingNew as nothing:
            found = nothing.duplicates
        else:
            found = edit.duplicates
            for skipped in edit.skipped:
                warnings.warn(f"{skipped.path}: {skipped.reason}: left out", stacklevel=2)
            self.classes_ = _known(np.union1d(self.classes_, labels), edit.model)
            self.model_ = edit.model
        for item in found:
            if item.label != item.wanted:
                warnings.warn(f"{item.path}: stays {item.label!r}, as it is known", stacklevel=2)
        return self

    def predict(self, X: Iterable[Photo]) -> npt.NDArray[Any]:
        """The likeliest label of each of M photos, (M,); see `is_novel` for photos of none.

        Raises:
            NotFittedError: before `fit`.
            UsageError, FewshotError: what is no photo, or cannot be read.
        """
        likeliest = self.predict_proba(X).argmax(axis=1)
        labels: npt.NDArray[Any] = self.classes_[likeliest]
        return labels

    def predict_proba(self, X: Iterable[Photo]) -> npt.NDArray[np.float64]:
        """Probabilities among the classes, (M, K) in the order of `classes_`; as `predict`."""
        return self._answers(X)[0]

    def decision_function(self, X: Iterable[Photo]) -> npt.NDArray[np.float64]:
        """Logits: log probabilities (M, K); of two classes the log odds of the second, (M,)."""
        logits: npt.NDArray[np.float64] = np.log(np.maximum(self.predict_proba(X), 1e-30))
        return logits if logits.shape[1] != 2 else logits[:, 1] - logits[:, 0]

    def is_novel(self, X: Iterable[Photo], reject: float | None = None) -> npt.NDArray[np.bool_]:
        """Whether each photo shows none of the classes, (M,).

        Args:
            X: M photos.
            reject: the share of one's own photos that may be taken for something else; that of the
                estimator unless given.
        """
        strangeness = self._answers(X)[1]
        limit = self.model_.threshold(self.reject if reject is None else reject)
        novel: npt.NDArray[np.bool_] = strangeness > limit
        return novel

    def score(
        self,
        X: Iterable[Photo],
        y: Iterable[Any],
        sample_weight: npt.ArrayLike | None = None,
    ) -> float:
        """The accuracy: the share of M photos that are named as `y` has it."""
        sources = _sources(X)
        right = self.predict(sources) == _labels(y, len(sources))
        weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        return float(np.average(right, weights=weights))

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the personal model, which the command line takes, too; `load` reads it again.

        Raises:
            NotFittedError: before `fit`.
            UsageError: as `PersonalModel.save`.
        """
        model = self._fitted()
        params = {**self.get_params(), "base": str(self.base)}
        record = {"classes": self.classes_.tolist(), "params": params}
        model.provenance = {**model.provenance, _RECORD: record}
        return model.save(path, force=force)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> Self:
        """Read what `save` or `fewshot-lite adapt` wrote.

        Raises:
            UsageError, FewshotError: as `PersonalModel.load`.
        """
        from fewshot_lite.personal.personal_model import PersonalModel

        model = PersonalModel.load(path, device=device)
        record = model.provenance.get(_RECORD)
        record = record if isinstance(record, dict) else {}
        known, params = cls().get_params(), record.get("params")
        kept = {k: v for k, v in params.items() if k in known} if isinstance(params, dict) else {}
        found = cls(**{**kept, "device": device})
        names = model.class_names
        labels = record.get("classes")
        if not isinstance(labels, list) or sorted(map(str, labels)) != sorted(names):
            labels = list(names)  # the shell's own, or renamed there
        found.model_, found.classes_ = model, _known(np.array(labels), model)
        return found

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the estimator by name; `deep` changes nothing."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Self:
        """Change arguments; they count from the next `fit` on.

        Raises:
            ValueError: there is none of this name.
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
        """An estimator that is not fitted is a few parameters, which other processes need.

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
        """The tags that scikit-learn from 1.6 on goes by; it alone calls this."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            transformer_tags=None,
            classifier_tags=ClassifierTags(),
            regressor_tags=None,
            input_tags=InputTags(two_d_array=False, three_d_array=True, string=True),
            no_validation=True,  # photos are checked by what reads them
        )

    def _fitted(self) -> PersonalModel:
        if not self.__sklearn_is_fitted__():
            if "sklearn.utils.validation" in sys.modules:  # whose own error is waited for
                sys.modules["sklearn.utils.validation"].check_is_fitted(self)
            raise NotFittedError(f"This {type(self).__name__} is not fitted. Call fit(X, y) first.")
        return self.model_

    def _answers(
        self, X: Iterable[Photo]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Probabilities (M, K) and strangeness (M,) of photos."""
        model = self._fitted()
        model.careful = self.careful
        sources = _sources(X)
        column = {str(label): k for k, label in enumerate(self.classes_.tolist())}
        probabilities = np.zeros((len(sources), len(column)))
        strangeness = np.zeros(len(sources))
        frames = FRAMES if self.frames is None else self.frames
        answers = model.classify_stream(sources, top=len(column), reject=None, frames=frames)
        for row, (source, answer) in enumerate(zip(sources, answers, strict=True)):
            if answer.problem is not None or answer.strangeness is None:
                raise FewshotError(f"{source}: {answer.problem}.")
            for name, probability in answer.labels:
                probabilities[row, column[name]] = probability
            strangeness[row] = answer.strangeness
        return probabilities / probabilities.sum(axis=1, keepdims=True), strangeness


def _sources(X: Any) -> list[Taken]:
    """Several photos; an array (N, H, W) is N grey ones, as scikit-learn's digits are.

    Raises:
        InputError: one.
    """
    grey = isinstance(X, np.ndarray) and X.ndim == 3 and X.shape[-1] not in (1, 3, 4)
    if (is_photo(X) and not grey) or not isinstance(X, Iterable):
        raise InputError("X: not several photos. Give a list of them, also of one: [photo].")
    return list(as_sources(X, "X"))


def _labels(y: Any, photos: int) -> npt.NDArray[Any]:
    """As many labels as photos.

    Raises:
        InputError: none or another number, or of a kind that is none.
    """
    if y is None:
        raise InputError("y: missing. Give a label for each of the photos.")
    given = y if hasattr(y, "__array__") else list(y)
    labels = np.asarray(given)
    if labels.shape != (photos,):
        raise InputError(f"y: labels of shape {labels.shape} for {photos} photos.")
    for place, value in enumerate(given if isinstance(given, list) else labels.tolist()):
        if not isinstance(value, str) and str(value) in ("None", "nan", "NaT", "<NA>"):
            raise InputError(f"y: y[{place}] is {value}, no label. Leave such photos out.")
    if labels.dtype.kind not in "iufbUO":
        raise InputError(f"y: labels of type {labels.dtype}. Give strings or whole numbers.")
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.trunc(labels)):
        raise InputError("y: continuous values, not labels. Give strings or whole numbers.")
    try:
        np.unique(labels)
    except TypeError:
        raise InputError("y: labels of several types. Give strings, or whole numbers.") from None
    return labels


def _known(labels: npt.NDArray[Any], model: PersonalModel) -> npt.NDArray[Any]:
    """The labels that are classes of a model, sorted, each once."""
    every = np.unique(labels)
    return every[[str(label) in model.class_names for label in every.tolist()]]
