"""Lambda patterns: accuracy against the time to adapt, of every pattern of a checkpoint.

    python -m benchmarks.accuracy.lambda_patterns MODEL DATA --inner-steps 1,5 --tasks 200

MODEL is a checkpoint of maml, fomaml or imaml (or finetune:NETWORK). For each number of inner steps
a search (all patterns where they are no more than --max-patterns, else greedy: --max-patterns 20
makes it so for a resnet18) on the same tasks, the patterns taking turns on each, times as ratios to
the full pattern's on the same task. Of each: the selected pattern, its speed-up and what it loses,
and the best pattern against the full one. What is selected on the tasks that measure it is
flattered: so the selected and the best pattern are measured again on tasks of another seed
("again"), with paired differences and their 95 % intervals.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, emit, say
from fewshot_lite.evaluation.lambda_search.measuring import Measured
from fewshot_lite.evaluation.lambda_search.options import SearchOptions, parse_searched
from fewshot_lite.evaluation.lambda_search.result import Search
from fewshot_lite.evaluation.lambda_search.search import measure_patterns, search_patterns


def main() -> None:
    args = arguments(
        __doc__,
        "model",
        "data",
        inner_steps=[1, 5],
        max_drop=0.01,
        way=int,
        shots=5,
        queries=10,
        tasks=200,
        seed=0,
        max_patterns=64,
        device="auto",
        plot=(Path, "draw a figure there"),
    )

    name = parse_searched(args.model)
    searches, result = [], []
    for steps in args.inner_steps:
        options = SearchOptions(
            max_drop=args.max_drop,
            way=args.way,
            shots=args.shots,
            queries=args.queries,
            tasks=args.tasks,
            seed=args.seed,
            inner_steps=steps,
            max_patterns=args.max_patterns,
        )
        search = search_patterns(
            name, args.data, options, device=args.device, on_done=partial(_say, steps)
        )
        best = max(search.measured[1:], key=lambda m: m.accuracy.mean)
        again = measure_patterns(
            name,
            args.data,
            [search.chosen.pattern, best.pattern],
            replace(options, seed=args.seed + 1),
            device=args.device,
        )
        searches.append(search)
        result.append(summary(search, best, again))
        say(result[-1]["in_words"])
    emit("lambda_patterns", vars(args), result)
    if args.plot:
        draw_figure(searches, args.plot)


def _say(steps: int, turn: int, done: int, total: int) -> None:
    if done % max(1, total // 10) == 0 or done == total:
        say(f"{steps} steps, round {turn}: {done} of {total}")


def summary(search: Search, best: Measured, again: Search) -> dict[str, Any]:
    """A search with its two claims, and what became of them on other tasks."""
    full = again.full
    by_pattern = {m.pattern: m for m in again.measured}
    chosen, winner = by_pattern[search.chosen.pattern], by_pattern[best.pattern]
    lost, gained = chosen.minus(full), winner.minus(full)
    better = gained.mean - gained.interval > 0
    return {
        "in_words": (
            f"{search.inner_steps} inner steps: {chosen.pattern} adapts {1 / chosen.ratio:.2f} "
            f"times as fast, accuracy {100 * lost.mean:+.2f} ± {100 * lost.interval:.2f} points; "
            f"the best, {winner.pattern}, {100 * gained.mean:+.2f} ± {100 * gained.interval:.2f}: "
            f"{'better than' if better else 'not told from'} the full pattern"
        ),
        "inner_steps": search.inner_steps,
        "chosen": search.chosen.pattern,
        "speed_up": 1 / chosen.ratio,
        "difference": lost.to_json(),
        "best": best.pattern,
        "best_difference": gained.to_json(),
        "best_beats_full": better,
        "again": [m.to_json(full) for m in again.measured],
        "search": search.to_json(),
    }


def draw_figure(searches: list[Search], path: Path) -> None:
    """A panel for each number of inner steps."""
    from matplotlib.figure import Figure

    from fewshot_lite.evaluation.lambda_search.result import draw

    figure = Figure(figsize=(5.5 * len(searches), 4.2), layout="constrained")
    panels = figure.subplots(1, len(searches), squeeze=False)[0]
    for axes, search in zip(panels, searches, strict=True):
        draw(axes, search)
        axes.set_title(f"{search.inner_steps} inner step{'s' if search.inner_steps > 1 else ''}")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
