"""Draw the README's picture: what the demo adapted on, and what it called the drawings held back.

    fewshot-lite demo --output demo
    python -m benchmarks.accuracy.picture demo benchmarks/figures/demo.jpg

Green answers are right, red ones wrong.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks.common import arguments
from fewshot_lite.core.files import DEFAULT_PERSONAL
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.prediction import Prediction

TILE, GAP, TEXT = 112, 6, 20
SHOWN, ASKED = 4, 4


def main() -> None:
    args = arguments(__doc__, "demo", "output")

    model = PersonalModel.load(args.demo / DEFAULT_PERSONAL)
    photos, held_back = scan_classes(args.demo / "photos"), scan_classes(args.demo / "held-back")
    rows = len(photos.class_names)
    step_x, step_y, left = TILE + GAP, TILE + TEXT + GAP, 110
    middle = left + SHOWN * step_x + 40
    canvas = Image.new("RGB", (middle + ASKED * step_x + GAP, 40 + rows * step_y), "white")
    pen = ImageDraw.Draw(canvas)
    font, bold = ImageFont.load_default(15), ImageFont.load_default(18)
    pen.text((left, 10), f"{SHOWN} of the photos adapted to", "black", bold)
    pen.text((middle, 10), "photos never seen, and the answers", "black", bold)
    for row, name in enumerate(photos.class_names):
        top = 40 + row * step_y
        pen.text((10, top + TILE / 2 - 10), name, "black", bold)
        paste(canvas, photos.indices_by_class()[row], photos.paths, SHOWN, (left, top), step_x)
        asked = held_back.indices_by_class()[row][:ASKED]
        paste(canvas, asked, held_back.paths, ASKED, (middle, top), step_x)
        for column, answer in enumerate(
            model.classify([held_back.paths[i] for i in asked], reject=None)
        ):
            place = (middle + column * step_x, top + TILE + 2)
            pen.text(place, caption(answer), colour(answer, name), font)
    args.output.parent.mkdir(exist_ok=True)
    canvas.save(args.output, quality=88)


def paste(
    canvas: Image.Image,
    indices: list[int],
    paths: tuple[Path, ...],
    count: int,
    corner: tuple[int, int],
    step: int,
) -> None:
    """A row of thumbnails."""
    for column, index in enumerate(indices[:count]):
        with Image.open(paths[index]) as image:
            canvas.paste(image.resize((TILE, TILE)), (corner[0] + column * step, corner[1]))


def caption(answer: Prediction) -> str:
    """The answer in a few characters."""
    return f"{answer.label} {answer.probability:.0%}"


def colour(answer: Prediction, truth: str) -> str:
    """Green for right, red for wrong."""
    return "#1a7f37" if answer.label == truth else "#cf222e"


if __name__ == "__main__":
    main()
