"""What reports cost, and whether the reasons they show are of the class that was answered.

    python -m benchmarks.accuracy.reasons DATA/clothing DATA/eth80 DATA/trashnet DATA/sign-digits

For each data set 8 photos of each of up to 10 classes are adapted to and 8 others named:

- bytes and seconds of thumbnails for the photos adapted to, and those of the model and of adapting;
- bytes and seconds of both pages;
- "reasons": of the queries, the share whose likest support photo is of the class that was answered,
  with the likeness that reports use and with the plain cosine of the features.

`--answers 10000` then makes a report of so many answers, the queries again and again.

`--draw FOLDER` instead draws a folder with a few things wrong. The picture in the README is

    python -m benchmarks.accuracy.reasons --draw my_objects
    fewshot-lite adapt my_objects --report report.html
    chromium --headless --window-size=1000,1480 --screenshot=report.png report.html

with its colours brought down to 256.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.common import emit
from fewshot_lite.data.store import decode
from fewshot_lite.demo.drawings import write_folder
from fewshot_lite.images.thumbnails import make_thumbnails
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.model import PersonalModel
from fewshot_lite.personal.report.adapting import adapt_page
from fewshot_lite.personal.report.classifying import ClassifyReport
from fewshot_lite.personal.report.reasons import likeness

_SHOTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--draw", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.draw is not None:
        draw(arguments.draw, arguments.seed)
        return
    model = MetaModel.load()
    found = {
        path.name: measure(model, path, arguments.seed, arguments.answers)
        for path in arguments.data
    }
    emit("report", vars(arguments), found)


def measure(model: MetaModel, path: Path, seed: int, answers: int) -> dict[str, Any]:
    """All figures of one data set."""
    rng = Random(seed)
    homes = sorted(home for home in path.iterdir() if home.is_dir())
    support: list[Path] = []
    queries: list[Path] = []
    names: list[str] = []
    for home in sorted(rng.sample(homes, min(10, len(homes)))):
        files = sorted(file for file in home.rglob("*") if file.is_file())
        chosen = rng.sample(files, 2 * _SHOTS)
        support, queries = support + chosen[:_SHOTS], queries + chosen[_SHOTS:]
        names += [home.name] * _SHOTS
    images, _ = decode(support, model.image_size)
    adapting, personal = timed(lambda: model.adapt(images, names, thumbnails=False))
    picturing, jpegs = timed(lambda: make_thumbnails(images.numpy()))
    personal.thumbnails = jpegs
    with tempfile.TemporaryDirectory() as folder:
        size = personal.save(Path(folder) / "personal.safetensors").stat().st_size
    page_seconds, page = timed(lambda: adapt_page(personal))
    predictions = personal.classify(queries)
    report = ClassifyReport(personal)
    for prediction in islice(cycle(predictions), answers):
        report.add(prediction)
    answers_seconds, answers_page = timed(report.page)
    return {
        "photos": len(support),
        "thumbnails": {"bytes": sum(map(len, jpegs)), "seconds": picturing},
        "model": {"bytes": size, "seconds to adapt, decoded": adapting},
        "adapt_page": {"bytes": len(page.encode()), "seconds": page_seconds},
        "classify_page": {
            "answers": answers,
            "bytes": len(answers_page.encode()),
            "seconds": answers_seconds,
        },
        "reasons": agreement(personal, queries),
    }


def agreement(personal: PersonalModel, queries: list[Path]) -> dict[str, float]:
    """Share of queries whose likest support photo is of the class that was answered."""
    images, _ = decode(queries, personal.image_size)
    features = personal.embed(images)
    answers = personal.outputs_of(features).probabilities.argmax(1)
    plain = F.normalize(features, dim=1) @ F.normalize(personal.features, dim=1).mT
    scores = {"likeness": likeness(personal, features), "cosine": plain}
    return {
        name: float((personal.labels[score.argmax(1)] == answers).float().mean())
        for name, score in scores.items()
    }


def timed(work: Any) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def draw(folder: Path, seed: int) -> None:
    """Drawings of five kinds of things, with wrong labels, copies and a broken file."""
    kinds = ("fish", "guitar", "house", "key", "leaf")
    write_folder(folder, kinds, 9, seed)
    (folder / "key/key_04.jpg").rename(folder / "leaf/IMG_2041.jpg")
    (folder / "fish/fish_02.jpg").rename(folder / "house/IMG_0317.jpg")
    shutil.copy(folder / "guitar/guitar_05.jpg", folder / "key/IMG_1180.jpg")
    shutil.copy(folder / "house/house_03.jpg", folder / "house/house_03 (1).jpg")
    (folder / "fish/IMG_0099.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
