"""Eight bits beside single precision: accuracy, answers that change, and time a photo.

    python -m benchmarks.accuracy.eight_bits default DATA [DATA ...] --shots 5 --tasks 50

For each data set the network is adapted to a first task, whose photos give the ranges, as `export
--int8` takes them. Then tasks of the set, the same for both: heads of single precision's features,
as a personal model has them, name others by both. Times are of the processor, of the network
alone. Needs the extra `onnx`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from statistics import median
from typing import Any

import numpy as np
import onnx

from benchmarks.common import Row, emit, gain, say
from benchmarks.personal_tasks import Drawing, deal, task_arguments
from fewshot_lite.heads.in_numpy import Array, as_array
from fewshot_lite.networks.lite_graph import lite_graph
from fewshot_lite.networks.sessions import open_session, run_session
from fewshot_lite.personal.export.eight_bits import quantised
from fewshot_lite.personal.personal_model import PersonalModel


def networks(personal: PersonalModel, pixels: Array) -> dict[str, Callable[[Array], Array]]:
    """What gives features by onnxruntime, in both ways."""
    backbone = personal.backbone
    weights = {name: as_array(value) for name, value in backbone.network.state_dict().items()}
    mean, std = (values.flatten().tolist() for values in (backbone.mean, backbone.std))
    graph = lite_graph(backbone.name, personal.image_size, mean, std, weights)
    eight = quantised(onnx.load_from_string(graph), pixels).SerializeToString()

    def features(session: Any) -> Callable[[Array], Array]:
        return lambda photos: run_session(session, None, photos)[0]

    return {"float32": features(open_session(graph)), "int8": features(open_session(eight))}


def of_set(drawing: Drawing, name: str, shots: int, args: Any) -> Row:
    data = drawing.sets[name]
    way = min(args.way, len(data.groups))
    names = [f"{k:04d}" for k in range(way) for _ in range(shots)]
    first = [row for group in data.groups[:way] for row in group[:shots]]
    personal = drawing.model.adapt(data.images[first], names)
    photos = as_array(data.images)
    both = networks(personal, photos[first])
    features, times = {}, {}
    for kind, run in both.items():
        features[kind] = run(photos)
    for kind, run in both.items():
        taken = []
        for _ in range(args.repeats):
            start = time.process_time()
            run(photos[:64])
            taken.append(1000 * (time.process_time() - start) / len(photos[:64]))
        times[kind] = median(taken)
    right: dict[str, list[float]] = {kind: [] for kind in both}
    changed: list[float] = []
    for number in range(args.tasks):
        random = Random(f"{args.seed}/{name}/{shots}/{number}")
        groups = [data.groups[k] for k in random.sample(range(len(data.groups)), way)]
        drawn = [random.sample(group, min(shots + args.queries, len(group))) for group in groups]
        support, labels, asked, truth = deal(drawn, [shots] * way)
        head = personal.array_head.fit((features["float32"][support], np.array(labels), way))
        answers = {kind: head(found[asked]).argmax(1) for kind, found in features.items()}
        for kind, given in answers.items():
            right[kind].append(float((given == truth).mean()))
        changed.append(float((answers["int8"] != answers["float32"]).mean()))
    error = features["int8"] - features["float32"]
    return {
        "data": name,
        "shots": shots,
        "gain": gain(right["int8"], right["float32"]),
        "accuracy": {kind: round(100 * float(np.mean(found)), 1) for kind, found in right.items()},
        "changed": round(100 * float(np.mean(changed)), 1),
        "error_of_features": round(
            float(np.linalg.norm(error) / np.linalg.norm(features["float32"])), 3
        ),
        "processor_ms_a_photo": {kind: round(value, 2) for kind, value in times.items()},
    }


def main() -> None:
    args = task_arguments(__doc__, queries=15, repeats=5)
    drawing = Drawing.open(args)
    rows = []
    for shots in args.shots:
        for name in drawing.sets:
            rows.append(of_set(drawing, name, shots, args))
            say(rows[-1])
    emit("eight_bits", vars(args), rows)


if __name__ == "__main__":
    main()
