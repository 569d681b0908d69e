"""The search for a pattern that adapts faster and loses little.

Khabarlak 2022 (arXiv 2206.05930) selects the fastest pattern within an allowed loss of accuracy. Of
the paper its abstract was at hand: the search is this project's own. All patterns are measured if
they are few; of refinement, whose time is that of the lowest stage that moves, all from a stage on.
Else it is greedy: from the full pattern on, of the layers that are still updated, the one is left
out that costs least accuracy for the time it saves; one that costs none is preferred, and among
those the one that saves most time.

That the same tasks choose a pattern and measure it flatters it a little, the more the more patterns
there are and the fewer tasks.
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

#: Called with (round of the search, trials done, trials in all): a pattern on a task each.
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
        options: those of the command if not given.
        on_done: called with (round of the search, trials done, trials in all).
        stop: asked after each trial; True ends the search with what it has.

    Raises:
        UsageError, FewshotError: a model without an inner loop, data that no such task can be drawn
            from, or a loop that diverges.
        KeyboardInterrupt: stopped before there was anything to show.
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
    """The data sets, each with classes enough."""
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
    """Every pattern, the full one first; None where there are more than anybody would wait for."""
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
    """Rounds of leaving one layer out, until none is left or `most` patterns were measured.

    A round that is stopped counts only if it is the first.
    """
    current = full = subject.full
    found: dict[str, Measured] = {}
    for number in range(1, len(full) + 1):
        droppable = len(full) - subject.head_stays
        on = (i for i in range(droppable) if current[i] == "1")
        tried = [f"{current[:i]}0{current[i + 1 :]}" for i in on]
        tried = [p for p in tried if "1" in p or not subject.something_adapts]
        tried = tried[: max(0, most - max(len(found), 1))]
        if not tried:
            break
        measured, finished = bench.measure(
            [current, *tried], full, on_done=partial(on_done, number), stop=stop
        )
        if not finished and found:
            return found, False
        found = measured | found  # what was measured before stays as it was
        found = {full: found[full]} | found
        if not finished:
            return found, False
        current = min(tried, key=lambda p: _price(measured[current], measured[p]))
    return found, True


def _price(before: Measured, after: Measured) -> tuple[float, float]:
    """Accuracy lost for the time saved; less is better. What loses none is ranked by time alone."""
    lost = before.accuracy.mean - after.accuracy.mean
    saved = before.ratio - after.ratio
    return (0.0, -saved) if lost <= 0 else (lost / max(saved, ALIKE), 0.0)
