"""The state of a session as JSON-able values, from which the page is drawn."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fewshot_lite.personal.editing.edits import worth_readapting
from fewshot_lite.personal.quality import advice
from fewshot_lite.serve.board import Board
from fewshot_lite.serve.learning import Learned
from fewshot_lite.serve.session import Session


def state_of(session: Session) -> dict[str, Any]:
    """Return the state of a session, without pictures."""
    with session.paused():
        board, learned, work = session.board, session.learned, session.work
        ready = session.model is not None
        return {
            "run": session.run,
            "revision": session.revision,
            "folder": str(session.workspace.root),
            "classes": _classes(board, learned, ready=ready),
            "model": _model(board, learned) if ready and learned else None,
            "can_adapt": all(photo.path is not None for photo in board.photos),
            "work": work and asdict(work),
            "undo": session.last_step,
            "problem": session.problem,
        }


def _classes(board: Board, learned: Learned | None, *, ready: bool) -> list[dict[str, Any]]:
    rows = set(learned.rows) if learned else set()
    problems = learned.problems if learned else {}
    photos: dict[str, list[dict[str, Any]]] = {label: [] for label in board.classes}
    for photo in board.photos:
        values: dict[str, Any] = {"number": photo.number}
        if photo.number in problems:
            values["problem"] = problems[photo.number]
        elif ready and photo.number not in rows:
            values["new"] = True
        photos[photo.label].append(values)
    return [{"name": label, "photos": of_class} for label, of_class in photos.items()]


def _model(board: Board, learned: Learned) -> dict[str, Any]:
    quality, model = learned.quality, learned.model
    photos = {photo.number: photo for photo in board.photos}
    doubts = []
    for doubt in quality.suspicious:
        number = learned.rows[doubt.index]
        photo = photos.get(number)
        if photo is not None and not photo.kept and photo.label == doubt.label:
            doubts.append(
                {
                    "number": number,
                    "label": doubt.label,
                    "looks_like": doubt.looks_like,
                    "probability": doubt.probability,
                }
            )
    return {
        "class_names": model.class_names,
        "photos": len(learned.rows),
        "accuracy": quality.accuracy,
        "interval": quality.interval,
        "enough": quality.enough,
        "right": quality.right,
        "tested": quality.photos,
        "confused": [asdict(pair) for pair in quality.confused],
        "confusion": quality.confusion,
        "doubts": doubts,
        "advice": advice(quality, model.examples),
        "refined": model.adapted_by_gradient,
        "refining_was_no_better": not model.adapted_by_gradient and "refined" in model.provenance,
        "worth_adapting": not model.adapted_by_gradient and worth_readapting(model),
    }
