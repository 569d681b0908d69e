"""Refinement on the page with the shipped model: its progress, how it is called off, its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from fewshot_lite.core.files import DEFAULT_BASE, models_folder
from fewshot_lite.demo.drawings import KINDS, write_folder
from fewshot_lite.serve.app import page_app
from fewshot_lite.serve.running import open_session
from fewshot_lite.serve.target import Target

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not any(models_folder().glob("*.safetensors")), reason="no shipped model in this checkout"
    ),
]
#: Seconds that anything may take.
PATIENCE = 900


def states(client: TestClient) -> Iterator[dict[str, Any]]:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        yield client.get("/v1/session").json()
        time.sleep(0.05)
    raise AssertionError("waited too long")


def test_refining_25_photos_is_followed_called_off_and_done(tmp_path: Path) -> None:
    write_folder(tmp_path / "things", KINDS[:5], 5, seed=0)
    session = open_session(Target(tmp_path / "things"), base=DEFAULT_BASE)
    with TestClient(page_app(session), "http://127.0.0.1:8765") as client:
        assert session.settled(PATIENCE)
        before = session.require_model()
        # called off while it refines
        assert client.post("/v1/adapt", json={"refine": "on"}).status_code == 200
        assert client.post("/v1/adapt", json={"refine": "on"}).status_code == 409
        seen = next(s for s in states(client) if s["work"] and s["work"]["what"] == "Refining")
        assert seen["work"]["can_be_cancelled"]
        begun = time.monotonic()
        assert client.delete("/v1/adapt").status_code == 200
        after = next(s for s in states(client) if not s["work"])
        print(f"called off after {time.monotonic() - begun:.1f} s")
        assert (after["undo"], after["problem"]) == (None, None)
        assert session.require_model() is before
        # and to the end
        begun, done = time.monotonic(), set[tuple[str, int]]()
        client.post("/v1/adapt", json={"refine": "on"})
        for state in states(client):
            if not state["work"]:
                break
            done.add((state["work"]["what"], state["work"]["done"]))
        print(f"refined in {time.monotonic() - begun:.1f} s: {sorted(done)}")
        assert len([step for what, step in done if what == "Refining"]) > 2
        model = state["model"]
        assert model["refined"] != model["refining_was_no_better"]
        assert model["photos"] == 25
        assert state["undo"] == "Adapted to all photos"
        assert client.post("/v1/undo").json()["undo"] is None
        assert session.require_model() is before
    session.close()
