"""ORBIT for meta-training: a data set per user, whose classes are objects."""

from __future__ import annotations

from pathlib import Path

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.folders import ImageFolder, Skipped
from fewshot_lite.published.orbit.layout import (
    FRAME_CAP,
    FRAME_STRIDE,
    User,
    find_mode,
    read_users,
)


def scan_orbit(folder: Path, mode: str = "train") -> list[ImageFolder]:
    """Return a data set per user, whose tasks have clean support and clutter query frames.

    Every 30th of the first 1,000 frames of a video is taken (data/datasets.py of
    https://github.com/microsoft/ORBIT-Dataset, `uniform`). A task then draws shots from all of
    them, where the published code draws videos first and up to 10 frames of each.

    Args:
        folder: ORBIT's root, or a folder of users such as ROOT/train.
        mode: the split of the users, if `folder` is the root.

    Returns:
        A data set for each user with at least 2 objects that have clean and clutter frames. Videos
        and objects that are left out are in its `skipped`.

    Raises:
        UsageError: the folder is not ORBIT or lacks the mode.
        FewshotError: no user is left.
    """
    of_mode = find_mode(folder, mode)
    sets = [_data_set(of_mode.users, user) for user in read_users(of_mode)]
    usable = [data for data in sets if len(data.class_names) >= 2]
    if not usable:
        raise FewshotError(
            f"{of_mode.users}: no user has 2 objects with frames in clean and in clutter videos. "
            "Unpack ORBIT again; the copy seems incomplete."
        )
    return usable


def _data_set(users: Path, user: User) -> ImageFolder:
    root = users / user.name
    names: list[str] = []
    paths: list[Path] = []
    labels: list[int] = []
    groups: list[str] = []
    query_groups: list[str] = []
    skipped = [
        Skipped(video.folder, "a video without frames")
        for thing in user.objects
        for video in thing.videos
        if not video.frames
    ]
    for thing in user.objects:
        clean, clutter = ([v for v in side if v.frames] for side in (thing.clean, thing.clutter))
        if not clean or not clutter:
            kind = "clutter" if clean else "clean"
            skipped.append(Skipped(root / thing.name, f"an object without {kind} videos"))
            continue
        for video in clean + clutter:
            chosen = range(0, min(len(video.frames), FRAME_CAP), FRAME_STRIDE)
            paths += [video.path(frame) for frame in chosen]
            labels += [len(names)] * len(chosen)
            groups += [video.name] * len(chosen)
        query_groups += [video.name for video in clutter]
        names.append(thing.name)
    return ImageFolder(
        name=user.name,
        root=root,
        class_names=tuple(names),
        paths=tuple(paths),
        labels=tuple(labels),
        skipped=tuple(skipped),
        groups=tuple(groups),
        query_groups=frozenset(query_groups),
    )
