"""Whether the reasons that reports show are of the class that was answered.

    python -m benchmarks.accuracy.reasons DATA/clothing DATA/eth80 DATA/trashnet DATA/sign-digits

For each set 8 photos of each of up to 10 classes are adapted to and 8 others classified: the share
of queries whose likest support photo is of the class that was answered, with the likeness that
reports use and with the plain cosine of the features.

`--draw FOLDER` instead draws a folder with a few things wrong. The picture in the documentation is

    python -m benchmarks.accuracy.reasons --draw my_objects
    fewshot-lite adapt my_objects --report report.html
    chromium --headless --window-size=1000,1480 --screenshot=report.png report.html

with its colours brought down to 256.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F

from benchmarks.common import Row, arguments, emit
from fewshot_lite.data.store import decode
from fewshot_lite.demo.drawings import write_folder
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.report.reasons import likeness

_SHOTS = 8


def main() -> None:
    args = arguments(__doc__, "data*", draw=Path, seed=0)
    if args.draw is not None:
        draw(args.draw, args.seed)
        return
    model = MetaModel.load()
    emit("reasons", vars(args), {path.name: measure(model, path, args.seed) for path in args.data})


def measure(model: MetaModel, path: Path, seed: int) -> Row:
    """The shares of one data set."""
    rng, start = Random(seed), time.perf_counter()
    homes = sorted(home for home in path.iterdir() if home.is_dir())
    support: list[Path] = []
    queries: list[Path] = []
    names: list[str] = []
    for home in sorted(rng.sample(homes, min(10, len(homes)))):
        files = sorted(file for file in home.rglob("*") if file.is_file())
        chosen = rng.sample(files, 2 * _SHOTS)
        support, queries = support + chosen[:_SHOTS], queries + chosen[_SHOTS:]
        names += [home.name] * _SHOTS
    personal = model.adapt(decode(support, model.image_size)[0], names, thumbnails=False)
    features = personal.embed(decode(queries, model.image_size)[0])
    answers = personal.outputs_of(features).probabilities.argmax(1)
    plain = F.normalize(features, dim=1) @ F.normalize(personal.features, dim=1).mT
    scores = {"likeness": likeness(personal, features), "cosine": plain}
    shares = {
        name: float((personal.labels[score.argmax(1)] == answers).float().mean())
        for name, score in scores.items()
    }
    return {"queries": len(queries), **shares, "seconds": time.perf_counter() - start}


def draw(folder: Path, seed: int) -> None:
    """Drawings of five kinds of things, with wrong labels, copies and a broken file."""
    write_folder(folder, ("fish", "guitar", "house", "key", "leaf"), 9, seed)
    (folder / "key/key_04.jpg").rename(folder / "leaf/IMG_2041.jpg")
    (folder / "fish/fish_02.jpg").rename(folder / "house/IMG_0317.jpg")
    shutil.copy(folder / "guitar/guitar_05.jpg", folder / "key/IMG_1180.jpg")
    shutil.copy(folder / "house/house_03.jpg", folder / "house/house_03 (1).jpg")
    (folder / "fish/IMG_0099.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
