"""Draw the mean accuracy over data sets of each model that `fewshot-lite evaluate` compared.

fewshot-lite evaluate film-default:default cosine SETS --shots 5 --json > compared.json
python -m benchmarks.accuracy.chart compared.json chart.png
"""

from __future__ import annotations

import json

from benchmarks.common import arguments


def main() -> None:
    from matplotlib.figure import Figure

    args = arguments(__doc__, "compared", "output")
    mean_of_all = json.loads(args.compared.read_text())["sections"][-1]
    rows = sorted(mean_of_all["models"], key=lambda model: float(model["accuracy"]["mean"]))
    given = [model["name"] for model in rows]
    names = ["adapt" if name == "film-default:default" else name for name in given]
    values = [100 * model["accuracy"]["mean"] for model in rows]
    errors = [100 * model["accuracy"]["interval"] for model in rows]
    figure = Figure(figsize=(7, 0.5 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    ours = [name.startswith(("film-", "default")) for name in given]
    axes.barh(names, values, xerr=errors, color=["#3f51b5" if own else "#9aa3cf" for own in ours])
    for position, value in enumerate(values):
        axes.text(1, position, f"{value:.1f}", va="center", color="white", fontweight="bold")
    axes.set(xlim=(0, 100), xlabel="accuracy, %")
    figure.savefig(args.output, dpi=130)


if __name__ == "__main__":
    main()
