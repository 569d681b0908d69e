"""Objects learned from the side and named from the side and from above: eth80.

    python -m benchmarks.accuracy.views DATA/eth80 --ways 20 --shots 1,5 --tasks 200

File names are `<object>-<elevation>-<azimuth>`, elevations in degrees from the top: the side is 60
degrees or more. All models adapt to photos from the side; "same" has more of these to classify,
"other" the photos from above.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.common import arguments, emit
from benchmarks.scores import flags, score
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.folders import ImageFolder, scan_classes

_SIDE = 60


def split(data: Path, out: Path) -> tuple[ImageFolder, ImageFolder]:
    """Photos from the side and from above, as links.

    Raises:
        FewshotError: names that tell no elevation, or no photos from one of them.
    """
    folder = scan_classes(data)
    for path, label in zip(folder.paths, folder.labels, strict=True):
        source = Path(str(path))
        try:
            elevation = int(source.stem.split("-")[-2])
        except (IndexError, ValueError):
            raise FewshotError(f"{source}: its name tells no elevation.") from None
        name = "side" if elevation >= _SIDE else "above"
        link = out / name / folder.class_names[label] / source.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source.resolve())
    return scan_classes(out / "side"), scan_classes(out / "above")


def main() -> None:
    args = arguments(__doc__, "data", **flags("film-default:default,cosine", "20", queries=3))
    with tempfile.TemporaryDirectory() as place:
        try:
            side, above = split(args.data, Path(place))
            found = {"same": score([side], args), "other": score([side], args, query=above)}
        except FewshotError as error:
            sys.exit(f"Error: {error}")
    emit("views", vars(args), found)


if __name__ == "__main__":
    main()
