"""The shipped model beside all baselines on its backbone: accuracy with intervals, and cost.

    python benchmarks/compare.py DATA [DATA ...] --ways 5 --shots 1,5 --tasks 600

All models see the same tasks; fine-tuning through the backbone, which takes a thousand times as
long, sees the first `--finetune-tasks` of them, and is compared with the others on those.
`--classes FILE:KEY` takes the classes to use from a JSON file of lists. With `--output LOG.jsonl`
it can be interrupted and goes on. What is printed is what `fewshot-lite evaluate --json` prints,
with "speed" besides: queries a second as a share of the bare backbone's in the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from common import emit, protocol_options
from fewshot_lite.core.files import DEFAULT_BASE
from fewshot_lite.evaluation.caches import ImageCache
from fewshot_lite.evaluation.names import BASELINES, parse_models
from fewshot_lite.evaluation.protocols.folders import FolderProtocol
from fewshot_lite.evaluation.session import Session, compare_models
from fewshot_lite.images.folders import ImageFolder, scan_classes

_SLOW = ("finetune-film", "finetune")


def open_folders(paths: list[Path], classes: str | None) -> list[ImageFolder]:
    """The data sets, with the classes of a JSON file's list alone if there is one."""
    folders = [scan_classes(path) for path in paths]
    if classes is None:
        return folders
    file, _, key = classes.rpartition(":")
    only = set(json.loads(Path(file).read_text())[key])
    return [folder.select(only) for folder in folders]


def with_speed(result: dict[str, Any]) -> dict[str, Any]:
    """The same with queries a second beside the bare backbone's, of each model."""
    for model in result["models"]:
        cost = model["cost"]
        if cost["bare_ms"]:
            model["speed"] = cost["bare_ms"] / cost["query_ms"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--models", default=",".join([DEFAULT_BASE, *BASELINES]))
    parser.add_argument("--baseline-backbone", default=DEFAULT_BASE)
    parser.add_argument("--ways", default="5")
    parser.add_argument("--shots", default="1,5")
    parser.add_argument("--queries", type=int, default=10)
    parser.add_argument("--tasks", type=int, default=600)
    parser.add_argument("--finetune-tasks", type=int, default=60, help=f"of {' and '.join(_SLOW)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--micro-batch", type=int, default=64)
    parser.add_argument("--classes", help="FILE:KEY, a JSON file and the key of a list of classes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, help="a log to go on from")
    args = parser.parse_args()

    names = parse_models(args.models.split(","), args.baseline_backbone)
    options = protocol_options(args)
    folders = open_folders(args.data, args.classes)

    def open_data(images: ImageCache, size: int) -> FolderProtocol:
        return FolderProtocol(
            folders, options, find_unreadable=lambda sources: images.problems(sources, size)
        )

    def progress(done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            print(f"{done} of {total} tasks", file=sys.stderr, flush=True)

    outcome = compare_models(
        names,
        open_data,
        Session(device=args.device, image_size=args.image_size, micro_batch=args.micro_batch),
        log=args.output,
        limits={name.text: args.finetune_tasks for name in names if name.baseline in _SLOW},
        on_done=progress,
    )
    emit("compare", vars(args), with_speed(outcome.comparison.to_json()))


if __name__ == "__main__":
    main()
