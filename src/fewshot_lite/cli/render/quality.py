"""The estimated accuracy of a personal model, its head and its refinement, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fewshot_lite.cli.render import terminal as render
from fewshot_lite.cli.render.terminal import escape, out
from fewshot_lite.core.text import visible
from fewshot_lite.personal.quality import advice

if TYPE_CHECKING:
    from fewshot_lite.personal.growth import Growth
    from fewshot_lite.personal.quality import Quality, Suspicion


#: The least gain of accuracy that is printed.
_LEAST_GAIN = 0.005
_MOST_PAIRS = 3
_MOST_PHOTOS = 5
_MOST_CLASSES = 3


def print_quality(
    quality: Quality,
    shots: Mapping[str, int],
    *,
    before: Quality | None = None,
    growth: Growth | None = None,
) -> None:
    """Print the accuracy to expect, what seems wrong with the photos, and what would help.

    Args:
        quality: of the present model.
        shots: photos of each class.
        before: of the model before it was changed.
        growth: the gain to expect of more photos, if known.
    """
    if quality.accuracy is None or quality.interval is None:
        out.print(
            "How good it is cannot be told, nor what is unknown to it: no class has two photos, or "
            "two videos."
        )
        return
    low, high = quality.interval
    if quality.enough:
        how = "leaving out each of" if not quality.anew else "adapting anew without a quarter of"
        was = f"; {before.accuracy:.0%} before" if before and before.enough else ""
        out.print(
            f"To expect of new photos like these: [bold]{quality.accuracy:.0%}[/] named right "
            f"({low:.0%} to {high:.0%}; by {how} {_units(quality)}{was})."
        )
        if quality.of_clips is not None:
            out.print(f"  Of new videos, by all of their frames: {quality.of_clips:.0%}.")
    else:
        out.print(
            f"How good it is cannot be told from so few photos: {quality.right} of "
            f"{_from(quality)} are named right when left out, anything from "
            f"{low:.0%} to {high:.0%}."
        )
    for line in _remarks(quality):
        out.print(f"  {line}")
    if growth is not None and growth.doubled - growth.now >= _LEAST_GAIN:
        out.print(
            f"  [bold]Twice as many photos[/] like these: about {growth.doubled:.0%} named right "
            f"({growth.half:.0%} with half of them)."
        )
    for line in advice(quality, shots):
        out.print(f"  [bold]What would help:[/] {escape(line)}")


def _units(quality: Quality) -> str:
    """Return the number of photos and videos that were left out one after the other."""
    if not quality.clips:
        return f"{quality.photos} photos"
    rest = quality.left_out - quality.clips
    videos = f"{quality.clips} video{'s' * (quality.clips > 1)} ({quality.photos - rest} frames)"
    return f"{videos} and {rest} photo{'s' * (rest > 1)}" if rest else videos


def _from(quality: Quality) -> str:
    """Return the number of photos and frames that were left out."""
    if not quality.clips:
        return str(quality.photos)
    return f"{quality.photos} photos and frames ({_units(quality)})"


def _remarks(quality: Quality) -> Iterator[str]:
    """Yield lines about single classes and photos."""
    for item in quality.few[:_MOST_CLASSES]:
        tested = f", of which {item.right} named right when left out" if item.photos > 1 else ""
        yield f"[yellow]Few photos:[/] {escape(item.name)} has {item.photos}{tested}."
    if (more := len(quality.few) - _MOST_CLASSES) > 0:
        yield f"… and {more} more classes with few photos"
    if quality.alone:
        named = ", ".join(map(escape, quality.alone[:_MOST_CLASSES]))
        dots = ", ..." if len(quality.alone) > _MOST_CLASSES else ""
        one = "one photo or video" if quality.clips else "one photo"
        yield f"That is without {named}{dots}: {one} tells nothing."
    if quality.confused:
        pairs = ", ".join(
            f"{escape(pair.classes[0])} and {escape(pair.classes[1])} "
            f"({pair.mistaken} of {pair.photos} photos)"
            for pair in quality.confused[:_MOST_PAIRS]
        )
        yield f"Most taken for each other: {pairs}"
    wrong = "[yellow]In the wrong class?[/]"
    for doubt in quality.suspicious[:_MOST_PHOTOS]:
        yield f"{wrong} {_name(doubt)} looks like {escape(doubt.looks_like)}"
    if (more := len(quality.suspicious) - _MOST_PHOTOS) > 0:
        yield f"{wrong} {more} more (--json lists all)"


def _name(item: Suspicion) -> str:
    if item.photo is None:
        return f"support photo {item.index + 1} ({escape(item.label)})"
    if not item.photo.startswith(f"{item.label}/"):  # the class was renamed, or the photo moved
        return f"{escape(item.photo)} ({escape(item.label)})"
    return escape(item.photo)


def quality_json(quality: Quality) -> dict[str, Any]:
    """Return a quality as JSON-able values."""
    values = asdict(quality)
    if quality.interval is not None:
        values["interval"] = {"low": quality.interval[0], "high": quality.interval[1]}
    return values


def print_head(record: dict[str, Any]) -> None:
    """Print the head that `--head auto` chose; nothing for a head that was named."""
    if record["asked"] != "auto":
        return
    used, accuracies = record["used"], record.get("left_out_accuracy")
    if accuracies is None:
        render.out.print(f"Head: {used}, the default: {record['note']}.")
        return
    shares = ", ".join(f"{name} {share:.0%}" for name, share in accuracies.items())
    render.out.print(f"Head: {used} (photos left out that are named right: {shares}).")


def print_refined(record: dict[str, Any]) -> None:
    """Print the result of `--refine`, with leave-one-out accuracies."""
    steps, shares = record["steps"], record.get("left_out_accuracy")
    if "note" in record:
        render.out.print(f"Not refined: {visible(record['note'])} The one-pass model was kept.")
    elif not shares:
        done = f"Refined by {steps} steps" if steps else "Not refined"
        render.out.print(f"{done}: with one photo of each class, none can be left out to tell.")
    elif steps:
        after, before = shares[str(steps)], shares["0"]
        render.out.print(
            f"Refined by {steps} gradient steps: of photos left out, {after:.0%} are named right "
            f"({before:.0%} in one pass)."
        )
    elif len(shares) == 1:
        render.out.print("Not refined: one pass names all photos that are left out right.")
    else:
        best = max(float(share) for number, share in shares.items() if number != "0")
        render.out.print(
            f"Not refined: of photos left out, one pass names {shares['0']:.0%} right, and after "
            f"gradient steps it is {best:.0%} at best."
        )
