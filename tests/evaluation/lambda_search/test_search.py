"""The search: what is chosen, what the front is, and the way a greedy search takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.evaluation.cost import MacMeter
from fewshot_lite.evaluation.lambda_search import search as module
from fewshot_lite.evaluation.lambda_search.measuring import Measured, Subject, open_subject
from fewshot_lite.evaluation.lambda_search.options import SearchOptions, parse_searched
from fewshot_lite.evaluation.lambda_search.result import Search, store
from fewshot_lite.evaluation.lambda_search.search import _greedy, all_patterns, search_patterns
from fewshot_lite.evaluation.methods import LearnerMethod, RefinedMethod
from fewshot_lite.evaluation.names import ModelName
from fewshot_lite.evaluation.opening import Session, open_models
from fewshot_lite.heads.registry import NAMED_HEADS
from fewshot_lite.learners import Frozen, SimpleCnaps
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.maml import FirstOrderMaml
from fewshot_lite.maml.refined import Refinement
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.personal.meta_model import MetaModel
from photos import classes, draw_classes

SIZE = 16
QUICK = SearchOptions(way=2, shots=1, queries=1, tasks=2, inner_steps=1)


def measured(pattern: str, accuracy: float, ratio: float) -> Measured:
    """Two tasks around this accuracy, and this share of the full pattern's time."""
    times = (100 * ratio, 300 * ratio)
    return Measured(pattern, (accuracy + 0.1, accuracy - 0.1), times, (100.0, 300.0), 1e6)


def found(*patterns: Measured, max_drop: float = 0.01) -> Search:
    options = SearchOptions(max_drop=max_drop)
    return Search("m", ("a", "b"), 5, 5, options, ("data",), patterns, False, True)


FULL, LOW = measured("11", 0.9, 1.0), measured("10", 0.85, 0.9)
HEAD, NONE = measured("01", 0.893, 0.3), measured("00", 0.7, 0.1)


def test_the_fastest_within_the_allowed_loss_is_chosen() -> None:
    everything = (FULL, LOW, HEAD, NONE)
    assert found(*everything).chosen is HEAD
    assert found(*everything, max_drop=0).chosen is FULL
    assert found(*everything, max_drop=0.2).chosen is NONE
    assert found(*everything, max_drop=1).chosen is NONE


def test_of_equal_times_the_more_accurate_is_chosen() -> None:
    slower = measured("10", 0.95, 0.305)
    assert found(FULL, HEAD, slower).chosen is slower
    assert found(FULL, HEAD, measured("10", 0.95, 0.32)).chosen is HEAD


def test_the_front_holds_what_nothing_beats() -> None:
    assert found(FULL, LOW, HEAD, NONE).front == (NONE, HEAD, FULL)


def test_ratios_are_of_times_on_the_same_task() -> None:
    one = Measured("01", (1.0, 1.0, 1.0), (1.0, 50.0, 2.0), (2.0, 100.0, 40.0), 0.0)
    assert one.ratio == 0.5
    assert one.ms == 2.0


def test_differences_are_paired() -> None:
    difference = HEAD.minus(FULL)
    assert difference.mean == pytest.approx(-0.007)
    assert math.isnan(difference.interval), "the same on each task"
    assert FULL.accuracy.interval == pytest.approx(12.7062 * 0.1, rel=1e-5)  # Student's t, 2 tasks


class FakeBench:
    """Patterns of three layers whose accuracy and time are sums over layers."""

    def __init__(self, worth: Sequence[float], cost: Sequence[float]) -> None:
        self.worth, self.cost, self.rounds = worth, cost, list[list[str]]()

    def measure(
        self, patterns: Sequence[str], full: str, *, on_done: object, stop: Callable[[], bool]
    ) -> tuple[dict[str, Measured], bool]:
        patterns = list(dict.fromkeys([full, *patterns]))
        self.rounds.append(patterns)
        return {p: self._one(p) for p in patterns}, not stop()

    def _one(self, pattern: str) -> Measured:
        on = [int(digit) for digit in pattern]
        accuracy = 0.5 + sum(o * w for o, w in zip(on, self.worth, strict=True))
        ratio = 0.1 + sum(o * c for o, c in zip(on, self.cost, strict=True))
        return measured(pattern, accuracy, ratio)


def greedy(
    bench: FakeBench, *, most: int = 100, head_stays: bool = False, stop: bool = False
) -> tuple[dict[str, Measured], bool]:
    subject = SimpleNamespace(
        layers=("a", "b", "c"), full="111", something_adapts=False, head_stays=head_stays
    )
    return _greedy(cast(Any, bench), cast(Subject, subject), most, lambda *done: None, lambda: stop)


def test_the_greedy_search_drops_what_costs_least_for_its_time() -> None:
    """Layer b costs nothing; then c costs more accuracy than a, but much less for its time."""
    bench = FakeBench(worth=(0.1, 0.0, 0.2), cost=(0.1, 0.2, 0.6))
    patterns, finished = greedy(bench)
    assert finished
    assert bench.rounds == [
        ["111", "011", "101", "110"],
        ["111", "101", "001", "100"],
        ["111", "100", "000"],
    ]
    assert next(iter(patterns)) == "111"
    assert set(patterns) == {"111", "011", "101", "110", "001", "100", "000"}


def test_what_costs_no_accuracy_is_ranked_by_time() -> None:
    """A gain divided by a small saving would come before any other."""
    bench = FakeBench(worth=(-0.1, 0.0, 0.2), cost=(0.001, 0.5, 0.2))
    greedy(bench)
    assert bench.rounds[1][1] == "101"


def test_the_greedy_search_measures_no_more_than_it_may() -> None:
    bench = FakeBench(worth=(0.1, 0.0, 0.2), cost=(0.1, 0.2, 0.6))
    assert len(greedy(bench, most=5)[0]) == 5
    assert len(greedy(bench, most=2)[0]) == 2


def test_a_head_that_starts_at_zero_is_always_updated() -> None:
    bench = FakeBench(worth=(0.1, 0.0, 0.2), cost=(0.1, 0.2, 0.6))
    patterns, _ = greedy(bench, head_stays=True)
    assert set(patterns) == {"111", "011", "101", "001"}
    given = {"something_adapts": False, "head_stays": True, "nested": False, "fixed": 0}
    subject = cast(Subject, SimpleNamespace(layers=("a", "b", "head"), **given))
    assert all_patterns(subject) == ["111", "101", "011", "001"]


def test_what_no_pattern_can_update_is_in_none() -> None:
    given = {"something_adapts": True, "head_stays": False, "nested": False, "fixed": 1}
    subject = cast(Subject, SimpleNamespace(layers=("a", "b", "head"), **given))
    assert all_patterns(subject) == ["011", "010", "001"]
    learner = FirstOrderMaml(Backbone("conv4", SIZE).eval(), film_stages=1)
    method = LearnerMethod("film", learner, SIZE, Passes())
    assert Subject(method, None).full == "00011"


def test_a_stopped_round_counts_only_if_it_is_the_first() -> None:
    bench = FakeBench(worth=(0.1, 0.0, 0.2), cost=(0.1, 0.2, 0.6))
    patterns, finished = greedy(bench, stop=True)
    assert not finished
    assert set(patterns) == {"111", "011", "101", "110"}


def make_model(way: int | None = None) -> MetaModel:
    torch.manual_seed(0)
    learner = FirstOrderMaml(
        Backbone("conv4", SIZE).eval(),
        inner_steps=2,
        inner_head="learned" if way else "means",
        way=way,
        statistics="support",
    )
    return MetaModel(learner, SIZE)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("lambda")
    make_model().save(home / "model.safetensors")
    make_model(2).save(home / "fixed.safetensors")
    draw_classes(home / "data", classes(3, photos=4))
    return home


def name(path: Path | str) -> ModelName:
    return parse_searched(str(path))


@pytest.mark.slow
def test_patterns_are_measured_chosen_and_stored(home: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int, int]] = []
    search = search_patterns(
        home / "model.safetensors",
        home / "data",
        SearchOptions(1.0, 2, 1, 1, 1, inner_steps=1),
        device="cpu",
        on_done=lambda *call: calls.append(call),
    )
    assert search.finished
    assert not search.greedy
    assert len(search.measured) == 2**5
    assert search.full.pattern == "11111"
    assert calls[-1] == (1, 32 * 2, 32 * 2)
    macs = {m.pattern: m.macs for m in search.measured}
    assert macs["11111"] > macs["10000"] > macs["01111"] > macs["00001"] >= macs["00000"]

    path = tmp_path / "new.safetensors"
    store(search, path)
    model = MetaModel.load(path)
    assert isinstance(model.learner, GradientLearner)
    assert str(model.learner.pattern) == search.chosen.pattern
    assert model.learner.inner_steps == 1
    assert model.record["lambda_search"]["chosen"]["pattern"] == search.chosen.pattern
    assert model.adapt(home / "data").class_names == ("thing 0", "thing 1", "thing 2")


def test_storing_a_pattern_leaves_every_tensor_as_it_was_stored(tmp_path: Path) -> None:
    base, new = tmp_path / "base.safetensors", tmp_path / "new.safetensors"
    backbone = Backbone("conv4", SIZE, seed=1).eval()
    MetaModel(Frozen(backbone, head=NAMED_HEADS["mahalanobis-root"]()), SIZE).save(base, half=True)
    search = replace(found(FULL, HEAD), model=f"refine:{base}")
    store(search, new)
    before, after = load_file(base), load_file(new)
    assert {value.dtype for value in before.values()} >= {torch.float16, torch.float32}
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert after[key].dtype == value.dtype, key
        assert torch.equal(after[key], value), key
    assert MetaModel.load(new).refinement().pattern == HEAD.pattern


@pytest.mark.slow
def test_refinement_is_searched_from_the_top_and_what_is_stored_moves(
    home: Path, tmp_path: Path
) -> None:
    """Its time is that of the lowest stage that moves, so no other patterns are tried."""
    path = tmp_path / "frozen.safetensors"
    backbone = Backbone("conv4", SIZE, seed=1).eval()
    MetaModel(Frozen(backbone, head=NAMED_HEADS["mahalanobis-root"]()), SIZE).save(path)
    options = SearchOptions(1.0, 2, 1, 1, 2, inner_steps=3)
    search = search_patterns(f"refine:{path}", home / "data", options, device="cpu")
    assert [m.pattern for m in search.measured] == ["11111", "01111", "00111", "00011"]
    assert search.inner_steps == 3
    macs = [m.macs for m in search.measured]
    assert macs == sorted(macs, reverse=True)
    assert len(set(macs)) == 4
    new = tmp_path / "new.safetensors"
    store(search, new)
    model = MetaModel.load(new)
    assert model.refinement().pattern == search.chosen.pattern
    (opened,) = open_models([name(f"refine:{new}")], Session(device="cpu"))
    assert isinstance(opened.method, RefinedMethod)
    assert opened.method.settings.pattern == search.chosen.pattern
    assert opened.method.settings.steps == Refinement().steps


def test_stages_that_the_base_computes_once_are_never_searched() -> None:
    learner = SimpleCnaps(Backbone("resnet18", 32, seed=1), film_stages=2).requires_grad_(False)
    subject = Subject(RefinedMethod("refine", learner, 32, Passes()), 1)
    assert subject.full == "000111"
    assert all_patterns(subject) == ["000111", "000011"]


def test_accuracies_are_those_of_the_learner_with_the_pattern(home: Path) -> None:
    subject = open_subject(name(home / "model.safetensors"), None, "cpu")
    images = torch.randint(0, 256, (6, 3, SIZE, SIZE), dtype=torch.uint8)
    labels = torch.arange(6) % 2
    learner = MetaModel.load(home / "model.safetensors").learner
    assert isinstance(learner, GradientLearner)
    for pattern in ("10100", "00001", "11111"):
        learner.set_pattern(pattern)
        expected = learner.adapt(images, labels, 2).logits(images)
        found = subject.under(pattern).adapt(images, labels, 2)(images)
        torch.testing.assert_close(found, expected)


def test_products_are_counted_backward_too() -> None:
    layer = torch.nn.Linear(4, 5, bias=False)
    with MacMeter() as meter:
        layer(torch.rand(3, 4, requires_grad=True)).sum().backward()
    assert meter.macs == 3 * (3 * 4 * 5)
    with MacMeter() as meter, torch.no_grad():
        torch.func.grad(lambda w: (torch.rand(3, 4) @ w).sum())(torch.rand(4, 5))
    assert meter.macs == 2 * (3 * 4 * 5)


@pytest.mark.slow
def test_a_search_that_is_stopped_keeps_whole_tasks(home: Path) -> None:
    done: list[int] = []
    search = search_patterns(
        home / "model.safetensors",
        home / "data",
        QUICK,
        on_done=lambda turn, trials, total: done.append(trials),
        stop=lambda: len(done) > 32 + 32 + 5,
    )
    assert not search.finished
    assert {len(m.accuracies) for m in search.measured} == {1}
    with pytest.raises(ValueError, match="interrupted"):
        store(search, home / "never.safetensors")
    with pytest.raises(KeyboardInterrupt):
        search_patterns(home / "model.safetensors", home / "data", QUICK, stop=lambda: True)


def test_many_layers_are_searched_greedily(home: Path) -> None:
    options = SearchOptions(0.01, 2, 1, 1, 1, inner_steps=1, max_patterns=7)
    search = search_patterns(home / "model.safetensors", home / "data", options)
    assert search.greedy
    assert len(search.measured) == 7


def test_a_pattern_that_diverges_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = open_subject(name(home / "model.safetensors"), None, "cpu")
    cast(Any, subject._method).learner.inner_lr = 1e30
    monkeypatch.setattr(module, "open_subject", lambda *arguments: subject)
    with pytest.raises(FewshotError, match=r"Pattern 11111: .*diverged"):
        search_patterns(home / "model.safetensors", home / "data", QUICK)


def test_a_head_for_another_way_is_refused(home: Path) -> None:
    fixed = home / "fixed.safetensors"
    patterns = all_patterns(open_subject(name(fixed), 1, "cpu"))
    assert patterns is not None
    assert len(patterns) == 31  # it knows no classes without adapting something
    assert "00000" not in patterns
    with pytest.raises(UsageError, match=r"--way 3: the head of .* learned for 2 classes"):
        search_patterns(fixed, [home / "data"], SearchOptions(way=3))
    options = SearchOptions(shots=1, queries=1, tasks=1, max_patterns=2)
    assert search_patterns(fixed, [home / "data"], options).way == 2


def test_too_few_classes_are_named(home: Path) -> None:
    with pytest.raises(
        FewshotError, match=r"data: has 3 classes, too few for 5-way .* lower --way"
    ):
        search_patterns(home / "model.safetensors", home / "data", SearchOptions())


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_a_loss_that_cannot_be_allowed_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match=r"--max-drop .*must be at least 0 and at most 1"):
        SearchOptions(max_drop=value).check()
