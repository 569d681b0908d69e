"""The estimator keeps scikit-learn's conventions, and says what it cannot do with photos."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewshot_lite import FewShotClassifier
from fewshot_lite.core.errors import FewshotError, InputError, UsageError
from fewshot_lite.personal.estimator import NotFittedError
from fewshot_lite.personal.personal_model import PersonalModel
from photos import draw_classes, tiny_model

#: Checks of scikit-learn that are left out, and why.
LEFT_OUT = {
    "check_n_features_in_after_fitting": "photos have no fixed number of features",
    "check_n_features_in": "likewise",
    "check_estimators_partial_fit_n_features": "likewise: photos of any sizes may be mixed",
    "check_fit2d_predict1d": "likewise",
    "check_fit1d": "likewise: the rows made into photos here may be of one number",
    "check_complex_data": "refused, in words of our own",
    "check_estimators_empty_data_messages": "refused, in words of our own",
    "check_estimator_sparse_tag": "a sparse matrix is no photo: refused, in words of our own",
    "check_estimator_sparse_array": "likewise",
    "check_estimator_sparse_matrix": "likewise",
    "check_requires_y_none": "refused, in words of our own",
    "check_supervised_y_no_nan": "refused, in words of our own",
    "check_supervised_y_2d": "a column of labels is refused, not guessed at",
    "check_estimators_pickle": "refused in favour of save and load",
    "check_methods_subset_invariance": "float32: other batches differ by more than its 1e-7",
    "check_classifiers_train": "it hands in rows as lists, which are no photos",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("estimator") / "tiny.safetensors"
    tiny_model().save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_classes(tmp_path_factory.mktemp("photos") / "things", {"keys": 4, "mug": 4, "b": 4})


@pytest.fixture(scope="module")
def X(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


@pytest.fixture(scope="module")
def y(X: list[Path]) -> list[str]:
    return [path.parent.name for path in X]


@pytest.fixture(scope="module")
def fitted(base: Path, X: list[Path], y: list[str]) -> FewShotClassifier:
    return FewShotClassifier(base).fit(X, y)


def test_it_answers_as_the_personal_model_does(
    fitted: FewShotClassifier, base: Path, folder: Path, X: list[Path], y: list[str]
) -> None:
    assert fitted.classes_.tolist() == ["b", "keys", "mug"]
    answers = fitted.model_.classify(X, top=3, reject=None)
    assert fitted.predict(X).tolist() == [answer.label for answer in answers]
    found = fitted.predict_proba(X)
    assert found.shape == (12, 3)
    np.testing.assert_allclose(found.sum(1), 1)
    assert dict(zip(fitted.classes_, found[4], strict=True)) == pytest.approx(
        dict(answers[4].labels)
    )
    assert fitted.score(X, y) == np.mean(fitted.predict(X) == np.array(y))
    assert fitted.score(X, y, sample_weight=[1.0] + [0.0] * 11) == float(
        fitted.predict(X)[0] == y[0]
    )
    of_folder = FewShotClassifier(base).fit(folder)
    np.testing.assert_allclose(of_folder.predict_proba(X), found, atol=1e-5)


def test_a_score_needs_a_label_and_a_weight_for_each_photo(
    fitted: FewShotClassifier, X: list[Path], y: list[str]
) -> None:
    with pytest.raises(InputError, match=r"^X: no photos"):
        fitted.score([], [])
    bad: list[Any] = [[1.0, 2.0], [0.0] * 12, [float("nan")] * 12, [float("inf")] + [1.0] * 11]
    bad += [
        "heavy",
        ["1"] * 12,
        [None] * 12,
        [-1.0] + [1.0] * 11,
        [[1.0] * 12],
        [[1.0], [1.0, 2.0]],
    ]
    bad += [{1.0}, 3.0, [1j] * 12, [1e308] * 12, np.array(["1"] * 12, object), [True, "1"] * 6]
    for weights in bad:
        with pytest.raises(InputError, match=r"^sample_weight: give 12 finite numbers"):
            fitted.score(X, y, sample_weight=weights)
    with pytest.raises(InputError, match=r"^y: 3. Give a label for each"):
        fitted.score(X, 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^y: labels of several types"):
        FewShotClassifier().fit(X, [1, "1"] * 6)


def test_decisions_are_logits_and_of_two_classes_one(
    fitted: FewShotClassifier, base: Path, X: list[Path], y: list[str]
) -> None:
    np.testing.assert_allclose(np.exp(fitted.decision_function(X)), fitted.predict_proba(X))
    two = FewShotClassifier(base).fit(X[:8], y[:8])
    assert two.decision_function(X).shape == (12,)
    assert ((two.decision_function(X) > 0) == (two.predict(X) == two.classes_[1])).all()


def test_novel_photos_are_those_that_classify_calls_unknown(
    fitted: FewShotClassifier, X: list[Path]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
    for reject in (0.05, 0.3):
        found = fitted.is_novel([*X, *noise], reject)
        expected = [
            answer.unknown for answer in fitted.model_.classify([*X, *noise], reject=reject)
        ]
        assert found.tolist() == expected
    assert fitted.set_params(reject=0.3).is_novel(noise).tolist() == found[-3:].tolist()
    fitted.set_params(reject=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        lambda y: np.array([{"b": 30, "keys": 4, "mug": 100}[label] for label in y]),
        lambda y: torch.tensor([{"b": 30, "keys": 4, "mug": 100}[label] for label in y]),
        lambda y: np.array([label == "mug" for label in y]),
        lambda y: np.array(y, dtype=object),
        tuple,
    ],
)
def test_labels_of_any_kind_come_back_as_they_were(
    base: Path, X: list[Path], y: list[str], kind: Callable[[list[str]], Any], tmp_path: Path
) -> None:
    labels = kind(y)
    expected = np.unique(np.asarray(labels))
    fitted = FewShotClassifier(base).fit(X, labels)
    assert fitted.classes_.tolist() == expected.tolist()
    assert set(fitted.predict(X).tolist()) <= set(expected.tolist())
    again = FewShotClassifier.load(fitted.save(tmp_path / "mine.safetensors"))
    assert again.classes_.tolist() == expected.tolist()
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))


def test_saved_it_is_a_personal_model_and_knows_its_parameters(
    fitted: FewShotClassifier, X: list[Path], tmp_path: Path
) -> None:
    path = fitted.save(tmp_path / "mine.safetensors")
    with pytest.raises(UsageError, match="exists already"):
        fitted.save(path)
    model = PersonalModel.load(path)
    assert model.classify(X) == fitted.model_.classify(X)
    again = FewShotClassifier.load(path)
    assert again.get_params() == fitted.get_params() | {"base": str(fitted.base)}
    from fewshot_lite.personal.editing import rename

    rename(model, "mug", "cup").model.save(path, force=True)
    renamed = FewShotClassifier.load(path)
    assert renamed.classes_.tolist() == ["b", "cup", "keys"]
    assert (renamed.predict(X) == "cup").tolist() == (fitted.predict(X) == "mug").tolist()


def test_photos_and_classes_can_be_added(base: Path, X: list[Path], y: list[str]) -> None:
    found = FewShotClassifier(base).partial_fit(X[:6], y[:6]).partial_fit(X[6:], y[6:])
    assert found.classes_.tolist() == ["b", "keys", "mug"]
    assert found.model_.shots == {"b": 4, "keys": 4, "mug": 4}
    before = found.model_
    assert found.partial_fit(X[:2], y[:2]).model_ is before  # nothing new
    other = "keys" if y[0] == "mug" else "mug"
    with pytest.warns(UserWarning, match=rf"^{X[0]}: stays '{y[0]}'"):
        assert found.partial_fit(X[:1], [other]).model_ is before
    with pytest.raises(ValueError, match="labels of type int"):
        found.partial_fit(X, [1] * 12)


def test_photos_that_cannot_be_read_are_left_out_with_a_warning(
    base: Path, X: list[Path], y: list[str]
) -> None:
    with pytest.warns(UserWarning, match=r"^X\[12\]: not an image, or badly damaged: left out$"):
        fitted = FewShotClassifier(base).fit([*X, b"text"], [*y, "mug"])
    with pytest.warns(UserWarning, match=r"^X\[0\]: not an image"):
        fitted.partial_fit([b"text", np.zeros((9, 9))], ["mug", "dark"])
    assert fitted.classes_.tolist() == ["b", "dark", "keys", "mug"]
    with pytest.raises(FewshotError, match=r"^X\[1\]: not an image"):
        fitted.predict([X[0], b"text"])
    with pytest.raises(FewshotError, match=r"nowhere\.jpg: no such file"):
        fitted.score(["nowhere.jpg"], ["mug"])


@pytest.mark.parametrize(
    ("photos", "labels", "message"),
    [
        ([np.zeros((9, 9))] * 2, None, "y: missing"),
        ([np.zeros((9, 9))] * 2, ["a"], r"y: labels of shape \(1,\) for 2 photos"),
        ([np.zeros((9, 9))] * 2, ["a", "a"], "y: one class only in 2 photos"),
        ([np.zeros((9, 9))] * 2, [0.5, 1.0], "y: continuous values"),
        ([np.zeros((9, 9))] * 2, [1j, 2j], "y: labels of type complex"),
        ([np.zeros((9, 9))] * 2, ["a", None], r"y: y\[1\] is None"),
        ([np.zeros((9, 9))] * 2, ["a", float("nan")], r"y: y\[1\] is nan"),
        ([np.zeros((9, 9))] * 2, np.array(["a", 1], object), "y: labels of several types"),
        ([], [], "y: one class only in 0 photos"),
        (np.zeros((9, 9)), ["a"] * 9, "X: not several photos"),
        (3, ["a"], "X: not several photos"),
        ([3, 4], ["a", "b"], r"X\[0\]: int is no photo"),
        ("things", ["a"], "y: must be left out with a folder"),
    ],
)
def test_what_does_not_fit_is_a_value_error_that_names_the_argument(
    base: Path, photos: Any, labels: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        FewShotClassifier(base).fit(photos, labels)
    assert isinstance(raised.value, UsageError)


@pytest.mark.parametrize("value", ["no", "", 0, 1, [], np.ones(2)])
@pytest.mark.slow
def test_switches_are_true_or_false(
    fitted: FewShotClassifier, base: Path, X: list[Path], y: list[str], value: Any
) -> None:
    for name in ("careful", "mirror", "refine"):
        with pytest.raises(InputError, match=rf"^{name}: .* is not True, False or |or False"):
            FewShotClassifier(base).set_params(**{name: value}).fit(X, y)
    fitted.set_params(careful=value)
    try:
        for asked in (fitted.predict, fitted.predict_proba, fitted.is_novel):
            with pytest.raises(InputError, match=r"^careful: .* is not True or False"):
                asked(X)
    finally:
        fitted.set_params(careful=False)


def test_switches_may_be_numpys(base: Path, X: list[Path], y: list[str], tmp_path: Path) -> None:
    yes: Any = np.True_
    classifier = FewShotClassifier(base, careful=yes, mirror=yes).fit(X, y)
    classifier.save(tmp_path / "m.safetensors")
    assert FewShotClassifier.load(tmp_path / "m.safetensors").get_params()["careful"] is True


def test_grey_photos_in_one_array(fitted: FewShotClassifier) -> None:
    photos = np.random.default_rng(0).integers(0, 256, (5, 40, 40), np.uint8)
    assert (fitted.predict_proba(photos) == fitted.predict_proba(list(photos))).all()


def test_before_it_is_fitted_it_says_so(fitted: FewShotClassifier) -> None:
    new = FewShotClassifier()
    calls: list[Callable[[], Any]] = [
        lambda: new.predict([]),
        lambda: new.is_novel([]),
        lambda: new.save("x.safetensors"),
    ]
    for call in calls:
        with pytest.raises((NotFittedError, ValueError), match="not fitted"):
            call()
    assert fitted.predict_proba([]).shape == (0, 3)


def test_parameters(base: Path) -> None:
    new = FewShotClassifier(base, refine="auto")
    assert new.get_params()["refine"] == "auto"
    assert repr(new) == f"FewShotClassifier(base={base!r}, refine='auto')"
    assert repr(FewShotClassifier()) == "FewShotClassifier()"
    assert new.set_params(reject=0.1) is new
    with pytest.raises(ValueError, match=r"'colour': no parameter\. There are base, refine"):
        new.set_params(colour=1)
    with pytest.raises(ValueError, match="--head: 'other' is none of 'default', 'auto'"):
        FewShotClassifier(base, head="other").fit([np.zeros((9, 9))] * 2, ["a", "b"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="refine: 'perhaps' is not True, False or 'auto'"):
        new.set_params(refine="perhaps").fit([np.zeros((9, 9))] * 2, ["a", "b"])


def test_pickles_are_refused_once_it_is_fitted(fitted: FewShotClassifier) -> None:
    for refused in (pickle.dumps, copy.deepcopy):
        with pytest.raises(UsageError, match=r"not pickled.*save\(path\) and Few"):
            refused(fitted)
    new = FewShotClassifier("other", head="ridge")
    assert pickle.loads(pickle.dumps(new)).get_params() == new.get_params()


def test_neither_torch_nor_scikit_learn_is_imported_before_it_is_needed() -> None:
    program = (
        "import sys, fewshot_lite; repr(fewshot_lite.FewShotClassifier()); "
        "assert not {'torch', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


@pytest.mark.slow
def test_scikit_learn_clones_validates_and_searches(
    base: Path, X: list[Path], y: list[str], fitted: FewShotClassifier
) -> None:
    pytest.importorskip("sklearn")
    from sklearn.base import clone, is_classifier
    from sklearn.exceptions import NotFittedError as TheirNotFittedError
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import Pipeline

    assert is_classifier(fitted)
    copy_of = clone(fitted)
    assert copy_of.get_params() == fitted.get_params()
    with pytest.raises(TheirNotFittedError):
        copy_of.predict(X)
    scores = cross_val_score(FewShotClassifier(base), X, y, cv=2)
    assert scores.shape == (2,)
    assert ((scores >= 0) & (scores <= 1)).all()
    pipeline = Pipeline([("classify", FewShotClassifier(base))]).fit(X, y)
    assert pipeline.score(X, y) == fitted.score(X, y)
    search = GridSearchCV(pipeline, {"classify__head": ["default", "cosine"]}, cv=2).fit(X, y)
    assert search.predict(X).shape == (12,)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks_hold_but_for_those_left_out(base: Path) -> None:
    pytest.importorskip("sklearn")
    from unittest import SkipTest

    from sklearn.utils.estimator_checks import estimator_checks_generator

    failed, number = {}, 0
    for estimator, check in estimator_checks_generator(_OfRows(str(base))):
        name = getattr(check, "func", check).__name__
        number += 1
        try:
            check(estimator)
        except SkipTest:
            pass
        except Exception as error:
            failed[name] = error
    assert number > 45
    assert set(failed) <= set(LEFT_OUT), failed


class _OfRows(FewShotClassifier):
    """For checks that hand in tables: a row is made into a photo of grey stripes."""

    def __init__(self, base: str = "default") -> None:
        super().__init__(base)

    @staticmethod
    def _photos(X: Any) -> Any:
        if isinstance(X, list):  # made into photos already
            return X
        rows = np.asarray(X, dtype=float)
        grey = np.where(np.isfinite(rows), 1 / (1 + np.exp(-np.clip(rows, -30, 30))), rows)
        return [np.tile(row.repeat(4), (16, 1)) for row in grey]

    def fit(self, X: Any, y: Any = None) -> _OfRows:
        return super().fit(self._photos(X), y)

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> _OfRows:
        return super().partial_fit(self._photos(X), y, classes)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        return super().score(self._photos(X), y, sample_weight)

    def _answers(self, X: Any) -> Any:
        return super()._answers(self._photos(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = True, False
        tags.input_tags.string = tags.no_validation = False
        return tags
