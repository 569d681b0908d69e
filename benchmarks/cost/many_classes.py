"""A personal model of many classes: seconds and memory of each thing done with it.

    python -m benchmarks.cost.many_classes --classes 200 --photos 10 --backbone efficientnet_b0

Each stage is a process of its own, with random weights and random images, through the code that
`adapt`, `classify`, `add` and `remove` run. "more_mib" is what the stage added to the peak of
resident memory that the process had before it (imports, the network, the file, the images).
"cpu_seconds" is what a busy machine does not distort. "matrices_mib" is what one d x d matrix a
class would take in float32.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.common import (
    Row,
    arguments,
    emit,
    fresh,
    mebibytes,
    peak,
    random_images,
    random_learner,
    say,
    timed,
)
from fewshot_lite.personal.editing import add_features, remove
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel

STAGES = ("adapt", "fit", "save", "load", "leave one out", "classify 64", "add", "remove")


def main() -> None:
    args = arguments(
        __doc__,
        classes=200,
        photos=10,
        backbone="efficientnet_b0",
        learner="simple-cnaps",
        image_size=96,
    )
    result: Row = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "personal.safetensors"
        for stage in STAGES:
            result[stage] = fresh(measure, args, stage, file)
            say(stage, result[stage])
            if "failed" in result[stage]:
                sys.exit(1)
        width = PersonalModel.load(file).features.shape[1]
        result["file_mib"] = mebibytes(file.stat().st_size)
    result["feature_dim"] = width
    result["features_mib"] = mebibytes(4 * args.classes * args.photos * width)
    result["matrices_mib"] = mebibytes(4 * args.classes * width**2)
    emit("many_classes", vars(args), result)


@torch.no_grad()
def measure(args: argparse.Namespace, stage: str, file: Path) -> Row:
    """One stage, in this process; "adapt" writes the file that the others begin with."""
    names = [f"class {k:03d}" for k in range(args.classes) for _ in range(args.photos)]
    if stage == "adapt":
        learner = random_learner(args.learner, args.backbone, args.image_size)
        model = MetaModel(learner, args.image_size)
        photos = random_images(len(names), args.image_size)
        made: list[PersonalModel] = []
        row = costed(lambda: made.append(model.adapt(photos, names)))
        made[0].save(file)
        return row
    if stage == "load":
        return costed(lambda: PersonalModel.load(file))
    personal = PersonalModel.load(file)
    new = random_images(64, args.image_size, seed=1)
    others = personal.views[: args.photos].roll(1, dims=2)  # of no photo that there is
    others_names = [f"new/{i}" for i in range(len(others))]
    actions: dict[str, Callable[[], object]] = {
        "fit": lambda: personal.head.fit(personal.features, personal.labels, args.classes),
        "save": lambda: personal.save(file.with_name("copy.safetensors"), force=True),
        "classify 64": lambda: personal.outputs(new, micro_batch=16),
        "leave one out": personal.leave_one_out_logits,
        "add": lambda: add_features(personal, others, ["new"] * len(others), others_names),
        "remove": lambda: remove(personal, ["class 000"]),
    }
    return costed(actions[stage])


def costed(action: Callable[[], object]) -> Row:
    """Seconds of an action, and the peaks of memory before and after it."""
    before = peak()
    seconds, processor = timed(action)
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(processor, 3),
        "more_mib": mebibytes(peak() - before),
        "peak_mib": mebibytes(peak()),
    }


if __name__ == "__main__":
    main()
