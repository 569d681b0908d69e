"""The summary of ORBIT for `data check`."""

from __future__ import annotations

import contextlib
from pathlib import Path

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.opening import PhotoError, opened
from fewshot_lite.published.orbit.annotations import annotation_file, frames_with_object
from fewshot_lite.published.orbit.layout import OrbitFolder, User, Video, find_orbit, read_users
from fewshot_lite.published.summary import DataSet, Summary

#: Users of the published benchmark (table A.2 of the paper).
PUBLISHED_USERS = {"train": 44, "validation": 6, "test": 17}

#: The most annotation files that are named.
_NAMED = 3


def describe(root: Path) -> Summary | None:
    """Summarise users, objects, frames and faults of each mode; None if the folder is not ORBIT.

    Frames are counted, and only the first and the last of each mode are opened.

    Raises:
        FewshotError: a folder that cannot be read.
    """
    modes = find_orbit(root)
    if not modes:
        return None
    data_sets, problems, notes = [], [], []
    mode_of: dict[str, str] = {}
    for folder in modes.values():
        users = read_users(folder)
        problems += [
            f"{folder.users / user.name}: the splits overlap, this user is in {mode_of[user.name]} "
            "too, and would be trained on and tested. Leave it in one."
            for user in users
            if user.name in mode_of
        ]
        mode_of |= {user.name: folder.mode for user in users}
        data_sets.append(_data_set(folder, users))
        problems += _incomplete(folder, users) + _annotations(folder, users)
        videos = [video for user in users for thing in user.objects for video in thing.videos]
        notes.append(f"{folder.mode}: {len(users)} users, {len(videos)} videos.")
        published = PUBLISHED_USERS.get(folder.mode, len(users))
        if len(users) != published:
            notes.append(f"{folder.mode}: the published benchmark has {published} users.")
    return Summary("ORBIT", root, tuple(data_sets), tuple(problems), tuple(notes))


def _data_set(folder: OrbitFolder, users: list[User]) -> DataSet:
    objects = [thing for user in users for thing in user.objects]
    clean = sum(len(video.frames) for thing in objects for video in thing.clean)
    clutter = sum(len(video.frames) for thing in objects for video in thing.clutter)
    return DataSet(
        name=folder.mode,
        classes=len(objects),
        images=clean + clutter,
        splits=(("clean", clean), ("clutter", clutter)),
        sizes=_sizes([video for thing in objects for video in thing.videos if video.frames]),
    )


def _sizes(videos: list[Video]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return the smaller and the larger size of two frames; a release has a single size."""
    sizes = []
    for video in {video.folder: video for video in (*videos[:1], *videos[-1:])}.values():
        with contextlib.suppress(PhotoError), opened(video.path(0)) as image:
            sizes.append(image.size)
    return (min(sizes), max(sizes)) if sizes else None


def _incomplete(folder: OrbitFolder, users: list[User]) -> list[str]:
    problems = []
    for user in users:
        place = folder.users / user.name
        if len(user.objects) < 2:
            problems.append(
                f"{place}: {len(user.objects)} object; a task needs 2. The user is left out."
            )
        for thing in user.objects:
            for kind, videos in (("clean", thing.clean), ("clutter", thing.clutter)):
                if not any(video.frames for video in videos):
                    problems.append(
                        f"{place / thing.name}: no {kind} videos with frames. The object is left "
                        "out."
                    )
                problems += [
                    f"{video.folder}: no frames. The video is left out."
                    for video in videos
                    if not video.frames and any(other.frames for other in videos)
                ]
    return problems


def _annotations(folder: OrbitFolder, users: list[User]) -> list[str]:
    """Name missing and damaged annotations of clutter videos; those of others are not used."""
    if not folder.annotations.is_dir():
        return [
            f"{folder.annotations}: no annotations; evaluation needs them, or --all-frames. Unpack "
            f"orbit_extra_annotations.zip into {folder.annotations.parent}."
        ]
    problems = []
    for video in (v for user in users for thing in user.objects for v in thing.clutter):
        path = annotation_file(folder.annotations, video)
        if not path.is_file():
            problems.append(f"{path}: missing; evaluation needs it, or --all-frames.")
            continue
        try:
            frames_with_object(video, folder.annotations)
        except FewshotError as error:
            problems.append(str(error))
    more = len(problems) - _NAMED
    if more > 0:
        are = "is" if more == 1 else "are"
        rest = f"{folder.annotations}: {more} more annotation files {are} missing or damaged."
        problems[_NAMED:] = [rest]
    return problems
