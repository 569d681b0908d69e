"""The images of the last stage of pre-training: classes seen so far, and classes kept until then.

    python models/last_stage.py BACKBONE DATA OUT --more tiny-imagenet=NOVEL

BACKBONE is what the stages before gave, which names the classes it was trained on; DATA is what it
was trained on. OUT/SET/CLASS become links to the folders of these classes, and of all classes of
the folder NOVEL, in the data set named before it. Classes that the stages left out for
meta-training stay left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.folders import scan_classes


def link(target: Path, source: Path) -> None:
    """A link, unless it is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_symlink():
        target.symlink_to(source.resolve(), target_is_directory=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--more", action="append", default=[], metavar="SET=FOLDER")
    args = parser.parse_args()
    try:
        classes = checkpoint.load(args.backbone, "backbone").meta["classes"]
        for name, seen in classes.items():
            for folder in seen:
                if not (args.data / name / folder).is_dir():
                    raise FewshotError(f"{args.data / name / folder}: no such folder.")
                link(args.out / name / folder, args.data / name / folder)
        for text in args.more:
            name, _, more = text.partition("=")
            if not more:
                parser.error(f"--more {text}: give SET=FOLDER")
            if name not in classes:
                parser.error(f"--more {text}: {args.backbone} was trained on no {name!r}")
            for folder in scan_classes(Path(more)).class_names:
                if folder in classes[name]:
                    raise FewshotError(f"{more}: {folder} is a class that was trained on already.")
                link(args.out / name / folder, Path(more) / folder)
    except FewshotError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
