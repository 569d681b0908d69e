"""`fewshot-lite suggest`: parsing and rendering."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fewshot_lite.cli.options import Device, Json, MaxPixels, argument, option
from fewshot_lite.core.files import DEFAULT_PERSONAL, check_new_folder, check_there

_NUMBER = 10
#: The attributes of a photo in JSON.
_JSON_KEYS = ("path", "label", "nearest", "probability", "other", "margin")


def suggest(
    paths: Annotated[list[Path], argument("Photos, videos, or folders of them.", metavar="PHOTO")],
    model: Annotated[
        Path,
        option("The personal model that is to learn from them.", "--model", "-m", metavar="FILE"),
    ] = DEFAULT_PERSONAL,
    number: Annotated[
        int, option("The number of photos to choose.", "--number", "-n", min=1, metavar="N")
    ] = _NUMBER,
    copy_into: Annotated[
        Path | None,
        option(
            "Copy them into this new folder, beside an empty folder for each class to drag "
            "them into. `add` takes it then.",
            metavar="DIR",
        ),
    ] = None,
    max_pixels: MaxPixels = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """List the photos without labels whose labels would help a personal model most.

    They are those that the model is unsure of, that stand for many others, and that are unlike one
    another and what it knows already.
    """
    if copy_into is not None:
        check_new_folder(copy_into, "--copy-into")
    for path in paths:
        check_there(path, missing="no such file or folder")
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.core.devices import pick_device
    from fewshot_lite.personal.bulk import find_photos
    from fewshot_lite.personal.personal_model import PersonalModel
    from fewshot_lite.personal.suggesting import copy_for_sorting
    from fewshot_lite.personal.suggesting import suggest as choose

    personal = PersonalModel.load(model, device=str(pick_device(device)))
    with render.counting_bar("Reading photos") as progress:
        suggested = choose(personal, list(find_photos(paths)), number, on_done=progress)
    if copy_into is not None:
        copy_for_sorting(suggested, personal.class_names, copy_into)
    render.print_skipped(suggested.skipped)
    if json:
        photos = [{key: getattr(item, key) for key in _JSON_KEYS} for item in suggested.photos]
        render.print_json(
            {
                "looked_at": suggested.looked_at,
                "adapted_to": suggested.known,
                "photos": photos,
                "folder": copy_into,
            }
        )
        return
    for item in suggested.photos:
        nearest = f"{render.escape(item.nearest)} " if item.nearest != item.label else ""
        render.out.print(
            f"{render.escape(str(item.path))}: {render.escape(item.label)}? "
            f"[dim]({nearest}{item.probability:.0%}; then {render.escape(item.other)})[/]"
        )
    if suggested.known:
        render.err.print(f"The model was adapted to {suggested.known} more: these are passed over.")
    render.err.print(f"{len(suggested.photos)} of {suggested.looked_at} photos.")
    if copy_into is None:
        many = () if number == _NUMBER else ("--number", number)
        words = ("suggest", *paths, *render.model_flag(model), *many)
        render.print_next(*words, "--copy-into", "to_sort")
    else:
        folder = render.escape(str(copy_into))
        render.out.print(f"Drag them into the folders of their classes in {folder}, then:")
        render.print_next("add", model, copy_into, "--force")
