"""Remove classes and photos, and rename classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.images.clips import clip_of
from fewshot_lite.personal.editing.arranging import arrange, placed
from fewshot_lite.personal.editing.edits import (
    Edit,
    check_photos_may_change,
    film_kept,
    labels_of,
    rebuilt,
)
from fewshot_lite.personal.editing.names import check_known, check_name
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.with_photos import check_personal


def remove(
    personal: PersonalModel, classes: Sequence[str] = (), photos: Sequence[str] = ()
) -> Edit:
    """Remove classes, and single photos or clips by their names in the model.

    Raises:
        UsageError: an unknown class or photo; no names; a model that was adapted by gradient.
        FewshotError: fewer than two classes would be left, or a class without photos.
    """
    check_photos_may_change(personal)
    classes = [classes] if isinstance(classes, str) else classes
    photos = [photos] if isinstance(photos, str) else photos
    if not classes and not photos:
        raise UsageError("Name a class to remove, or a photo with --photo.")
    for name in classes:
        check_known(name, personal.class_names, "class")
    present = placed(personal)
    names = [photo.name for photo in present]
    clips = {clip_of(name) for name in names}
    for name in photos:
        if name not in clips:
            check_known(name, names, "photo")
    left = [name for name in personal.class_names if name not in classes]
    if len(left) < 2:
        rest = f"only {left[0]!r}" if left else "no class"
        raise FewshotError(
            f"With {rest} left, there would be nothing to tell apart. Add other classes first."
        )
    gone = set(photos)
    kept = [
        photo
        for photo in present
        if photo.label in left and gone.isdisjoint((photo.name, clip_of(photo.name)))
    ]
    for name in left:
        if name not in {photo.label for photo in kept}:
            raise FewshotError(
                f"{name!r}: no photo of it would be left. To remove the class, name it itself."
            )
    removed = Counter(photo.label for photo in present)
    removed.subtract(photo.label for photo in kept)
    changes = {name: -number for name, number in removed.items() if number}
    edit = {"remove": {name: -number for name, number in changes.items()}}
    return Edit(arrange(personal, kept, edit), changes)


def rename(personal: PersonalModel, old: str, new: str) -> Edit:
    """Rename a class. Its photos keep their names, which are those of files.

    Raises:
        UsageError: no such class; a name that is taken or invalid.
    """
    check_personal(personal, PersonalModel)
    check_known(old, personal.class_names, "class")
    others = [name for name in personal.class_names if name != old]
    if new in others:
        raise UsageError(f"{new!r}: the model has a class of this name already.")
    if new == old:
        raise UsageError(f"{new!r}: the class has this name already.")
    check_name(new, others)
    model = rebuilt(
        personal,
        personal.contents,
        [new if name == old else name for name in labels_of(personal)],
        film_kept=film_kept(personal),
        edit={"rename": {old: new}},
    )
    return Edit(model, {}, renamed={old: new})
