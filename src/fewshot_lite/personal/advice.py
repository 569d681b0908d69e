"""Advice where the expected accuracy is low, from the data at hand."""

from __future__ import annotations

from collections.abc import Mapping

from fewshot_lite.personal.quality import Quality

#: From this expected accuracy on there is nothing to advise.
_HIGH = 0.9
#: Classes with fewer photos gain most from more of them.
_FEW = 5
#: Pairs of classes, and names of classes with few photos, that are told.
_MOST_PAIRS, _MOST_NAMES = 2, 5


def advice(quality: Quality, shots: Mapping[str, int]) -> tuple[str, ...]:
    """Sentences on what to do next, the most promising first.

    Args:
        quality: what leaving out each photo tells.
        shots: photos of each class.

    Returns:
        Nothing where the expected accuracy is high or cannot be told.
    """
    if quality.accuracy is None or quality.accuracy >= _HIGH:
        return ()
    lines = []
    if quality.suspicious:
        lines.append(
            f"Look at the photos that may lie in the wrong class ({len(quality.suspicious)}), and "
            "move those that do."
        )
    for pair in quality.confused[:_MOST_PAIRS]:
        if pair.mistaken > 1:
            a, b = pair.classes
            lines.append(
                f"Add photos of {a!r} and {b!r} that show what tells them apart: {pair.mistaken} "
                f"of their {pair.photos} photos were taken for the other. If they are one thing, "
                "merge them."
            )
    few = sorted((name for name in shots if shots[name] < _FEW), key=lambda name: shots[name])
    if few:
        names = ", ".join(f"{name!r} ({shots[name]})" for name in few[:_MOST_NAMES])
        more = f" and {len(few) - _MOST_NAMES} more" if len(few) > _MOST_NAMES else ""
        lines.append(f"Add photos to the classes with fewer than {_FEW}: {names}{more}.")
    elif not lines:
        lines.append("Add photos to every class, taken as those will be that are to be named.")
    return tuple(lines)
