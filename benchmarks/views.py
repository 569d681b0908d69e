"""Objects learned from some sides and named from others: eth80 with other views to name.

    python benchmarks/views.py DATA/eth80 --ways 20 --shots 1,5 --tasks 200

File names are `<object>-<elevation>-<azimuth>`, elevations in degrees from the top. Photos of one's
own are from the side, at 60 degrees or more; "other" has the photos from above to name, "same" more
photos from the side. All models see the same tasks; prints what `fewshot-lite evaluate --json`
prints, of each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import emit, protocol_options
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.evaluation.caches import ImageCache
from fewshot_lite.evaluation.names import parse_models
from fewshot_lite.evaluation.protocols.folders import FolderProtocol
from fewshot_lite.evaluation.session import Session, compare_models
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", default="film-default:default,default,cosine,linear")
    parser.add_argument("--baseline-backbone", default="default")
    parser.add_argument("--ways", default="20")
    parser.add_argument("--shots", default="1,5")
    parser.add_argument("--queries", type=int, default=3, help="of each class")
    parser.add_argument("--tasks", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        try:
            options = protocol_options(args)
            names = parse_models(args.models.split(","), args.baseline_backbone)
            side, above = split(args.data, Path(place))
        except FewshotError as error:
            sys.exit(f"Error: {error}")
        for kind, query in (("same", None), ("other", above)):

            def open_data(
                images: ImageCache, size: int, query: ImageFolder | None = query
            ) -> FolderProtocol:
                return FolderProtocol(
                    [side],
                    options,
                    query=query,
                    find_unreadable=lambda sources: images.problems(sources, size),
                )

            outcome = compare_models(names, open_data, Session())
            found[kind] = outcome.comparison.to_json()
            print(f"{kind} views: done", file=sys.stderr, flush=True)
    emit("views", vars(args), found)


if __name__ == "__main__":
    main()
