"""A small ORBIT on disk, frames as JPEG and annotations as JSON, as the published one lies there.

`draw_orbit(root, {"test": {"P177": {"bag": {"clean": [60], "clutter": [55, 80]}}}})` draws a clean
video of 60 frames and two clutter videos.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from PIL import Image

#: kind of video -> frames of each
Videos = Mapping[str, Sequence[int]]
#: user -> object -> videos
Users = Mapping[str, Mapping[str, Videos]]

#: Two objects, each with a clean and a clutter video.
TWO: Mapping[str, Videos] = {
    "bag": {"clean": [40], "clutter": [52]},
    "keys": {"clean": [40], "clutter": [52]},
}


def video_name(user: str, thing: str, kind: str, number: int) -> str:
    """As ORBIT names videos: user, object, kind, and an identifier with hyphens in it."""
    return f"{user}--{thing}--{kind}--Zj_1-Hv{number}"


def frame_names(video: str, frames: int) -> list[str]:
    return [f"{video}-{number:05d}.jpg" for number in range(1, frames + 1)]


def draw_orbit(root: Path, modes: Mapping[str, Users]) -> Path:
    """Frames of all videos; each clutter and clean video annotated as showing its object."""
    for mode, users in modes.items():
        for user, things in users.items():
            for colour, (thing, videos) in enumerate(things.items()):
                for kind, lengths in videos.items():
                    (root / mode / user / thing / kind).mkdir(parents=True)
                    for number, frames in enumerate(lengths):
                        _draw_video(root, mode, user, thing, kind, number, frames, colour)
                (root / mode / user / thing).mkdir(parents=True, exist_ok=True)
    return root


def _draw_video(
    root: Path, mode: str, user: str, thing: str, kind: str, number: int, frames: int, colour: int
) -> None:
    name = video_name(user, thing, kind, number)
    folder = root / mode / user / thing / kind / name
    folder.mkdir()
    image = Image.new("RGB", (16, 16), (200 * (colour % 2), 90 * colour % 256, 10 * number))
    for frame in frame_names(name, frames):
        image.save(folder / frame)
    annotate(root, mode, name, frames)


def annotate(root: Path, mode: str, video: str, frames: int, absent: Collection[int] = ()) -> Path:
    """A video's annotation file; `absent` are numbers of frames without the object, from 1."""
    clutter = "--clutter--" in video
    entries = {}
    for number, frame in enumerate(frame_names(video, frames), start=1):
        gone = number in absent
        entries[frame] = {"object_not_present_issue": gone} | (
            {"object_bounding_box": None if gone else {"x": 0, "y": 9, "w": 540, "h": 300}}
            if clutter
            else {"framing_issue": None if gone else False, "blur_issue": None if gone else True}
        )
    path = root / "annotations" / mode / f"{video}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries))
    return path
