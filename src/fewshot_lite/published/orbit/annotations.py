"""ORBIT's extra annotations of the frames that show the object.

There is a file for each video, {"VIDEO-00001.jpg": {"object_not_present_issue": false, ...}, ...}:
see "Extra annotations" in the README of https://github.com/microsoft/ORBIT-Dataset.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.published.orbit.layout import Video

_ABSENT = "object_not_present_issue"

_WHERE_FROM = (
    "Unpack orbit_extra_annotations.zip of github.com/microsoft/ORBIT-Dataset (folder data) into "
    "{folder}, or evaluate all frames with --all-frames, which is not the published protocol."
)


def annotation_file(folder: Path, video: Video) -> Path:
    """Return the file of a video's annotations in ROOT/annotations/MODE."""
    return folder / f"{video.name}.json"


def require_annotations(folder: Path) -> None:
    """Raise FewshotError if the folder of annotations is missing."""
    if not folder.is_dir():
        raise FewshotError(
            f"{folder}: no annotations, so frames without the object cannot be left out. "
            + _WHERE_FROM.format(folder=folder.parent)
        )


def frames_with_object(video: Video, folder: Path) -> list[int]:
    """Return the positions of a video's frames that are annotated as showing the object.

    Only frames whose `object_not_present_issue` is false are kept, as in the published code, and so
    none without an annotation (null).

    Args:
        video: the video.
        folder: ROOT/annotations/MODE.

    Raises:
        FewshotError: the file is missing, is no such JSON, or lacks a frame.
    """
    path = annotation_file(folder, video)
    annotations = _read(path)
    present = []
    for position, frame in enumerate(video.frames):
        entry = annotations.get(frame)
        if not isinstance(entry, dict) or _ABSENT not in entry:
            raise FewshotError(
                f"{path}: no {_ABSENT!r} for the frame {frame} of {video.folder}. Frames and "
                "annotations must be of the same release of ORBIT."
            )
        if entry[_ABSENT] is False:
            present.append(position)
    return present


def _read(path: Path) -> dict[str, Any]:
    try:
        annotations = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FewshotError(
            f"{path}: missing. " + _WHERE_FROM.format(folder=path.parents[1])
        ) from None
    except OSError as error:
        raise FewshotError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError):  # not JSON, not Unicode, nested without end
        raise FewshotError(
            f"{path}: not valid JSON, perhaps cut short. Unpack orbit_extra_annotations.zip again."
        ) from None
    if not isinstance(annotations, dict):
        raise FewshotError(f"{path}: not ORBIT's annotations: an object with a key a frame.")
    return annotations
