"""Check a folder of photos before adapting to it.

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

from fewshot_lite.core.config import COUNT, check_whole
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.files import as_path
from fewshot_lite.core.progress import OnDone
from fewshot_lite.images.clips import with_frames
from fewshot_lite.images.copies import find_copies
from fewshot_lite.images.decoding import look_through
from fewshot_lite.images.finding import find_labelled
from fewshot_lite.images.fingerprints import Fingerprints
from fewshot_lite.images.folders import LabelledImages, Skipped
from fewshot_lite.images.photo import Square, place_of

Kind = Literal[
    "skipped",  # an unreadable file, or not a photo
    "no-photo",  # a class without readable photos
    "one-class",  # nothing to distinguish
    "two-labels",  # one photo, or copies of it, in folders of different classes
    "same-file",  # identical bytes within a class
    "near-copy",  # re-saved, resized or slightly cropped copies within a class
    "tiny",  # far smaller than the model's input
    "one-photo",  # a class with one photo, or copies of one
    "level",  # class folders that contain the same folders, which may be the classes
    "imbalance",  # many times as many photos of one class as of another
    "bit-depth",  # grey photos of more than 8 bits with different estimated white levels
]

#: With these `adapt` leaves out files or fails; the others are for the user to judge.
SERIOUS = frozenset[Kind](["skipped", "no-photo", "one-class"])

#: A photo whose shorter side has to be enlarged by more than this factor is tiny.
_MOST_ENLARGED = 2
#: Ratio of the largest to the smallest class from which on they are imbalanced.
_IMBALANCE = 10


@dataclass(frozen=True)
class Finding:
    """One problem of a folder."""

    kind: Kind
    paths: tuple[Path, ...]
    """The files or class folders concerned."""
    classes: tuple[str, ...]
    """The classes concerned, each once; empty for files outside all class folders."""
    detail: str
    """A description without the paths."""


class StrictError(FewshotError):
    """A folder has problems where `--strict` allows none."""

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
    """Collects facts of a folder's photos as they are decoded, and then reports its findings.

        examiner = Examiner(folder, size)
        images, problems = decode_pixels(folder.paths, size, look=examiner.look)
        findings = examiner.findings(problems)

    It keeps about a kilobyte per photo.
    """

    def __init__(self, folder: LabelledImages, size: int) -> None:
        """Begin without photos; `size` is the side of the model's input in pixels."""
        self.folder = folder
        self._places = tuple(map(place_of, folder.paths))
        self.size = size
        self._fingerprints = Fingerprints(len(folder.paths))
        self._tiny: dict[int, Square] = {}
        self._white: dict[int, int] = {}
        self._lock = threading.Lock()

    def look(self, position: int, square: Square) -> None:
        """Take in one photo. Thread-safe."""
        self._fingerprints.set(position, square.pixels)
        with self._lock:
            if min(square.width, square.height) * _MOST_ENLARGED < self.size:
                self._tiny[position] = square._replace(pixels=square.pixels[:0])
            if square.white is not None:
                self._white[position] = square.white

    def findings(self, problems: dict[int, str]) -> tuple[Finding, ...]:
        """Return all findings, the most serious first.

        Args:
            problems: position in the folder's paths of an unreadable photo -> reason.
        """
        folder = self.folder
        good = [i for i in range(len(folder.paths)) if i not in problems]
        classes = len(folder.class_names)
        copies = find_copies(self._places, folder.labels, self._fingerprints, good, classes)
        findings: list[Finding] = []
        skipped = [(item, self._class_of(item.path)) for item in folder.skipped]
        skipped += [(Skipped(self._places[i], problems[i]), self._names((i,))) for i in problems]
        for item, names in sorted(skipped, key=lambda pair: str(pair[0].path)):
            findings.append(Finding("skipped", (item.path,), names, item.reason))
        counts = [0] * classes
        for i in good:
            counts[folder.labels[i]] += 1
        findings += self._few_photos(counts, self._independent(good, copies.distinct))
        for group in copies.across:
            exact = "the same file" if group.exact else "one photo or nearly"
            names = self._names(group.members)
            detail = f"{exact} under {len(names)} labels ({', '.join(map(repr, names))})"
            findings.append(self._on_photos("two-labels", group.members, detail))
        for group in copies.within:
            kind: Kind = "same-file" if group.exact else "near-copy"
            detail = "the same bytes" if group.exact else "nearly alike"
            findings.append(self._on_photos(kind, group.members, detail))
        for i, square in sorted(self._tiny.items()):
            detail = f"{square.width} x {square.height} pixels, "
            detail += f"and the model sees {self.size} x {self.size}"
            findings.append(self._on_photos("tiny", (i,), detail))
        return (*findings, *self._level(), *self._bit_depths())

    def _level(self) -> list[Finding]:
        """Report class folders that contain equally named folders and no photos.

        These may be the classes, but need not: photos of each object sorted by day look the same.
        """
        root, inner = self.folder.root, dict[str, Counter[str]]()
        for place, label in zip(self._places, self.folder.labels, strict=True):
            parts = place.relative_to(root).parts if place.is_relative_to(root) else ()
            name = self.folder.class_names[label]
            if len(parts) < 3 or parts[0] != name:
                return []
            inner.setdefault(name, Counter())[parts[1]] += 1
        times = Counter(name for names in inner.values() for name in names)
        shared = sorted(name for name, number in times.items() if number > 1)
        largest = max(inner, key=lambda k: (len(inner[k]), inner[k].total()), default="")
        if not shared or len(inner[largest]) < 2:
            return []
        if not all(set(shared) & set(names) for names in inner.values()):
            return []
        names = ", ".join(map(repr, shared[:3])) + ", …" * (len(shared) > 3)
        command = f"fewshot-lite adapt {shlex.quote(str(root / largest))}"
        if root.is_file():
            command = f"unpack the archive and give the folder {largest!r}"
        detail = f"have folders of the same names ({names}); if those are the classes: {command}"
        return [Finding("level", tuple(root / name for name in inner), tuple(inner), detail)]

    def _bit_depths(self) -> list[Finding]:
        """Report grey photos with different white levels: those with lower ones come out dark."""
        whites = Counter(self._white.values())
        if len(whites) < 2:
            return []
        counts = ", ".join(f"{count} at {white:,}" for white, count in sorted(whites.items()))
        detail = f"white seems to be at different values ({counts}) and is taken to be "
        detail += f"{max(whites):,} in all, which leaves the others dark: if that is wrong, save "
        detail += "all with one"
        return [self._on_photos("bit-depth", tuple(sorted(self._white)), detail)]

    def _independent(self, good: Sequence[int], distinct: Sequence[int]) -> Sequence[int]:
        """Return the distinct photos of each class, but 1 for a class of a single clip."""
        if not self.folder.groups:
            return distinct
        groups = {(self.folder.labels[i], self.folder.groups[i]) for i in good}
        clips = Counter(label for label, _ in groups)
        return [1 if clips[k] == 1 else number for k, number in enumerate(distinct)]

    def _few_photos(self, counts: Sequence[int], distinct: Sequence[int]) -> list[Finding]:
        """Report classes with no photo or one, and imbalance, from the photos of each class."""
        names, root = self.folder.class_names, self.folder.root
        findings = []
        if len(names) < 2:
            findings.append(
                Finding("one-class", (root,), names, "one class: nothing to tell apart")
            )
        for name, count, different in zip(names, counts, distinct, strict=True):
            if count == 0:
                detail = "no photo in it can be read"
                findings.append(Finding("no-photo", (root / name,), (name,), detail))
            elif different == 1:
                detail = "one photo only" if count == 1 else f"{count} copies of one photo"
                if count > 1 and self.folder.groups:
                    detail = f"one video only, {count} frames of it"
                findings.append(Finding("one-photo", (root / name,), (name,), detail))
        present = [k for k, count in enumerate(counts) if count]
        if present:
            most = max(present, key=counts.__getitem__)
            fewest = min(present, key=counts.__getitem__)
            if counts[most] >= _IMBALANCE * counts[fewest]:
                detail = f"{counts[most]} photos of {names[most]!r}, "
                detail += f"{counts[fewest]} of {names[fewest]!r}"
                paths = (root / names[most], root / names[fewest])
                findings.append(Finding("imbalance", paths, (names[most], names[fewest]), detail))
        return findings

    def _on_photos(self, kind: Kind, members: tuple[int, ...], detail: str) -> Finding:
        paths = tuple(self._places[i] for i in members)
        return Finding(kind, paths, self._names(members), detail)

    def _names(self, members: tuple[int, ...]) -> tuple[str, ...]:
        labels = sorted({self.folder.labels[i] for i in members})
        return tuple(self.folder.class_names[label] for label in labels)

    def _class_of(self, path: Path) -> tuple[str, ...]:
        """Return the class in whose folder a file lies, or ()."""
        parts = path.relative_to(self.folder.root).parts
        return parts[:1] if parts[0] in self.folder.class_names else ()


def check(
    folder: str | Path | LabelledImages,
    size: int = 128,
    *,
    labels: str | Path | None = None,
    on_done: OnDone | None = None,
    on_video: OnDone | None = None,
) -> tuple[Finding, ...]:
    """Check a folder of photos without adapting to it.

    Args:
        folder: one folder of photos per class, a ZIP archive of such, or `find_labelled`'s result.
        size: side of the model's input in pixels; far smaller photos are reported.
        labels: a table of the photos in the folder and their classes (`images.labels_file`).
        on_done: called with (photos decoded, photos in total).
        on_video: called with (videos read, videos in total).

    Returns:
        The findings, the most serious first; empty if there are none.

    Raises:
        UsageError: the folder is missing, a file or unreadable; a size below 1.
        FewshotError: it has no class folders, or class names that cannot be told apart.
    """
    check_whole("size", size, COUNT)
    if not isinstance(folder, LabelledImages):
        folder = find_labelled(
            as_path(folder, "folder"), None if labels is None else as_path(labels, "labels")
        )
    folder = with_frames(folder, size, on_done=on_video)
    examiner, total = Examiner(folder, size), len(folder.paths)
    count = (lambda done: on_done(done, total)) if on_done else None
    return examiner.findings(look_through(folder.paths, size, examiner.look, on_done=count))
