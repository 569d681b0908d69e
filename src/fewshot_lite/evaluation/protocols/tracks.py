"""Checks that tasks can be drawn with each track (of frames, of views) on one side only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.data.episodes import least_images
from fewshot_lite.images.folders import ImageFolder


def check_track_names(names: Sequence[str], folders: Sequence[ImageFolder]) -> None:
    """Raise UsageError for unknown data sets, and for those with files not named TRACK_FRAME."""
    known = {folder.name: folder for folder in folders}
    for name in names:
        if name not in known:
            there = ", ".join(known)
            raise UsageError(f"--tracks {name}: there is no such data set, only {there}.")
        odd = next((path for path in known[name].paths if "_" not in path.stem), None)
        if odd is not None:
            raise UsageError(
                f"--tracks {name}: {odd} is not named TRACK_FRAME, as in 00012_003.jpg. Rename "
                "the files, or leave the flag out."
            )


def check_tracks(folder: ImageFolder, kept: set[int], shot: int, queries: int, remedy: str) -> None:
    """Refuse a class that could leave a task with too few images on one side.

    Args:
        kept: indices of the readable images.
        shot: the most support images of a class in a task.
        queries: the most query images of a class in a task.
        remedy: a sentence for the message.

    Raises:
        FewshotError: there is such a class, which the message names.
    """
    for name, indices in zip(folder.class_names, folder.indices_by_class(), strict=True):
        tracks = Counter(folder.paths[i].stem.rpartition("_")[0] for i in indices if i in kept)
        support, query = least_images(list(tracks.values()), queries)
        place = f"{folder.root}: class {name!r} has {len(tracks)} tracks of {tracks.total()} photos"
        if query < queries:
            raise FewshotError(
                f"{place}, too few for {queries} queries from whole tracks. {remedy}"
            )
        if support < shot:
            raise FewshotError(
                f"{place}; those that {queries} queries leave may be only {support}, too few for "
                f"{shot} shots. {remedy}"
            )
