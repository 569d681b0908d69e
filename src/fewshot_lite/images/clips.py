"""Videos among the photos of classes: each in place of its frames, which belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fewshot_lite.images.folders import LabelledImages
from fewshot_lite.images.opening import PhotoError
from fewshot_lite.images.photo import Source, place_of
from fewshot_lite.images.videos import FRAMES, Frame, Unread, check_frames, draw_frames, is_video

#: What `frame_name` puts between a clip's name and the time of a frame.
_AT = " at "


def with_frames(
    data: LabelledImages,
    size: int,
    number: int | None = None,
    *,
    on_done: Callable[[int, int], None] | None = None,
) -> LabelledImages:
    """The same photos, with frames in the place of videos.

    Frames of one video are one group. So are a video and the photo of the same name beside it,
    which telephones take together.

    Args:
        data: photos and videos.
        size: side of the frames in pixels.
        number: of frames of each video, nearly alike ones among them left out; `FRAMES` if None.
        on_done: called with (videos read, videos in all).

    Returns:
        `data` itself if there is no video in it. One that cannot be read has an entry that says
        why when it is read.

    Raises:
        UsageError: a number of frames that cannot be drawn.
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
        found: Sequence[Source] = (source,)
        key = _key(source)
        group = str(source) if key not in keys else key
        if i in videos:
            found, group = frames_of(source, size, number), key
            done += 1
            if on_done is not None:
                on_done(done, len(videos))
        paths += found
        labels += [data.labels[i]] * len(found)
        groups += [f"{data.labels[i]} {group}"] * len(found)
    return LabelledImages(
        data.name,
        data.root,
        data.class_names,
        tuple(paths),
        tuple(labels),
        data.skipped,
        tuple(groups),
    )


def frames_of(source: Source, size: int, number: int | None = None) -> list[Source]:
    """Frames of a video as sources, near copies left out; if it cannot be read, what says why."""
    try:
        drawn = draw_frames(source, size, number or FRAMES, distinct=True)
    except PhotoError as error:
        return [Unread(str(source), str(error))]
    return [Frame(frame, str(source)) for frame in drawn]


def clip_of(name: str) -> str:
    """The name of the clip that a frame is of, by the frame's own; a photo's is its own."""
    clip, at, seconds = name.rpartition(_AT)
    return clip if at and seconds.endswith(" s") else name


def _key(source: Source) -> str:
    """What a video and the photo beside it have in common: the place without the ending."""
    return str(place_of(source).with_suffix("")) if place_of(source).name else str(source)
