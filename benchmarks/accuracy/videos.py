"""Clips to adapt to: what they are worth beside single frames, and what is then expected.

    python -m benchmarks.accuracy.videos MODEL DATA/eth80 DATA/legobricks --frames 1,2,4,8,16 \\
        --tasks 20 --out videos.jsonl

A clip is an MPEG-4 file of the views of one object, each shown for 0.3 s: in eth80 the 16 views of
one of ten objects of a kind, and the kinds are the classes; elsewhere eight photos of a class, each
near the one before in its pixels. A task has some clips of each class to adapt to, with several
numbers of frames; 1 is the single frames to compare with. Held back are other clips (in eth80,
other objects), whose photos are named one by one, and which are named as clips.

Expected accuracy is that of `assess`, which leaves clips out; "ungrouped" is that of the same
features with each frame left out alone. Clips are named by the mean of their frames' logits (what
`classify` does), by the mean of probabilities and by one frame in the middle.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random
from statistics import fmean

import av
import numpy as np
import torch
from PIL import Image

from benchmarks.common import Row, RowLog, arguments, emit, say
from benchmarks.personal_tasks import deal
from fewshot_lite.core.intervals import half_width
from fewshot_lite.data.store import decode
from fewshot_lite.heads.base import SupportSet
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.images.photo import load_square
from fewshot_lite.images.videos import FRAMES, as_pixels, draw_frames
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.quality import assess

_SIDE, _VIEWS, _RATE, _HELD = 224, 8, 10, 3  # pixels, of a clip, frames a second, of a view
_ASKED = 10  # photos of a class that are named one by one


#: Of each class, files with the views in them.
Clips = dict[str, list[tuple[Path, list[Path]]]]


def write_clip(views: list[Path], path: Path) -> None:
    """The views one after the other, each for `_HELD` frames."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=_RATE, options={"qscale": "3"})
        stream.width = stream.height = _SIDE
        stream.pix_fmt = "yuv420p"
        for view in views:
            frame = av.VideoFrame.from_ndarray(load_square(view, _SIDE), format="rgb24")
            for _ in range(_HELD):
                file.mux(stream.encode(frame))
        file.mux(stream.encode())


def objects(data: Path) -> Iterator[tuple[str, list[Path]]]:
    """Classes with the views of one clip each, again and again."""
    folder = scan_classes(data)
    for name, rows in zip(folder.class_names, folder.indices_by_class(), strict=True):
        paths = [folder.paths[i] for i in rows]
        kind, _, number = name.rpartition("_")
        if data.name == "eth80" and number.isdigit():
            yield kind, sorted(paths, key=lambda path: path.stem.split("-")[::-1])  # by azimuth
            continue
        tour = _tour(paths)
        for start in range(0, len(tour) - _VIEWS + 1, _VIEWS):
            yield name, tour[start : start + _VIEWS]


def write_set(data: Path, place: Path) -> Clips:
    """The clips of each class, with their views."""
    clips: Clips = defaultdict(list)
    for number, (name, views) in enumerate(objects(data)):
        path = place / f"{data.name}-{number:03d}.mp4"
        write_clip(views, path)
        clips[name].append((path, views))
    return clips


def _tour(paths: list[Path]) -> list[Path]:
    """All photos, each followed by the nearest that is left."""
    small = {
        path: np.asarray(Image.open(path).convert("L").resize((16, 16)), float) for path in paths
    }
    found = [paths[0]]
    left = paths[1:]
    while left:
        last = small[found[-1]]
        nearest = min(left, key=lambda path: float(np.square(small[path] - last).sum()))
        found.append(nearest)
        left.remove(nearest)
    return found


def ungrouped(personal: PersonalModel) -> PersonalModel:
    """The same model as if its frames were photos, each left out alone."""
    number, views = personal.views.shape[:2]
    rows, labels, photos = personal.rows()
    as_is = torch.arange(number * views) % views == 0
    given = SupportSet(rows, labels, len(personal.class_names), photos, as_is)
    head = personal.head.recalibrated(given)
    return PersonalModel(personal.backbone, head, replace(personal.contents, groups=None))


def of_clips(personal: PersonalModel, clips: list[Path], truth: list[int]) -> Row:
    """The share of clips named right, by each way to put the frames together."""
    right: dict[str, list[float]] = defaultdict(list)
    for clip, label in zip(clips, truth, strict=True):
        pixels = torch.from_numpy(as_pixels(draw_frames(clip, personal.image_size, FRAMES)))
        found = personal.outputs(pixels).probabilities
        answers = {
            "mean of logits": found.clamp(min=1e-30).log().mean(0),
            "mean of probabilities": found.mean(0),
            "one frame": found[len(found) // 2],
        }
        for name, answer in answers.items():
            right[f"clips, {name}"].append(float(int(answer.argmax()) == label))
            chance = answer.softmax(0) if name == "mean of logits" else answer
            right[f"clips, loss, {name}"].append(-float(chance[label].clamp(min=1e-6).log()))
    return {name: fmean(values) for name, values in right.items()}


def run_task(
    model: MetaModel, clips: Clips, args: argparse.Namespace, number: int
) -> Iterator[Row]:
    rng = Random(f"{args.seed}/{number}")
    names = sorted(rng.sample(sorted(clips), min(args.way, len(clips))))
    drawn, held = [], []
    for name in names:
        drawn.append(rng.sample(clips[name], len(clips[name])))
        views = [view for _, group in drawn[-1][args.clips :][: args.queries] for view in group]
        held.append(rng.sample(views, min(_ASKED, len(views))))
    known, labels, asked, truth = deal(drawn, [args.clips] * len(names), args.queries)
    _, _, photos, photo_truth = deal(held, [0] * len(names))
    images, support = decode(photos, model.image_size)[0], [path for path, _ in known]
    of_support = [names[k] for k in labels]
    for frames in args.frames:
        personal = model.adapt(
            support, of_support, frames=frames, views=args.views, thumbnails=False
        ).accelerate()
        answers = personal.outputs(images).probabilities.argmax(1)
        quality, others = assess(personal), [path for path, _ in asked]
        yield {
            "frames": frames,
            "drawn": len(personal.labels) / len(support),
            "true": float((answers == torch.tensor(photo_truth)).double().mean()),
            "expected": quality.accuracy,
            "expected ungrouped": assess(ungrouped(personal)).accuracy,
            "expected of clips": quality.of_clips,
            **of_clips(personal, others, truth),
        }


def summed(rows: list[Row]) -> list[Row]:
    """Means over tasks with half of their 95 % intervals."""
    found = []
    for data, frames in sorted({(row["data"], row["frames"]) for row in rows}):
        chosen = [row for row in rows if (row["data"], row["frames"]) == (data, frames)]
        figures: Row = {"data": data, "frames": frames, "tasks": len(chosen)}
        for name in chosen[0]:
            values = [row[name] for row in chosen if row[name] is not None]
            if name not in ("data", "frames", "task") and values:
                figures[name] = [round(fmean(values), 4), round(half_width(values), 4)]
        for name in ("expected", "expected ungrouped"):
            errors = [abs(row[name] - row["true"]) for row in chosen]
            figures[f"error of {name}"] = round(fmean(errors), 4)
        found.append(figures)
    return found


def main() -> None:
    args = arguments(
        __doc__,
        "model",
        "data+",
        way=5,
        clips=(3, "a class, to adapt to"),
        queries=(2, "clips a class, held back"),
        frames=[1, 4, 8],
        tasks=12,
        views=(int, "of each frame, as adapt takes them"),
        seed=0,
        out=(Path, "goes on with what is in this file of rows"),
    )
    model = MetaModel.load(args.model)
    log = RowLog(args.out)
    done = {(row["data"], row["task"]) for row in log.rows}
    with tempfile.TemporaryDirectory() as place:
        sets = {data: write_set(data, Path(place)) for data in args.data}
        for task, (data, clips) in product(range(args.tasks), sets.items()):
            if (data.name, task) in done:
                continue
            about = {"data": data.name, "task": task}
            new = [about | row for row in run_task(model, clips, args, task)]
            log.add(new)
            say(data.name, task, *(f"{row['frames']}: {row['true']:.2f}" for row in new))
    emit("videos", vars(args), summed(log.rows))


if __name__ == "__main__":
    main()
