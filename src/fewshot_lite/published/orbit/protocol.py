"""ORBIT's protocol: models adapt to a user's clean videos and classify the clutter videos.

The rules of 2022 are those of "Testing protocol (updated Dec 2022)" in the README of
https://github.com/microsoft/ORBIT-Dataset and of its data/datasets.py; those of 2021 are of the
paper (Massiceti et al. 2021, section 5). Where the two sources differ, or this code from both, the
protocol's `notes` say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import torch

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol, EvaluationTask
from fewshot_lite.images.photo import Source
from fewshot_lite.published.orbit.annotations import frames_with_object, require_annotations
from fewshot_lite.published.orbit.layout import (
    FRAME_CAP,
    FRAME_STRIDE,
    User,
    Video,
    find_mode,
    read_users,
)

#: The most videos of an object, as in the published code.
VIDEO_CAP = 15

#: The most support frames of a video where they are drawn at random.
RANDOM_FRAMES = 10

_T = TypeVar("_T")

#: The sampling of the support frames of a clean video.
Support = Literal["uniform", "random"]

Metric = Literal["frame_accuracy", "frames_to_recognition", "video_accuracy"]


@dataclass(frozen=True)
class OrbitRules:
    """The rules of one version of the protocol."""

    name: str
    tasks_per_user: int
    support: Support
    """Every 30th frame of a clean video ("uniform"), or 1 to 10 random ones ("random")."""
    query_frames: int | None
    """The number of frames drawn from each query video; None for all."""
    object_present: bool
    """Whether query frames must be annotated as showing the object."""
    least_frames: int
    """The least number of usable frames of a query video."""
    metrics: tuple[Metric, ...]
    """The metrics that are sound: frames to recognition needs consecutive frames."""
    pooled: bool
    """Whether a user's score is over all of the user's frames, or the mean over the videos."""


RULES = {
    "2022": OrbitRules(
        name="ORBIT 2022",
        tasks_per_user=50,
        support="uniform",
        query_frames=200,
        object_present=True,
        least_frames=50,
        metrics=("frame_accuracy",),
        pooled=True,
    ),
    "2021": OrbitRules(
        name="ORBIT 2021",
        tasks_per_user=5,
        support="random",
        query_frames=None,
        object_present=False,
        least_frames=1,
        metrics=("frame_accuracy", "frames_to_recognition", "video_accuracy"),
        pooled=False,
    ),
}


@dataclass(frozen=True)
class _Object:
    """An object with the videos that tasks draw from."""

    name: str
    support: tuple[Video, ...]
    query: tuple[tuple[Video, tuple[int, ...]], ...]
    """Each query video with the positions of its usable frames."""


class OrbitProtocol(EvaluationProtocol):
    """ORBIT's tasks, each of one user with all of the user's objects."""

    normal_intervals = True

    def __init__(
        self,
        root: Path,
        rules: OrbitRules = RULES["2022"],
        *,
        mode: str = "test",
        all_frames: bool = False,
        tasks_per_user: int | None = None,
        seed: int = 0,
    ) -> None:
        """List the users' videos and frames, without decoding any.

        Args:
            root: ORBIT's root, or a folder of users such as ROOT/test.
            rules: a version of the protocol (`RULES`).
            mode: the split of the users, if `root` is ORBIT's root.
            all_frames: keep frames that do not show the object, which needs no annotations.
            tasks_per_user: overrides the protocol's number.
            seed: the seed of the draws.

        Raises:
            UsageError: not ORBIT, the mode is missing, or no tasks.
            FewshotError: annotations are missing or damaged, or no user can be evaluated.
        """
        self.rules = rules
        self.tasks_per_user = rules.tasks_per_user if tasks_per_user is None else tasks_per_user
        if self.tasks_per_user < 1:
            raise UsageError(f"--tasks {self.tasks_per_user}: at least one a user.")
        self._folder = find_mode(root, mode)
        self._seed = seed
        self._filter = rules.object_present and not all_frames
        if self._filter:
            require_annotations(self._folder.annotations)
        self._omissions: list[str] = []
        users = {user.name: self._objects(user) for user in read_users(self._folder)}
        self._users: dict[str, list[_Object]] = {}
        for user, objects in users.items():
            if len(objects) >= 2:
                self._users[user] = objects
            else:
                self._omissions.append(
                    f"User {user} left out: {_count_objects(objects)}; a task needs 2."
                )
        if not self._users:
            raise FewshotError(
                f"{self._folder.users}: no user has 2 objects with clean videos and clutter videos "
                f"to evaluate on. {' '.join(self._omissions[:3])} Complete the data set; "
                "`fewshot-lite data check` names all that is missing."
            )
        self.classes = {
            user: [thing.name for thing in objects] for user, objects in self._users.items()
        }

    @property
    def name(self) -> str:
        """The name in tables."""
        return f"{self.rules.name} (clutter videos, {self._folder.mode} users)"

    @property
    def groups(self) -> Sequence[str]:
        """The users with at least 2 objects."""
        return tuple(self._users)

    @property
    def notes(self) -> Sequence[str]:
        """Notes on departures from the published protocol, and on what was left out."""
        return (*self._departures(), *self._omissions)

    def __len__(self) -> int:
        """Return the number of tasks of all users."""
        return len(self._users) * self.tasks_per_user

    def task(self, number: int) -> EvaluationTask:
        """Return task 0..len-1; `query_parts` are names of videos, frames are in order of time."""
        user = self.groups[number // self.tasks_per_user]
        objects = self._users[user]
        draw = generator(self._seed, Stream.ORBIT_TASKS, number)
        support: list[tuple[Source, int]] = []
        query: list[tuple[Source, int]] = []
        videos: list[str] = []
        for label, thing in enumerate(objects):
            for video in _up_to(VIDEO_CAP, thing.support, draw):
                support += [(video.path(f), label) for f in self._support_frames(video, draw)]
            for video, usable in _up_to(VIDEO_CAP, thing.query, draw):
                frames = usable[:FRAME_CAP]
                chosen = _up_to(self.rules.query_frames or FRAME_CAP, frames, draw)
                query += [(video.path(f), label) for f in chosen]
                videos += [video.name] * len(chosen)
        return EvaluationTask.of(user, (thing.name for thing in objects), support, query, videos)

    def _support_frames(self, video: Video, draw: torch.Generator) -> Sequence[int]:
        frames = range(min(len(video.frames), FRAME_CAP))
        if self.rules.support == "uniform":
            return frames[::FRAME_STRIDE]
        most = min(len(frames), RANDOM_FRAMES)
        return _up_to(int(torch.randint(1, most + 1, (), generator=draw)), frames, draw)

    def _objects(self, user: User) -> list[_Object]:
        """Return the objects with usable clean and clutter videos, noting those left out."""
        usable = []
        for thing in user.objects:
            place = f"{user.name}/{thing.name}"
            clean = tuple(video for video in thing.clean if video.frames)
            query = tuple(pair for video in thing.clutter if (pair := self._usable(video)))
            if clean and query:
                usable.append(_Object(thing.name, clean, query))
                continue
            kind = "clutter" if clean else "clean"
            self._omissions.append(f"{place} left out: no {kind} videos with enough frames.")
        return usable

    def _usable(self, video: Video) -> tuple[Video, tuple[int, ...]] | None:
        """Return a query video with its usable frames; None, with a note, if they are too few."""
        if not video.frames:
            frames: list[int] = []
        elif self._filter:
            frames = frames_with_object(video, self._folder.annotations)
        else:
            frames = list(range(len(video.frames)))
        if len(frames) >= self.rules.least_frames:
            return video, tuple(frames)
        self._omissions.append(
            f"Video {video.name} left out: {len(frames)} of its {len(video.frames)} frames can be "
            f"used, fewer than {self.rules.least_frames}."
        )
        return None

    def _departures(self) -> list[str]:
        frames = {
            "uniform": f"every {FRAME_STRIDE}th of a clean video",
            "random": f"1 to {RANDOM_FRAMES} random ones of a clean video",
        }[self.rules.support]
        notes = [
            f"Users: {len(self._users)}; tasks of each: {self.tasks_per_user}; support frames: "
            f"{frames}.",
            f"Frames after the first {FRAME_CAP} usable ones of a video and videos beyond "
            f"{VIDEO_CAP} of an object are not used, as in the published code; each frame is "
            "classified by itself.",
        ]
        if self.tasks_per_user != self.rules.tasks_per_user:
            notes.append(
                f"Departs: tasks a user: {self.tasks_per_user}, not {self.rules.tasks_per_user}."
            )
        if self.rules.object_present and not self._filter:
            notes.append("Departs: frames that do not show the object are evaluated too.")
        if self.rules is RULES["2021"]:
            notes.append(
                "Departs: the first baselines averaged the features of 8 frames in a row; here a "
                "clip is one frame."
            )
        return notes


def _count_objects(objects: Sequence[_Object]) -> str:
    return f"{len(objects)} usable object{'' if len(objects) == 1 else 's'}"


def _up_to(most: int, items: Sequence[_T], draw: torch.Generator) -> Sequence[_T]:
    """Return all items, or `most` drawn at random, in their order."""
    if len(items) <= most:
        return items
    chosen = torch.randperm(len(items), generator=draw)[:most].sort().values
    return [items[i] for i in chosen.tolist()]
