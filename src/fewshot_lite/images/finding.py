"""Find labelled photos in class folders, in a ZIP archive of them, or by a table of labels."""

from __future__ import annotations

import os
from pathlib import Path

from fewshot_lite.images.folders import LabelledImages, scan_classes


def find_labelled(photos: Path, labels: Path | None = None) -> LabelledImages:
    """Find photos and videos and their classes; nothing is decoded.

    Args:
        photos: a folder with one folder of photos per class, or a ZIP archive of such a folder.
        labels: a table of files in the folder and their classes (`images.labels_file`).

    Raises:
        UsageError: `photos` or `labels` is missing, unreadable, or of another kind.
        FewshotError: there are no classes, or class names that cannot be told apart.
    """
    if labels is not None:
        from fewshot_lite.images.labels_file import scan_labels

        return scan_labels(photos, labels)
    if os.path.isfile(photos):
        from fewshot_lite.images.archives import scan_zip

        return scan_zip(photos)
    return scan_classes(photos, videos=True)
