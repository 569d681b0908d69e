"""Sessions of a tiny model on drawn photos, for tests of the page and its API."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from random import Random

from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.serve import edits
from fewshot_lite.serve.session import Session
from fewshot_lite.serve.uploads import Upload
from fewshot_lite.serve.workspace import Workspace
from photos import draw_photo, tiny_model

LABELS = ("mug", "keys", "pen")
#: Seconds that anything may take here.
PATIENCE = 120


@cache
def base() -> MetaModel:
    return tiny_model()


def photo(number: int, seed: int) -> Upload:
    """A photo of class `number`; no two have the same bytes."""
    buffer = io.BytesIO()
    draw_photo(number, Random(f"{number}/{seed}")).save(buffer, "PNG")
    return Upload(f"{seed}.png", buffer.getvalue())


def photos(number: int, count: int) -> list[Upload]:
    return [photo(number, seed) for seed in range(count)]


def filled(folder: Path) -> Session:
    """A session of three classes with three photos each, numbered 1 to 9, and their model."""
    session = Session(Workspace(folder), base)
    for number, label in enumerate(LABELS):
        session.edit(edits.create_class, label)
        session.add_photos(label, photos(number, 3))
    assert session.settled(PATIENCE)
    return session
