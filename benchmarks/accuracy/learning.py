"""What the ways to a gradient learn: accuracy against tasks and against seconds.

    python -m benchmarks.accuracy.learning DATA BACKBONE --validate HELD_OUT --seeds 0,1,2

The same learner from the same backbone on the same tasks, meta-trained with LITE (uniform and
informed subsets), the exact gradient and small tasks. Seconds are of training alone, validation
left out, and depend on what else the machine does. "last" is the mean of the last validation over
seeds, with the standard deviation between seeds; "paired" is its difference to uniform sampling,
seed by seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.common import Row, draw_lines, emit, numbers, say
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.meta_train import meta_train

ARMS: dict[str, dict[str, Any]] = {
    "uniform, H=40": {"h": 40, "sampling": "uniform"},
    "informed, H=40": {"h": 40, "sampling": "informed"},
    "informed, H=10": {"h": 10, "sampling": "informed"},
    "exact": {"h": None},
    "small tasks of 40": {"h": 40, "gradient": "small-task"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("backbone")
    parser.add_argument("--validate", type=Path, required=True)
    parser.add_argument("--validate-every", type=int, default=100)
    parser.add_argument("--learner", default="simple-cnaps")
    parser.add_argument("--backbone-lr", type=float)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--tasks-per-step", type=int, default=4)
    parser.add_argument("--max-support", type=int, default=100)
    parser.add_argument("--queries", type=int, default=5)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--seeds", type=numbers, default="0,1,2")
    parser.add_argument("--plot", type=Path, help="draw a figure there")
    args = parser.parse_args()

    base = MetaTrainConfig(
        learner=args.learner,
        weights=args.backbone,
        backbone_lr=args.backbone_lr,
        lr=args.lr,
        image_size=args.image_size,
        tasks=args.tasks,
        tasks_per_step=args.tasks_per_step,
        max_support=args.max_support,
        queries=args.queries,
        validate_every=args.validate_every,
    )
    rows: list[Row] = []
    for seed in args.seeds:
        for name, options in ARMS.items():
            curve = run(args.data, args.validate, replace(base, seed=seed, **options))
            rows.append({"arm": name, "seed": seed, "curve": curve})
            say(name, seed, curve[-1])
    emit("learning", vars(args), {"summary": summary(rows), "runs": rows})
    if args.plot:
        draw_lines(args.plot, panels(rows), ("", "validation accuracy, %"), log=False)


def run(data: Path, validate: Path, config: MetaTrainConfig) -> list[dict[str, float]]:
    """One meta-training; its validations: task, seconds of training, accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "model.safetensors"
        log = meta_train(data, output, config, validate=validate).log
        assert log is not None
        events = [json.loads(line) for line in log.read_text().splitlines()]
    curve, validating, before = [], 0.0, 0.0
    for event in events:
        if event["event"] == "validation":
            validating += event["seconds"] - before
            curve.append(
                {
                    "task": event["task"],
                    "seconds": round(event["seconds"] - validating, 1),
                    "accuracy": event["accuracy"]["mean"],
                }
            )
        before = event["seconds"]
    return curve


def summary(rows: list[Row]) -> list[Row]:
    """Last accuracies and seconds of each arm over the seeds."""
    last = {name: [r["curve"][-1] for r in rows if r["arm"] == name] for name in ARMS}
    reference = [point["accuracy"] for point in last["uniform, H=40"]]
    found = []
    for name, points in last.items():
        accuracies = [point["accuracy"] for point in points]
        differences = [a - b for a, b in zip(accuracies, reference, strict=True)]
        found.append(
            {
                "arm": name,
                "last": round(statistics.mean(accuracies), 4),
                "between_seeds": round(statistics.pstdev(accuracies), 4),
                "paired": round(statistics.mean(differences), 4),
                "paired_of_seeds": [round(d, 4) for d in differences],
                "seconds": round(statistics.mean(p["seconds"] for p in points), 1),
            }
        )
    return found


def panels(rows: list[Row]) -> list[tuple[str, dict[str, Any]]]:
    """Accuracy against tasks and against seconds, mean over the seeds."""
    found = []
    for key in ("task", "seconds"):
        lines: dict[str, list[tuple[float, float]]] = {}
        for name in ARMS:
            curves = [row["curve"] for row in rows if row["arm"] == name]
            lines[name] = [
                (statistics.mean(p[key] for p in points),
                 100 * statistics.mean(p["accuracy"] for p in points))
                for points in zip(*curves, strict=True)
            ]  # fmt: skip
        found.append((f"against {key}s".replace("ss", "s"), lines))
    return found


if __name__ == "__main__":
    main()
