"""Replace videos among labelled photos by their frames, grouped by video."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fewshot_lite.images.folders import LabelledImages
from fewshot_lite.images.opening import PhotoError
from fewshot_lite.images.photo import Source, place_of
from fewshot_lite.images.videos import FRAMES, Frame, Unread, check_frames, draw_frames, is_video

#: Between a clip's name and a frame's time, as `Frame.__str__` writes it.
_AT = " at "


def with_frames(
    data: LabelledImages,
    size: int,
    number: int | None = None,
    *,
    on_done: Callable[[int, int], None] | None = None,
) -> LabelledImages:
    """Replace each video by frames of it.

    Frames of one video form a group, together with the photo of the same name beside it, as phones
    take both at once.

    Args:
        data: photos and videos.
        size: side of the frames in pixels.
        number: frames drawn from each video, near-duplicates then left out; `FRAMES` if None.
        on_done: called with (videos read, videos in total).

    Returns:
        `data` itself if it has no videos. An unreadable video becomes a source that raises the
        reason when it is read.

    Raises:
        UsageError: `number` is out of range.
    """
    if number is not None:
        check_frames(number)
    videos = [i for i, source in enumerate(data.paths) if is_video(source)]
    if not videos:
        return data
    keys = {_key(data.paths[i]) for i in videos}
    paths: list[Source] = []
    labels, groups = [], []
    done = 0
    for i, source in enumerate(data.paths):
        images: Sequence[Source] = (source,)
        key = _key(source)
        group = str(source) if key not in keys else key
        if i in videos:
            images, group = frames_of(source, size, number), key
            done += 1
            if on_done is not None:
                on_done(done, len(videos))
        paths += images
        labels += [data.labels[i]] * len(images)
        groups += [f"{data.labels[i]} {group}"] * len(images)
    names, places = data.class_names, tuple(paths)
    return LabelledImages(
        data.name, data.root, names, places, tuple(labels), data.skipped, tuple(groups)
    )


def frames_of(source: Source, size: int, number: int | None = None) -> list[Source]:
    """Return distinct frames of a video as sources, or an `Unread` if it cannot be read."""
    try:
        drawn = draw_frames(source, size, number or FRAMES, distinct=True)
    except PhotoError as error:
        return [Unread(str(source), str(error))]
    return [Frame(frame, str(source)) for frame in drawn]


def clip_of(name: str) -> str:
    """Return the clip's name from a frame's name; a photo's name unchanged."""
    clip, at, seconds = name.rpartition(_AT)
    return clip if at and seconds.endswith(" s") else name


def _key(source: Source) -> str:
    """Return the path without its ending, which a video shares with the photo beside it."""
    return str(place_of(source).with_suffix("")) if place_of(source).name else str(source)
