"""Models and baselines on sets of class folders: accuracy with intervals, calibration and cost.

    python -m benchmarks.accuracy.compare DATA/clothing DATA/eth80 --ways 5 --shots 1,5 --tasks 600

Prints what `fewshot-lite evaluate --json` prints, with the machine and versions. All models see the
same tasks; fine-tuning through the backbone sees the first `--finetune-tasks` of them, and is
compared with the others on those. `--chart FILE` draws the mean over sets of each model.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, emit
from benchmarks.scores import flags, score
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.folders import scan_classes

_MODELS = "film-default:default,default,cosine,mahalanobis,ridge,finetune-head"


def main() -> None:
    args = arguments(__doc__, "data+", chart=Path, **flags(_MODELS))
    try:
        found = score([scan_classes(path) for path in args.data], args)
    except FewshotError as error:
        sys.exit(f"Error: {error}")
    emit("compare", vars(args), found)
    if args.chart:
        draw(found["sections"][-1], args.chart)


def draw(section: dict[str, Any], path: Path) -> None:
    """Bars of all models in a section, the last of which is the mean over all sets."""
    from matplotlib.figure import Figure

    rows = sorted(
        ((model["name"], model["accuracy"]) for model in section["models"]),
        key=lambda row: float(row[1]["mean"]),
    )
    figure = Figure(figsize=(7, 0.5 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    values = [100 * row["mean"] for _, row in rows]
    names, errors = [name for name, _ in rows], [100 * row["interval"] for _, row in rows]
    ours = [name.startswith(("film-", "default")) for name in names]
    axes.barh(names, values, xerr=errors, color=["#3f51b5" if own else "#9aa3cf" for own in ours])
    for position, value in enumerate(values):
        axes.text(1, position, f"{value:.1f}", va="center", color="white", fontweight="bold")
    axes.set(xlim=(0, 100), xlabel="accuracy, %")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
