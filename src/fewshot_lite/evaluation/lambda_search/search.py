"""The search for a pattern that adapts faster and loses little.

Khabarlak 2022 (arXiv 2206.05930) selects the fastest pattern within an allowed loss of accuracy.
The search is this project's own: only the abstract of the paper was at hand. If there are few
patterns, all are measured. For refinement, whose time depends on the lowest updated stage alone,
those are the patterns that update all stages from one on. Otherwise the search is greedy: starting
from the full pattern, it freezes the layer that loses the least accuracy for the time saved. A
layer that loses none is preferred, and among those the one that saves most time.

The chosen pattern's accuracy is slightly optimistic, since the same tasks choose and measure it:
the more so the more patterns and the fewer tasks there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.evaluation.caches import ImageCache
from fewshot_lite.evaluation.lambda_search.measuring import Bench, Measured, Subject, open_subject
from fewshot_lite.evaluation.lambda_search.options import SearchOptions, parse_searched
from fewshot_lite.evaluation.lambda_search.result import ALIKE, Search
from fewshot_lite.evaluation.protocols.folders import FolderProtocol
from fewshot_lite.evaluation.protocols.options import ProtocolOptions, Span
from fewshot_lite.images.folders import ImageFolder, scan_collections, some_folders

#: Called with (round of the search, trials done, trials in all); a trial is a pattern on a task.
OnDone = Callable[[int, int, int], None]


def search_patterns(
    model: str | Path,
    data: str | Path | Sequence[str | Path],
    options: SearchOptions | None = None,
    *,
    device: str = "auto",
    on_done: OnDone = lambda turn, done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> Search:
    """Measure patterns of a model on tasks from class folders.

    Args:
        model: a checkpoint that adapts by gradient, or `refine:`, `finetune:` or `finetune-film:`
            with a model.
        data: class folders, a folder of such data sets, or several of either.
        options: by default those of the command.
        on_done: called with (round of the search, trials done, trials in all).
        stop: asked after each trial; True ends the search with what it has.

    Raises:
        UsageError, FewshotError: a model without an inner loop, data from which such tasks cannot
            be drawn, or an inner loop that diverges.
        KeyboardInterrupt: stopped before the first task was done.
    """
    options = options or SearchOptions()
    options.check()
    subject = open_subject(parse_searched(str(model)), options.inner_steps, device)
    way = _way(subject, options)
    folders = _folders(some_folders(data), way, subject)
    images = ImageCache()
    protocol = FolderProtocol(
        folders,
        ProtocolOptions(
            ways=(Span(way, way),),
            shots=(Span(options.shots, options.shots),),
            queries=options.queries,
            tasks=options.tasks,
            seed=options.seed,
        ),
        find_unreadable=lambda sources: images.problems(sources, subject.image_size),
    )
    bench = Bench(subject, protocol, images)
    patterns = all_patterns(subject)
    greedy = patterns is None or len(patterns) > options.max_patterns
    if greedy or patterns is None:
        measured, finished = _greedy(bench, subject, options.max_patterns, on_done, stop)
    else:
        measured, finished = bench.measure(
            patterns, subject.full, on_done=partial(on_done, 1), stop=stop
        )
    return Search(
        subject.name,
        subject.layers,
        subject.inner_steps,
        way,
        options,
        tuple(folder.name for folder in folders),
        tuple(measured.values()),
        greedy,
        finished,
        {Path(str(path)): reason for path, reason in protocol.unreadable.items()},
    )


def _folders(data: Sequence[Path], way: int, subject: Subject) -> list[ImageFolder]:
    """Return the data sets, refusing those with too few classes."""
    folders = scan_collections(data)
    for folder in folders:
        if len(folder.class_names) < way:
            remedy = "Add classes." if subject.way else "Add classes, or lower --way."
            raise FewshotError(
                f"{folder.root}: has {len(folder.class_names)} classes, too few for {way}-way "
                f"tasks. {remedy}"
            )
    return folders


def all_patterns(subject: Subject) -> list[str] | None:
    """Return every pattern, the full one first; None if there are more than 2^16."""
    if subject.nested:
        lowest = range(subject.fixed, len(subject.layers) - 1)
        return ["0" * low + "1" * (len(subject.layers) - low) for low in lowest]
    layers = len(subject.layers) - subject.head_stays - subject.fixed
    if layers > 16:
        return None
    begin, end = "0" * subject.fixed, "1" * subject.head_stays
    patterns = [begin + "".join(digits) + end for digits in product("10", repeat=layers)]
    return [p for p in patterns if "1" in p or not subject.something_adapts]


def _way(subject: Subject, options: SearchOptions) -> int:
    if subject.way is not None and options.way not in (None, subject.way):
        raise UsageError(
            f"--way {options.way}: the head of {subject.name} was learned for {subject.way} "
            "classes. Leave the flag out."
        )
    return options.way or subject.way or 5


def _greedy(
    bench: Bench,
    subject: Subject,
    most: int,
    on_done: OnDone,
    stop: Callable[[], bool],
) -> tuple[dict[str, Measured], bool]:
    """Freeze one layer after the other until none is left or `most` patterns were measured.

    An interrupted round is discarded unless it is the first.
    """
    current = full = subject.full
    results: dict[str, Measured] = {}
    for number in range(1, len(full) + 1):
        droppable = len(full) - subject.head_stays
        updated = (i for i in range(droppable) if current[i] == "1")
        candidates = [f"{current[:i]}0{current[i + 1 :]}" for i in updated]
        candidates = [p for p in candidates if "1" in p or not subject.something_adapts]
        candidates = candidates[: max(0, most - max(len(results), 1))]
        if not candidates:
            break
        measured, finished = bench.measure(
            [current, *candidates], full, on_done=partial(on_done, number), stop=stop
        )
        if not finished and results:
            return results, False
        results = measured | results  # earlier measurements are kept
        results = {full: results[full]} | results
        if not finished:
            return results, False
        current = min(candidates, key=lambda p: _price(measured[current], measured[p]))
    return results, True


def _price(before: Measured, after: Measured) -> tuple[float, float]:
    """Return the accuracy lost per time saved, to be minimised; if none is lost, the time alone."""
    lost = before.accuracy.mean - after.accuracy.mean
    saved = before.ratio - after.ratio
    return (0.0, -saved) if lost <= 0 else (lost / max(saved, ALIKE), 0.0)
