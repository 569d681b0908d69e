"""Whether tasks can be drawn with each track (of frames, of views) on one side of a task only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fewshot_lite.data.folders import ImageFolder
from fewshot_lite.errors import FewshotError, UsageError


def check_track_names(names: Sequence[str], folders: Sequence[ImageFolder]) -> None:
    """Refuse names that are no data set's, and data sets whose files are not TRACK_FRAME.

    Raises:
        UsageError: either.
    """
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
        kept: indices of the images that can be read.
        shot, queries: the most that a task takes of a class.
        remedy: a sentence for the message.

    Raises:
        FewshotError: naming the class.
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


def least_images(tracks: Sequence[int], queries: int) -> tuple[int, int]:
    """What a class has for support and for queries in the worst order of its tracks.

    Tracks are taken for queries in random order until there are enough, or one is left: see
    `data.episodes.Pool.two_sides`.

    Args:
        tracks: images of each track.
        queries: how many are wanted.
    """
    total = sum(tracks)
    query = total - max(tracks, default=0)
    most = 0  # that can be taken: nearly enough, and then one track more
    for last, size in enumerate(tracks):
        sums = 1  # bit n: some of the other tracks have n images together
        for number, other in enumerate(tracks):
            if number != last:
                sums |= sums << other & (1 << queries) - 1
        most = max(most, size + sums.bit_length() - 1)
    return total - most, query
