"""Read the support set to adapt to, from a folder of class folders or from images and labels."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from fewshot_lite import __version__
from fewshot_lite.core.config import COUNT, check_number
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.progress import OnDone
from fewshot_lite.core.text import DIFFER_ONLY, NO_CONTROLS, as_disks_see, is_hidden
from fewshot_lite.heads.in_numpy import Array
from fewshot_lite.images.bit_depths import WHITES, find_whites
from fewshot_lite.images.clips import clip_of, with_frames
from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.images.finding import find_labelled
from fewshot_lite.images.folders import LabelledImages, Skipped, first_reason
from fewshot_lite.images.inputs import Photo, as_sources, is_photo
from fewshot_lite.images.photo import Source, Square, place_of
from fewshot_lite.images.prefetch import decoded_batches
from fewshot_lite.images.preflight import Examiner, Finding, StrictError
from fewshot_lite.personal.file_contents import Contents
from fewshot_lite.personal.prediction import check_class_names

if TYPE_CHECKING:
    from torch import Tensor

#: Photos in a batch that is handed to `Reading.take`.
_BATCH = 16

#: Called with images (B, 3, S, S) of readable photos, in order, and the number of photos in all.
Take: TypeAlias = Callable[[npt.NDArray[np.uint8], int], None]
#: Called with the index of a photo and its square.
Look: TypeAlias = Callable[[int, Square], None]


@dataclass(frozen=True)
class Reading:
    """Options and callbacks of `read_support`."""

    frames: int | None = None
    """Frames to draw from each video (`images.clips`)."""
    strict: bool = False
    """Fail if anything is wrong with the photos; `images.preflight` lists what may be."""
    workers: int | None = None
    """Threads that decode; None: one a core and two more."""
    on_done: OnDone | None = None
    """Called with (photos decoded, photos in all)."""
    on_video: OnDone | None = None
    """Called with (videos read, videos in all)."""
    check_way: Callable[[str, int], None] | None = None
    """Called with the name of the source and the number of classes, before photos are read."""
    take: Take | None = None
    """Takes batches of images while others are decoded, so that not all are in memory; not called
    for a tensor of squares."""
    look: Look | None = None
    """Called for each photo that is decoded, in the decoding threads."""


@dataclass(frozen=True)
class Support:
    """A support set of N images of K classes, and its origin."""

    images: Tensor | npt.NDArray[np.uint8]
    """(N, 3, S, S), uint8 or float in [0, 1]; empty if `Reading.take` took them."""
    labels: tuple[int, ...]
    """N numbers of 0..K-1, every class present."""
    class_names: tuple[str, ...]
    root: Path | None = None
    """The folder they were read from."""
    paths: tuple[Path, ...] = ()
    """N files in it; a description for a photo that is no file."""
    skipped: tuple[Skipped, ...] = ()
    findings: tuple[Finding, ...] = ()
    """The problems of the folder."""
    groups: tuple[int, ...] = ()
    """N numbers, equal for frames of one clip; empty if each photo is alone."""
    whites: Mapping[str, float] = field(default_factory=dict)
    """The white levels of grey photos of more than 8 bits (`images.bit_depths`)."""
    seconds: float = 0.0
    """The duration of adapting to it, in `PersonalModel.adaptation`."""

    def adapted_to(self, start: float) -> Support:
        """Return `PersonalModel.adaptation`: without images; it began at this `perf_counter`."""
        seconds = time.perf_counter() - start
        return replace(self, images=np.empty((0, 3, 0, 0), np.uint8), seconds=seconds)

    @property
    def photos(self) -> tuple[str, ...]:
        """Names of the photos: class/file, distinct, with / and in valid Unicode on any system."""
        if self.root is not None:
            names = [path.relative_to(self.root).as_posix() for path in self.paths]
        else:
            homes = [self.class_names[label] for label in self.labels]
            names = [f"{home}/{path.name}" for home, path in zip(homes, self.paths, strict=False)]
        return distinct(os.fsencode(name).decode(errors="replace") for name in names)

    @cached_property
    def used(self) -> tuple[int, ...]:
        """Photos of each class."""
        count = Counter(self.labels)
        return tuple(count[k] for k in range(len(self.class_names)))

    @cached_property
    def clips(self) -> tuple[int, ...]:
        """Clips of each class."""
        clips = [set[int]() for _ in self.class_names]
        for label, group, path in zip(self.labels, self.groups, self.paths, strict=False):
            if clip_of(path.name) != path.name:
                clips[label].add(group)
        return tuple(map(len, clips))

    @cached_property
    def skipped_per_class(self) -> tuple[int, ...]:
        """Files that were skipped in each class's folder."""
        homes = [(self.root or Path()) / name for name in self.class_names]
        return tuple(sum(home in s.path.parents for s in self.skipped) for home in homes)


def contents_of(
    support: Support,
    image_size: int,
    features: Array,
    record: Mapping[str, Any],
    *,
    thumbnails: tuple[bytes, ...],
    digests: Iterable[int],
) -> Contents:
    """Return the contents of a personal model's file for a support set.

    Args:
        support: the support set.
        image_size: side of the images in pixels.
        features: float32 (N, V, d), by the adapted network, of the views of each photo.
        record: JSON-able record of base, head and views.
        thumbnails: N, or none.
        digests: N, as `images.decoding.digest_of` gives them.
    """
    whites = {WHITES: dict(support.whites)} if support.whites else {}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return Contents(
        support.class_names,
        image_size,
        {**record, **whites, "version": __version__, "created": date},
        features,
        np.array(support.labels, np.int64),
        support.photos,
        thumbnails=thumbnails,
        groups=np.array(support.groups, np.int64) if support.groups else None,
        digests=np.array(list(digests), np.int64),
    )


#: A folder of class folders; photos that have a label each; or squares.
Photos: TypeAlias = "str | os.PathLike[str] | Tensor | Iterable[Photo]"
#: A label for each photo; or the file of a table of files and labels.
Labels: TypeAlias = "Iterable[object] | str | os.PathLike[str]"


def read_support(photos: Photos, labels: Labels | None, size: int, reading: Reading) -> Support:
    """Read a support set.

    Args:
        photos: a folder, or a ZIP archive, with one folder of photos per class; or N photos in any
            forms (`images.inputs.Photo`); or their squares, (N, 3, S, S), used as they are.
        labels: N class names; anything else than a string, e.g. a number, is named by its `str`.
            For a folder of photos a table of files and labels (`images.labels_file`); None for
            class folders.
        size: S, side of the images.
        reading: options and callbacks.

    Raises:
        UsageError, FewshotError: fewer than two classes with photos, another number of labels,
            invalid names, or a value that is no photo. Files that cannot be read are skipped, and
            so are classes without any other.
        StrictError: something is wrong with the photos, and `strict` is set.
    """
    images: LabelledImages
    root = None
    if reading.workers is not None:
        check_number("--workers", reading.workers, COUNT)
    if isinstance(photos, str | os.PathLike):
        if labels is not None and not isinstance(labels, str | os.PathLike):
            raise UsageError("labels: for photos only; a folder's class folders name them.")
        images = find_labelled(Path(photos), None if labels is None else Path(labels))
        root = images.root if labels is None else None
    elif labels is None:
        raise UsageError("labels: missing. Give a class name for each of the photos.")
    elif _is_tensor(photos) and tuple(photos.shape[1:]) == (3, size, size):
        return _from_squares(photos, labels)
    elif is_photo(photos):
        raise UsageError("photos: one photo. Give several, as a list, and their labels.")
    else:
        images = _labelled(photos, labels)
    if reading.check_way is not None:
        reading.check_way(_spelled(images), len(images.class_names))
    images = with_frames(images, size, reading.frames, on_done=reading.on_video)
    return replace(_read(images, size, reading), root=root)


def _is_tensor(photos: object) -> TypeGuard[Tensor]:
    return hasattr(photos, "detach") and hasattr(photos, "cpu")


def _labelled(photos: Iterable[Photo], labels: Labels) -> LabelledImages:
    sources = tuple(as_sources(photos))
    label_of_each = class_names_of(labels, len(sources))
    names = distinct_names(label_of_each)
    numbers = tuple(names.index(name) for name in label_of_each)
    return LabelledImages("photos", Path(), names, sources, numbers)


def class_names_of(labels: Labels, photos: int) -> list[str]:
    """Convert labels of any kind, also tensors and arrays, to a class name for each photo.

    Raises:
        UsageError: another number of labels; bytes or a container among them; two that differ, as 1
            and "1" do, but would have the same name; two that are equal, as 1 and 1.0 are, but
            would have different names.
    """
    if isinstance(labels, str | os.PathLike):
        raise UsageError(f"labels: {str(labels)!r} is one. Give as many as there are photos.")
    if not isinstance(labels, Iterable):
        raise UsageError(f"labels: {labels!r}. Give a class name for each of the photos.")
    to_list = getattr(labels, "tolist", None)
    names = list(to_list() if to_list is not None else labels)
    if any(label is None or label != label for label in names):  # NaN is not itself
        raise UsageError("labels: one is missing (None or NaN). Give one for each photo.")
    if len(names) != photos:
        raise UsageError(f"labels: {len(names)} class names for {photos} photos.")
    return _as_names(names)


def _as_names(labels: Iterable[Any]) -> list[str]:
    by_name: dict[str, Any] = {}
    by_label: dict[Any, str] = {}
    names = []
    for number, given in enumerate(labels):
        label = given.item() if getattr(given, "shape", None) == () else given
        if isinstance(label, bytes | bytearray | memoryview):
            raise UsageError(f"labels: labels[{number}] is bytes. Give text: label.decode().")
        if isinstance(label, Sequence | Set | Mapping | np.ndarray) and not isinstance(label, str):
            raise UsageError(
                f"labels: labels[{number}] is a {type(label).__name__}. Give a name or a number "
                "for each photo."
            )
        name = str(label)
        if any(map(is_hidden, name.encode(errors="replace").decode())):
            raise UsageError(f"labels: labels[{number}] is {name!r}. {NO_CONTROLS}")
        twin = by_name.setdefault(name, label)
        if (
            isinstance(twin, str) != isinstance(label, str)
            or by_label.setdefault(label, name) != name
        ):
            raise UsageError(
                f"labels: labels of several types, among them {type(label).__name__} for {name!r}. "
                "Give all of one type, e.g. text."
            )
        names.append(name)
    return names


def distinct_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct labels in alphabetical order.

    Raises:
        UsageError: one is blank or "unknown", or two differ only in case, spaces or accents.
    """
    names = tuple(sorted(set(labels)))
    check_class_names(names, "labels")
    seen: dict[str, str] = {}
    for name in names:
        if (twin := seen.setdefault(as_disks_see(name), name)) != name:
            raise UsageError(f"labels: {twin!r} and {name!r} {DIFFER_ONLY}. Spell them alike.")
    return names


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Number repeated names: "a", "a (2)"."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(numbered)


def _read(folder: LabelledImages, size: int, reading: Reading) -> Support:
    check_class_names(folder.class_names, _spelled(folder))
    if not folder.class_names:
        raise FewshotError(f"{_spelled(folder)}: none were given. Two classes at least are needed.")
    if len(folder.class_names) == 1:
        raise FewshotError(
            f"{_spelled(folder)}: one class only ({folder.class_names[0]!r}), so there is nothing "
            f"to tell apart{first_reason(folder.skipped)}. Add photos of something else."
        )
    places, whites = tuple(map(place_of, folder.paths)), find_whites(folder.paths)
    examiner = Examiner(folder, size)

    def look(position: int, square: Square) -> None:
        examiner.look(position, square)
        if reading.look is not None:
            reading.look(position, square)

    images, problems = _decode(folder.paths, size, reading, look, whites)
    skipped = [*folder.skipped, *(Skipped(places[i], why) for i, why in problems.items())]
    good = [i for i in range(len(places)) if i not in problems]
    kept = sorted({folder.labels[i] for i in good})  # classes with a photo
    for number, name in enumerate(folder.class_names):
        if number not in kept:
            empty = folder.root / name
            unreadable = {places[i] for i in problems if folder.labels[i] == number}
            why = next(
                (s for s in skipped if s.path in unreadable or empty in s.path.parents), None
            )
            detail = f" ({why.path.name}: {why.reason})" if why else ""
            skipped.append(Skipped(empty, f"no photo in it can be read{detail}: left out"))
    if len(kept) < 2:
        raise FewshotError(
            f"{empty}: no photo in it can be read{detail}. "
            f"{'Mend that' if detail else 'Put photos in'}: two classes with photos at least are "
            "needed."
        )
    findings, numbers = examiner.findings(problems), dict[str, int]()
    if reading.strict and findings:
        raise StrictError(folder.root, findings)
    return Support(
        images[good] if problems and reading.take is None else images,
        tuple(kept.index(folder.labels[i]) for i in good),
        tuple(folder.class_names[k] for k in kept),
        folder.root,
        tuple(places[i] for i in good),
        tuple(sorted(skipped, key=lambda s: str(s.path))),
        findings,
        tuple(numbers.setdefault(folder.groups[i], len(numbers)) for i in good if folder.groups),
        whites,
    )


def _decode(
    paths: Sequence[Source], size: int, reading: Reading, look: Look, whites: Mapping[str, float]
) -> tuple[npt.NDArray[np.uint8], dict[int, str]]:
    """Return all images, or none if `Reading.take` takes them, and the problems of others."""
    total, on_done, workers = len(paths), reading.on_done, reading.workers
    count = (lambda n: on_done(n, total)) if on_done else None
    if reading.take is None:
        return decode_pixels(paths, size, workers=workers, look=look, on_done=count, whites=whites)
    problems: dict[int, str] = {}
    batches = decoded_batches(paths, size, batch=_BATCH, workers=workers, look=look, whites=whites)
    with contextlib.closing(batches):
        for first, batch in zip(range(0, total, _BATCH), batches, strict=True):
            problems |= {first + i: why for i, why in batch.problems.items()}
            if len(batch.pixels):
                reading.take(batch.pixels, total)
            if count is not None:
                count(first + len(batch.paths))
    return np.empty((0, 3, size, size), np.uint8), problems


def _spelled(folder: LabelledImages) -> str:
    """Return the name of the folder, or of the argument, for messages."""
    return str(folder.root) if folder.root != Path() else folder.name


def _from_squares(images: Tensor, labels: Labels) -> Support:
    """Make a support set of images (N, 3, S, S), uint8 or float in [0, 1], and N class names.

    Raises:
        UsageError: values out of range, another number of names, or invalid names.
        FewshotError: one class only.
    """
    import torch  # the images are tensors, so it was imported already

    label_of_each = class_names_of(labels, len(images))
    if images.dtype != torch.uint8:
        images = images.float()
        if not bool(((images >= -0.5) & (images <= 1.5)).all()):  # resizing may overshoot a little
            raise UsageError("images: give uint8 in 0..255, or floats in [0, 1].")
    names = distinct_names(label_of_each)
    if len(names) < 2:
        raise FewshotError("One class only: there is nothing to tell apart. Give at least two.")
    return Support(images, tuple(names.index(name) for name in label_of_each), names)
