"""`fewshot-lite undo`: parsing and rendering."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fewshot_lite.cli.options import Json, argument
from fewshot_lite.core.files import DEFAULT_PERSONAL


def undo(
    model: Annotated[Path, argument("The personal model.")] = DEFAULT_PERSONAL,
    json: Json = False,
) -> None:
    """Put a personal model back as it was before it was written over.

    `adapt --force` and edits in place keep the model that was there, once. Undoing again takes the
    undoing back.
    """
    from fewshot_lite.personal.undo import undo as put_back

    undone = put_back(model)
    from fewshot_lite.cli.render import terminal as render

    if json:
        render.print_json({"model": undone.path, "classes": undone.shots, "before": undone.before})
        return
    photos = sum(undone.shots.values())
    was = ""
    if undone.before and undone.before != undone.shots:
        was = f", no longer {sum(undone.before.values())} of {len(undone.before)}"
    again = render.command("undo", *(() if model == DEFAULT_PERSONAL else (model,)))
    render.out.print(
        f"[bold]{render.escape(str(model))}[/] is as it was before: {photos} photos of "
        f"{len(undone.shots)} classes{was}."
    )
    if undone.before is not None:
        render.out.print(f"To take this back: [bold]{render.escape(again)}[/]")
