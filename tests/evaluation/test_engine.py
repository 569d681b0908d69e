"""Runs: the same numbers whatever the micro-batch, the order of models and interruptions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.evaluation.caches import BoundedCache, FeatureCache, ImageCache
from fewshot_lite.evaluation.engine import COSTED, run
from fewshot_lite.evaluation.finetuning import FineTuning
from fewshot_lite.evaluation.log import TaskLog
from fewshot_lite.evaluation.methods import FrozenMethod, Method
from fewshot_lite.evaluation.names import BASELINES, ModelName
from fewshot_lite.evaluation.opening import Session, _Opener
from fewshot_lite.evaluation.protocols.base import EvaluationTask
from fewshot_lite.evaluation.protocols.folders import FolderProtocol
from fewshot_lite.evaluation.protocols.options import ProtocolOptions, Span
from fewshot_lite.evaluation.scores import TaskRecord
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.images.photo import Source
from fewshot_lite.personal.meta_model import MetaModel
from photos import classes, draw_classes, tiny_model

pytestmark = pytest.mark.slow  # seconds each, through the whole command

NAMES = ("default", *BASELINES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_classes(tmp_path_factory.mktemp("data"), classes(4, photos=5))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    tiny_model().save(path)
    return path


def make_protocol(folder: Path, tasks: int) -> FolderProtocol:
    options = ProtocolOptions(ways=(Span(3, 3),), shots=(Span(2, 2),), queries=2, tasks=tasks)
    return FolderProtocol([scan_classes(folder)], options)


@pytest.fixture
def protocol(folder: Path) -> FolderProtocol:
    return make_protocol(folder, 6)


def methods(model: Path, *names: str, micro_batch: int = 64) -> list[Method]:
    settings = Session(
        device="cpu",
        precision="float32",
        micro_batch=micro_batch,
        fine_tuning=FineTuning(steps=2, lr=0.01),
    )
    opener = _Opener(settings)
    return [
        opener.open(ModelName(n, None if n == "default" else n, str(model))).method for n in names
    ]


def scored(found: list[Method], protocol: FolderProtocol) -> dict[int, TaskRecord]:
    with TaskLog(None, {}) as log:
        assert run(found, protocol, log, ImageCache())
    return without_costs(log.records)


def without_costs(records: dict[int, TaskRecord]) -> dict[int, TaskRecord]:
    return {
        number: replace(r, scores={n: replace(s, cost=None) for n, s in sorted(r.scores.items())})
        for number, r in records.items()
    }


def test_numbers_are_the_same_again_in_any_order_and_with_any_micro_batch(
    model: Path, folder: Path
) -> None:
    protocol = make_protocol(folder, 2)
    first = scored(methods(model, *NAMES), protocol)
    assert {len(record.scores) for record in first.values()} == {len(NAMES)}
    accuracies = [s.units[0] for record in first.values() for s in record.scores.values()]
    assert len(set(accuracies)) > 2
    assert scored(methods(model, *reversed(NAMES)), protocol) == first
    alone = scored(methods(model, "finetune-film"), protocol)
    for number, record in alone.items():
        assert record.scores["finetune-film"] == first[number].scores["finetune-film"]
    other = scored(methods(model, *NAMES, micro_batch=4), protocol)
    for number, record in other.items():
        for name, score in record.scores.items():
            assert score.units == first[number].scores[name].units, (number, name)


def test_cached_features_classify_as_a_whole_pass_does(
    model: Path, protocol: FolderProtocol
) -> None:
    task = protocol.task(0)
    images, labels = ImageCache(), torch.tensor(task.support_labels)
    for method in methods(model, *BASELINES):
        if not isinstance(method, FrozenMethod):
            continue
        support = images.images(task.support, method.image_size)
        queries = images.images(task.query, method.image_size)
        whole = method.adapt(support, labels, 3)(queries)
        cache = FeatureCache(images)
        cached = method.fit(cache.features(method, task.support), labels, 3)(
            cache.features(method, task.query)
        )
        torch.testing.assert_close(whole, cached, rtol=1e-3, atol=1e-3)


def test_the_checkpoint_and_its_baselines_share_one_backbone(model: Path) -> None:
    found = methods(model, *NAMES)
    assert len({id(method.backbone) for method in found}) == 1
    learner, baseline = found[0], found[1]
    assert learner.parameters > baseline.parameters


def test_a_learner_scores_as_its_checkpoint_does(model: Path, protocol: FolderProtocol) -> None:
    (method,) = methods(model, "default")
    records = scored([method], protocol)
    learner = MetaModel.load(model).learner
    images = ImageCache()
    for number in range(len(protocol)):
        task = protocol.task(number)
        adapted = learner.adapt(
            images.images(task.support, 32), torch.tensor(task.support_labels), 3
        )
        right = adapted.logits(images.images(task.query, 32)).argmax(1) == torch.tensor(
            task.query_labels
        )
        assert records[number].scores["default"].units == (float(right.double().mean()),)


def test_a_run_that_was_stopped_goes_on_and_ends_alike(
    model: Path, protocol: FolderProtocol, tmp_path: Path
) -> None:
    names = ("default", "cosine")
    whole = scored(methods(model, *names), protocol)
    path = tmp_path / "log.jsonl"
    done: list[int] = []
    with TaskLog(path, {}) as log:
        finished = run(
            methods(model, *names),
            protocol,
            log,
            ImageCache(),
            on_done=lambda number, total: done.append(number),
            stop=lambda: len(done) == 2,
        )
    assert not finished
    assert len(log.records) == 2
    with TaskLog(path, {}) as log:
        assert run(methods(model, *names), protocol, log, ImageCache())
    assert without_costs(log.records) == whole
    costed = [n for n, r in log.records.items() if r.scores["cosine"].cost is not None]
    assert costed == list(range(COSTED))


class Videos:
    """A protocol whose queries are frames, more than go through at a time."""

    name, notes, groups = "videos", (), ("user",)

    def __init__(self, folders: FolderProtocol, repeats: int) -> None:
        self._folders, self._repeats = folders, repeats

    def __len__(self) -> int:
        return 1

    def task(self, number: int) -> EvaluationTask:
        task = self._folders.task(number)
        return replace(
            task,
            group="user",
            query=task.query * self._repeats,
            query_labels=task.query_labels * self._repeats,
            query_parts=tuple(f"video {k}" for k in task.query_labels) * self._repeats,
        )


def test_many_queries_are_streamed_and_scored_by_part(
    model: Path, protocol: FolderProtocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeats = 3
    for module in ("caches", "engine"):
        monkeypatch.setattr(f"fewshot_lite.evaluation.{module}.CHUNK", 4)
    monkeypatch.setattr("fewshot_lite.evaluation.engine._STRIDE", 8)
    with TaskLog(None, {}) as log:
        run(methods(model, "default", "knn"), Videos(protocol, repeats), log, ImageCache())
    plain = scored(methods(model, "default", "knn"), protocol)[0]
    for name, score in log.records[0].scores.items():
        assert len(score.units) == 3
        assert score.predictions is not None
        assert len(score.predictions) == 6 * repeats
        assert sum(score.units) / 3 == pytest.approx(plain.scores[name].units[0])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    good, bad = draw_classes(tmp_path, {"a": 1}) / "a" / "00.png", tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    with pytest.raises(FewshotError, match=r"bad\.png: not an image"):
        ImageCache().images([good, bad], 16)
    assert list(ImageCache().problems([good, bad], 16)) == [bad]


def test_caches_hold_no_more_than_they_may(tmp_path: Path) -> None:
    cache: BoundedCache[int] = BoundedCache(100)
    for key in range(5):
        cache.put(key, torch.zeros(40, dtype=torch.uint8))
        assert cache.get(0) is not None or key > 1  # it was used, so it stays
    assert len(cache) == 2
    assert cache.size == 80
    cache.put(9, torch.zeros(101, dtype=torch.uint8))
    assert cache.get(9) is None
    sources: list[Source] = sorted(draw_classes(tmp_path, {"a": 4}).glob("a/*"))
    small = ImageCache(limit=2 * 3 * 16 * 16)
    assert torch.equal(small.images(sources, 16), ImageCache().images(sources, 16))
    assert torch.equal(small.images(sources[::-1], 16), small.images(sources, 16).flip(0))
