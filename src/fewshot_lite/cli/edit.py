"""`fewshot-lite add`, `remove`, `rename` and `undo`: parsing and rendering."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fewshot_lite.cli.options import Device, Frames, Json, argument, option
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import DEFAULT_PERSONAL, EXPORTED, check_output, check_there
from fewshot_lite.core.text import some_of
from fewshot_lite.images.kinds import check_model_name

if TYPE_CHECKING:
    from fewshot_lite.personal.editing import Edit
    from fewshot_lite.personal.personal_model import PersonalModel


Model = Annotated[Path, argument("The personal model that `adapt` wrote.", metavar="MODEL")]
Output = Annotated[
    Path | None, option("The file to write the changed model to.", "--output", "-o", metavar="FILE")
]
InPlace = Annotated[
    bool, option("Change MODEL itself, or overwrite an output that exists.", "--force")
]


def add(
    model: Model,
    folder: Annotated[
        list[Path],
        argument(
            "A folder, or a ZIP archive, with one folder of photos per class. With --class: "
            "photos, or folders of photos, of that class.",
            metavar="FOLDER",
        ),
    ],
    name: Annotated[
        str | None, option("The class that all of the photos show.", "--class", metavar="NAME")
    ] = None,
    frames: Frames = None,
    strict: Annotated[
        bool, option("Fail, and write nothing, if a file is skipped.", "--strict")
    ] = False,
    output: Output = None,
    force: InPlace = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Add photos and new classes to a personal model; the old photos are not needed.

    It says what accuracy to expect now. Photos that the model has already are left out.
    """
    target = _check(model, output, force=force)
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.personal.editing import add

    personal = _load(model, device)
    with render.counting_bar("Reading photos") as progress:
        edit = add(
            personal,
            folder,
            name,
            frames=frames,
            strict=strict,
            on_done=progress,
            on_embedded=lambda done, total: progress(done, total, "Embedding"),
        )
    _finish(edit, target, force=force, json=json, before=personal)


def remove(
    model: Model,
    classes: Annotated[
        list[str] | None, argument("The classes to remove.", metavar="CLASS")
    ] = None,
    photo: Annotated[
        list[str] | None,
        option(
            "A single photo or clip to remove, e.g. mug/IMG_0012.jpg.", "--photo", metavar="NAME"
        ),
    ] = None,
    output: Output = None,
    force: InPlace = False,
    json: Json = False,
) -> None:
    """Remove classes or single photos from a personal model; the photos are not needed."""
    target = _check(model, output, force=force)
    from fewshot_lite.personal.editing import remove

    personal = _load(model)
    from fewshot_lite.cli.render import terminal as render

    with render.err.status("Fitting…"):
        edit = remove(personal, classes or (), photo or ())
    _finish(edit, target, force=force, json=json, before=personal)


def rename(
    model: Model,
    old: Annotated[str, argument("The present name of the class.", metavar="OLD")],
    new: Annotated[str, argument("Its new name.", metavar="NEW")],
    output: Output = None,
    force: InPlace = False,
    json: Json = False,
) -> None:
    """Give a class of a personal model a new name."""
    target = _check(model, output, force=force)
    from fewshot_lite.personal.editing import rename

    _finish(rename(_load(model, photos=False), old, new), target, force=force, json=json)


def _check(model: Path, output: Path | None, *, force: bool) -> Path:
    """Return the file to write the changed model to; refuse a model or file that will not do."""
    if model.suffix.lower() in EXPORTED:
        raise UsageError(
            f"{model}: an exported model, which cannot be changed. Change the personal model it "
            "was made from, and export that again."
        )
    check_there(model, remedy="Make one with `fewshot-lite adapt FOLDER`.")
    if model.is_dir():
        raise UsageError(f"{model}: a folder. Name the personal model first.")
    if output is None and not force:
        raise UsageError(
            f"{model}: is not changed unless asked to. Use --force to change it, or --output FILE "
            "for a changed copy."
        )
    target, flag = (model, "--force") if output is None else (output, "--output")
    check_model_name(target, flag)
    check_output(target, force=force, flag=flag, stream=True)
    return target


def _load(model: Path, device: str = "cpu", *, photos: bool = True) -> PersonalModel:
    """Load the model; with `photos`, refuse one whose photos may not change."""
    from fewshot_lite.core.devices import pick_device
    from fewshot_lite.personal.editing.edits import check_photos_may_change
    from fewshot_lite.personal.personal_model import PersonalModel

    try:
        personal = PersonalModel.load(model, device=str(pick_device(device)))
        if photos:
            check_photos_may_change(personal)
    except FewshotError as error:  # these commands take the model as an argument, not as a flag
        message = str(error).removeprefix("--model ")
        raise type(error)(re.sub("^MODEL:", lambda _: f"{model}:", message)) from None
    return personal


def _finish(
    edit: Edit,
    target: Path,
    *,
    force: bool,
    json: bool,
    before: PersonalModel | None = None,
) -> None:
    """Write the model and print the edit; with `before`, its photos changed: assess it as well."""
    from fewshot_lite.cli.render import edit as render_edit
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.cli.render.quality import print_quality, quality_json
    from fewshot_lite.personal.growth import expected_growth
    from fewshot_lite.personal.quality import assess

    with render.err.status("Leaving photos out…"):
        edit.model.save(target, force=force)
        quality = assess(edit.model) if before is not None else None
        growth = expected_growth(edit.model, quality) if quality is not None else None
        earlier = assess(before) if before is not None and not json else None
    if json:
        render.print_skipped(edit.skipped)  # stdout is JSON alone
        assessed = {
            "quality": quality_json(quality) if quality else None,
            "growth": asdict(growth) if growth else None,
        }
        render.print_json(render_edit.edit_json(edit, target) | assessed)
        return
    render_edit.print_edit(edit, target)
    if quality:
        print_quality(quality, edit.model.examples, before=earlier, growth=growth)
    render.print_next("classify", "photo.jpg", *render.model_flag(target))


def undo(
    model: Annotated[Path, argument("The personal model.", metavar="MODEL")] = DEFAULT_PERSONAL,
    json: Json = False,
) -> None:
    """Put a personal model back as it was before it was written over.

    `adapt --force` and edits in place keep the model that was there, once. Undoing again takes the
    undoing back.
    """
    from fewshot_lite.personal.undo import undo as undo_model

    undone = undo_model(model)
    from fewshot_lite.cli.render import terminal as render

    if json:
        render.print_json({"model": undone.path, "classes": undone.shots, "before": undone.before})
        return
    photos = sum(undone.shots.values())
    was = ""
    if undone.before and undone.before != undone.shots:
        before = sum(undone.before.values()), len(undone.before)
        gone = sorted(undone.before.keys() - undone.shots)  # all that renaming changes
        if before != (photos, len(undone.shots)):
            was = ", no longer {} of {}".format(*before)
        elif gone:
            was = f", no longer with {render.escape(some_of(gone))}"
    again = render.command("undo", *(() if model == DEFAULT_PERSONAL else (model,)))
    render.out.print(
        f"[bold]{render.escape(str(model))}[/] is as it was before: {photos} photos of "
        f"{len(undone.shots)} classes{was}."
    )
    if undone.before is not None:
        render.out.print(f"To take this back: [bold]{render.escape(again)}[/]")
