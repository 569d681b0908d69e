"""Draw the pictures of the README and of the documentation.

    fewshot-lite demo --output demo
    python -m benchmarks.accuracy.picture demo docs/figures/demo.jpg

What the demo adapted to, and what it called the drawings held back: green answers are right, red
ones wrong. `--objects FOLDER` instead draws class folders with a few things wrong, of which the
picture of a report is made, with its colours brought down to 256:

    python -m benchmarks.accuracy.picture --objects my_objects
    fewshot-lite adapt my_objects --report report.html
    chromium --headless --window-size=1000,1480 --screenshot=report.png report.html
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks.common import arguments
from fewshot_lite.core.files import DEFAULT_PERSONAL
from fewshot_lite.demo.drawings import write_folder
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.personal.personal_model import PersonalModel

TILE, GAP, TEXT, LEFT = 112, 6, 20, 110
#: Of each class.
SHOWN = 4
STEP_X, STEP_Y, MIDDLE = TILE + GAP, TILE + TEXT + GAP, LEFT + SHOWN * (TILE + GAP) + 40


def main() -> None:
    args = arguments(__doc__, "paths*", objects=Path)
    if args.objects:
        draw_objects(args.objects)
    else:
        draw_demo(*args.paths)


def draw_demo(demo: Path, output: Path) -> None:
    """Rows of photos adapted to, and of photos with their answers."""
    model = PersonalModel.load(demo / DEFAULT_PERSONAL)
    photos, held_back = scan_classes(demo / "photos"), scan_classes(demo / "held-back")
    size = MIDDLE + SHOWN * STEP_X + GAP, 40 + len(photos.class_names) * STEP_Y
    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    font, bold = ImageFont.load_default(15), ImageFont.load_default(18)
    pen.text((LEFT, 10), f"{SHOWN} of the photos adapted to", "black", bold)
    pen.text((MIDDLE, 10), "photos never seen, and the answers", "black", bold)
    for row, name in enumerate(photos.class_names):
        top = 40 + row * STEP_Y
        pen.text((10, top + TILE / 2 - 10), name, "black", bold)
        shown = [photos.paths[i] for i in photos.indices_by_class()[row][:SHOWN]]
        asked = [held_back.paths[i] for i in held_back.indices_by_class()[row][:SHOWN]]
        paste(canvas, shown, LEFT, top)
        paste(canvas, asked, MIDDLE, top)
        for column, answer in enumerate(model.classify(asked, reject=None)):
            place = (MIDDLE + column * STEP_X, top + TILE + 2)
            colour = "#1a7f37" if answer.label == name else "#cf222e"
            pen.text(place, f"{answer.label} {answer.probability:.0%}", colour, font)
    output.parent.mkdir(exist_ok=True)
    canvas.save(output, quality=88)


def paste(canvas: Image.Image, paths: Sequence[Path], left: int, top: int) -> None:
    """A row of thumbnails."""
    for column, path in enumerate(paths):
        with Image.open(path) as image:
            canvas.paste(image.resize((TILE, TILE)), (left + column * STEP_X, top))


def draw_objects(folder: Path) -> None:
    """Drawings of five kinds of things, with wrong labels, copies and a broken file."""
    write_folder(folder, ("fish", "guitar", "house", "key", "leaf"), 9, seed=0)
    (folder / "key/key_04.jpg").rename(folder / "leaf/IMG_2041.jpg")
    (folder / "fish/fish_02.jpg").rename(folder / "house/IMG_0317.jpg")
    shutil.copy(folder / "guitar/guitar_05.jpg", folder / "key/IMG_1180.jpg")
    shutil.copy(folder / "house/house_03.jpg", folder / "house/house_03 (1).jpg")
    (folder / "fish/IMG_0099.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")


if __name__ == "__main__":
    main()
