"""Checks of a folder of photos before anything is learned from it.

    for finding in check("my_objects"):
        print(finding.kind, finding.detail, *finding.paths)

Photos are decoded once; `adapt` checks those that it decodes anyway. Nothing here needs torch.
"""

from __future__ import annotations

import shlex
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.progress import OnDone
from fewshot_lite.images.clips import with_frames
from fewshot_lite.images.copies import find_copies
from fewshot_lite.images.decoding import look_through
from fewshot_lite.images.finding import find_labelled
from fewshot_lite.images.fingerprints import Fingerprints
from fewshot_lite.images.folders import LabelledImages, Skipped
from fewshot_lite.images.photo import Square, place_of

Kind = Literal[
    "skipped",  # a file that is not read, or no photo
    "no-photo",  # a class without any that can be read
    "one-class",  # nothing to tell apart
    "two-labels",  # one photo, or copies of it, in folders of different classes
    "same-file",  # the same bytes within a class
    "near-copy",  # re-saved, resized or slightly cropped copies within a class
    "tiny",  # far smaller than what the model sees
    "one-photo",  # a class with one photo, or copies of one
    "level",  # class folders that hold the same folders, which may be the classes
    "imbalance",  # many times as many photos of one class as of another
    "bit-depth",  # grey photos of more than 8 bits that seem to have white at different values
]

#: With these `adapt` leaves out files or fails; the others are for a person to judge.
SERIOUS = frozenset[Kind](["skipped", "no-photo", "one-class"])

#: A photo whose shorter side is enlarged more than so many times is tiny.
_MOST_ENLARGED = 2
#: Photos of the largest class to one of the smallest.
_IMBALANCE = 10


@dataclass(frozen=True)
class Finding:
    """One thing to look at."""

    kind: Kind
    paths: tuple[Path, ...]
    """The files, or the folders of the classes, that it is about."""
    classes: tuple[str, ...]
    """The classes, without repetition; empty for files outside of all."""
    detail: str
    """The finding in words, without the paths."""


class StrictError(FewshotError):
    """Something was found where nothing may be."""

    def __init__(self, root: Path, findings: Sequence[Finding]) -> None:
        counts = Counter(finding.kind for finding in findings)
        listed = ", ".join(f"{kind} {count}" for kind, count in counts.items())
        first = findings[0]
        names = ", ".join(str(path) for path in first.paths[:2])
        super().__init__(
            f"{root}: not as --strict wants it ({listed}), e.g. {names}: {first.detail}. "
            "`fewshot-lite check` lists all; put it right or leave --strict out."
        )
        self.findings = tuple(findings)


class Examiner:
    """Looks at the photos of a folder as they are decoded, and then tells what it found.

        examiner = Examiner(folder, size)
        images, problems = decode_pixels(folder.paths, size, look=examiner.look)
        findings = examiner.findings(problems)

    It keeps about a kilobyte of each photo.
    """

    def __init__(self, folder: LabelledImages, size: int) -> None:
        """Nothing was seen yet.

        Args:
            folder: the photos; those that are no files are named by their places (`place_of`).
            size: side in pixels of what the model sees.
        """
        self.folder = folder
        self._places = tuple(map(place_of, folder.paths))
        self.size = size
        self._fingerprints = Fingerprints(len(folder.paths))
        self._tiny: dict[int, Square] = {}
        self._white: dict[int, int] = {}
        self._lock = threading.Lock()

    def look(self, position: int, square: Square) -> None:
        """See one photo; threads may call this at the same time."""
        self._fingerprints.set(position, square.pixels)
        with self._lock:
            if min(square.width, square.height) * _MOST_ENLARGED < self.size:
                self._tiny[position] = square._replace(pixels=square.pixels[:0])
            if square.white is not None:
                self._white[position] = square.white

    def findings(self, problems: dict[int, str]) -> tuple[Finding, ...]:
        """All that was found, the most serious first.

        Args:
            problems: position in the folder's paths -> why it was not read.
        """
        folder = self.folder
        good = [i for i in range(len(folder.paths)) if i not in problems]
        classes = len(folder.class_names)
        copies = find_copies(self._places, folder.labels, self._fingerprints, good, classes)
        found: list[Finding] = []
        skipped = [(item, self._home(item.path)) for item in folder.skipped]
        skipped += [(Skipped(self._places[i], problems[i]), self._names((i,))) for i in problems]
        for item, names in sorted(skipped, key=lambda pair: str(pair[0].path)):
            found.append(Finding("skipped", (item.path,), names, item.reason))
        counts = [0] * classes
        for i in good:
            counts[folder.labels[i]] += 1
        found += self._few_photos(counts, self._alone(good, copies.distinct))
        for group in copies.across:
            exact = "the same file" if group.exact else "one photo or nearly"
            names = self._names(group.members)
            detail = f"{exact} under {len(names)} labels ({', '.join(map(repr, names))})"
            found.append(self._on_photos("two-labels", group.members, detail))
        for group in copies.within:
            kind: Kind = "same-file" if group.exact else "near-copy"
            detail = "the same bytes" if group.exact else "nearly alike"
            found.append(self._on_photos(kind, group.members, detail))
        for i, square in sorted(self._tiny.items()):
            seen = f"the model sees {self.size} x {self.size}"
            detail = f"{square.width} x {square.height} pixels, and {seen}"
            found.append(self._on_photos("tiny", (i,), detail))
        return (*found, *self._level(), *self._bit_depths())

    def _level(self) -> list[Finding]:
        """Class folders of folders alone that have the same names: these may be the classes.

        They need not be: photos of each thing by days look the same.
        """
        root, inner = self.folder.root, dict[str, Counter[str]]()
        for place, label in zip(self._places, self.folder.labels, strict=True):
            parts = place.relative_to(root).parts if place.is_relative_to(root) else ()
            name = self.folder.class_names[label]
            if len(parts) < 3 or parts[0] != name:
                return []
            inner.setdefault(name, Counter())[parts[1]] += 1
        times = Counter(name for names in inner.values() for name in names)
        again = sorted(name for name, number in times.items() if number > 1)
        meant = max(inner, key=lambda k: (len(inner[k]), inner[k].total()), default="")
        if (
            not again
            or len(inner[meant]) < 2
            or not all(set(again) & set(k) for k in inner.values())
        ):
            return []
        names = ", ".join(map(repr, again[:3])) + ", …" * (len(again) > 3)
        command = f"fewshot-lite adapt {shlex.quote(str(root / meant))}"
        if root.is_file():
            command = f"unpack the archive and give the folder {meant!r}"
        detail = f"have folders of the same names ({names}); if those are the classes: {command}"
        return [Finding("level", tuple(root / name for name in inner), tuple(inner), detail)]

    def _bit_depths(self) -> list[Finding]:
        """Grey photos that seem to have different bits: those of fewer come out dark."""
        whites = Counter(self._white.values())
        if len(whites) < 2:
            return []
        counts = ", ".join(f"{count} at {white:,}" for white, count in sorted(whites.items()))
        detail = f"white seems to be at different values ({counts}) and is taken to be "
        detail += f"{max(whites):,} in all, which leaves the others dark: if that is wrong, save "
        detail += "all with one"
        return [self._on_photos("bit-depth", tuple(sorted(self._white)), detail)]

    def _alone(self, good: Sequence[int], distinct: Sequence[int]) -> Sequence[int]:
        """Photos of each class, copies counted once; 1 of a class of one clip and nothing else."""
        if not self.folder.groups:
            return distinct
        seen = {(self.folder.labels[i], self.folder.groups[i]) for i in good}
        clips = Counter(label for label, _ in seen)
        return [1 if clips[k] == 1 else number for k, number in enumerate(distinct)]

    def _few_photos(self, counts: Sequence[int], distinct: Sequence[int]) -> list[Finding]:
        """Classes without photos or with one, and imbalance; of each class its photos."""
        names, root = self.folder.class_names, self.folder.root
        found = []
        if len(names) < 2:
            found.append(Finding("one-class", (root,), names, "one class: nothing to tell apart"))
        for name, count, different in zip(names, counts, distinct, strict=True):
            if count == 0:
                detail = "no photo in it can be read"
                found.append(Finding("no-photo", (root / name,), (name,), detail))
            elif different == 1:
                detail = "one photo only" if count == 1 else f"{count} copies of one photo"
                if count > 1 and self.folder.groups:
                    detail = f"one video only, {count} frames of it"
                found.append(Finding("one-photo", (root / name,), (name,), detail))
        shown = [k for k, count in enumerate(counts) if count]
        if shown:
            most, fewest = max(shown, key=counts.__getitem__), min(shown, key=counts.__getitem__)
            if counts[most] >= _IMBALANCE * counts[fewest]:
                detail = f"{counts[most]} photos of {names[most]!r}, "
                detail += f"{counts[fewest]} of {names[fewest]!r}"
                paths = (root / names[most], root / names[fewest])
                found.append(Finding("imbalance", paths, (names[most], names[fewest]), detail))
        return found

    def _on_photos(self, kind: Kind, members: tuple[int, ...], detail: str) -> Finding:
        paths = tuple(self._places[i] for i in members)
        return Finding(kind, paths, self._names(members), detail)

    def _names(self, members: tuple[int, ...]) -> tuple[str, ...]:
        labels = sorted({self.folder.labels[i] for i in members})
        return tuple(self.folder.class_names[label] for label in labels)

    def _home(self, path: Path) -> tuple[str, ...]:
        """The class in whose folder a file lies."""
        inside = path.relative_to(self.folder.root).parts
        known = inside[0] in self.folder.class_names
        return inside[:1] if known else ()


def check(
    folder: str | Path | LabelledImages,
    size: int = 128,
    *,
    labels: str | Path | None = None,
    on_done: OnDone | None = None,
    on_video: OnDone | None = None,
) -> tuple[Finding, ...]:
    """Look at a folder of photos and learn nothing from it.

    Args:
        folder: one folder of photos per class, or a ZIP archive of such; or what `find_labelled`
            found in it.
        size: side in pixels of what the model sees, for what is tiny.
        labels: a table of the photos in the folder instead (`images.labels_file`).
        on_done: called with (photos decoded, photos in all).
        on_video: called with (videos read, videos in all).

    Returns:
        What was found, the most serious first; empty if all is well.

    Raises:
        UsageError: the folder is missing, a file or unreadable.
        FewshotError: it has no class folders, or class names that cannot be told apart.
    """
    if not isinstance(folder, LabelledImages):
        folder = find_labelled(Path(folder), None if labels is None else Path(labels))
    folder = with_frames(folder, size, on_done=on_video)
    examiner, total = Examiner(folder, size), len(folder.paths)
    count = (lambda done: on_done(done, total)) if on_done else None
    return examiner.findings(look_through(folder.paths, size, examiner.look, on_done=count))
