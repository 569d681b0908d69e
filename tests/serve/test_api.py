"""The API: what it answers, what its description says, and what it does not let in."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import fewshot_lite
import hostile
from clips import plain, write_clip
from command_line import Run
from drawn import PATIENCE, base, filled, photo
from exported import exported_small_personal
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.serve import archive
from fewshot_lite.serve.app import api_app, page_app
from fewshot_lite.serve.growing import GrowingModel
from fewshot_lite.serve.guard import Limits
from fewshot_lite.serve.session import Session
from fewshot_lite.serve.uploads import VIDEO
from fewshot_lite.serve.workspace import Workspace
from photos import contents

HOME = "http://127.0.0.1:8765"
TOKEN = "a-token-of-24-characters"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    session = filled(tmp_path_factory.mktemp("things"))
    yield session
    session.close()


@pytest.fixture(scope="module")
def client(session: Session) -> Iterator[TestClient]:
    limits = Limits(body=200_000)
    with TestClient(page_app(session, limits), HOME, raise_server_exceptions=True) as client:
        yield client


def test_answers_are_those_of_the_command(
    run: Run, client: TestClient, session: Session, tmp_path: Path
) -> None:
    new = [photo(number, 77) for number in range(3)]
    for upload, name in zip(new, "abc", strict=True):
        (tmp_path / f"{name}.png").write_bytes(upload.data)
    (tmp_path / "bad.png").write_bytes(b"no photo")
    model = client.get("/v1/model/file")
    assert model.headers["content-disposition"] == 'attachment; filename="personal.safetensors"'
    (tmp_path / "m.safetensors").write_bytes(model.content)
    files = [tmp_path / name for name in ("a.png", "b.png", "c.png", "bad.png")]
    by_command = run("classify", *files, "-m", tmp_path / "m.safetensors", "--json", "--top", 2)
    form = [("photo", (path.name, path.read_bytes())) for path in files]
    answers = client.post("/v1/classify?top=2", files=form)
    assert answers.status_code == 200
    wanted = [record | {"path": Path(record["path"]).name} for record in by_command.json]
    assert [_rounded(answer) for answer in answers.json()] == [_rounded(r) for r in wanted]
    (alone,) = client.post("/v1/classify?top=2&name=b.png", content=new[1].data).json()
    assert _rounded(alone) == _rounded(wanted[1])
    about = client.get("/v1/model").json()
    assert about["class_names"] == list(session.require_model().class_names)
    assert about["shots"] == session.require_model().shots


def _rounded(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 4))


def test_classes_and_photos_are_changed_and_handed_out(
    client: TestClient, session: Session, tmp_path: Path
) -> None:
    before = client.get("/v1/session").json()
    assert client.post("/v1/classes", json={"name": "a/b"}).status_code == 400
    assert client.post("/v1/classes", json={"name": "<i>&"}).status_code == 200
    added = client.post("/v1/classes/%3Ci%3E%26/photos?name=../../x.png", content=photo(4, 1).data)
    (one,) = added.json()["photos"]
    assert (one["name"], one["problem"]) == ("x.png", None)
    number = one["number"]
    assert client.get(f"/v1/photos/{number}/picture").headers["content-type"] == "image/jpeg"
    move = {"numbers": [number], "name": "pen"}
    assert client.post("/v1/photos/move", json=move).status_code == 200
    assert client.patch("/v1/classes/pen", json={"name": "pencil"}).status_code == 200
    assert session.settled(PATIENCE)
    with zipfile.ZipFile(BytesIO(client.get("/v1/photos.zip").content)) as archive:
        names = archive.namelist()
    assert sorted(name.split("/")[0] for name in names) == ["keys"] * 3 + ["mug"] * 3 + (
        ["pencil"] * 4
    )
    for _ in range(4):
        assert client.post("/v1/undo").status_code == 200
    assert session.settled(PATIENCE)
    after = client.get("/v1/session").json()
    assert after["classes"] == before["classes"]
    since = client.get(f"/v1/session?since={after['run']}.{after['revision']}")
    assert (since.status_code, since.content) == (204, b"")


def test_photos_are_downloaded_piece_by_piece(session: Session) -> None:
    """In 1 MB of memory, whatever photos there are, and in spite of what happens to them."""
    photos = session.board.photos
    first, gone = photos[0], photos[1]
    assert first.path is not None
    assert gone.path is not None
    kept = first.path.read_bytes(), gone.path.read_bytes()
    first.path.write_bytes(large := bytes(range(256)) * 20_000)
    try:
        stream = archive.pieces(session)
        found = [next(stream)]
        gone.path.unlink()
        found += stream
        assert max(map(len, found)) < 1_100_000
        with zipfile.ZipFile(BytesIO(b"".join(found))) as whole:
            assert whole.testzip() is None
            assert whole.read(first.name) == large
            assert whole.read("not read.txt").decode() == f"{gone.name}: No such file or directory"
            assert len(whole.namelist()) == len(photos)
    finally:
        first.path.write_bytes(kept[0])
        gone.path.write_bytes(kept[1])


def test_the_description_has_every_route_and_no_other(client: TestClient) -> None:
    found = client.get("/openapi.json").json()
    assert found["openapi"] == "3.1.0"
    for path, methods in found["paths"].items():
        for other in {"get", "put", "post", "patch", "delete"} - set(methods):
            assert client.request(other, re.sub(r"{\w+}", "0", path)).status_code == 405
        for about in methods.values():
            named = {p["name"] for p in about.get("parameters", ()) if p["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert about["responses"]["200"]
    references = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(found)))
    assert references <= set(found["components"]["schemas"])
    identifiers = [a["operationId"] for m in found["paths"].values() for a in m.values()]
    assert len(set(identifiers)) == len(identifiers)


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    waiting, seen = ["/"], set[str]()
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        text = client.get(address).text
        assert client.get(address).status_code == 200, address
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
        assert " style=" not in text
        links = re.findall(r'(?:src|href)="(/[^"]+)"', text) if address == "/" else []
        waiting += [*links, *(f"/{name}" for name in re.findall(r'from "\./([\w.]+)"', text))]
    assert len(seen) >= 10


#: Requests that are refused: method, path, headers, body; and with what status.
_JPEG = b"\xff\xd8\xff\xe0" + bytes(200)
_PHOTO = photo(0, 500).data
_FORM = {"content-type": "multipart/form-data; boundary=x"}
REFUSED: dict[str, tuple[str, str, dict[str, str], bytes, int]] = {
    f"host {host!r}": ("POST", "/v1/classify", {"host": host}, _PHOTO, 421)
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil", "", "[::2]:1", "a@b")
}
REFUSED |= {
    f"origin {origin!r}": ("POST", "/v1/undo", {"origin": origin}, b"", 403)
    for origin in (
        *("http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1", "file://"),
        *("http://localhost:8765", "http://127.0.0.1:8765.evil.example", "x"),
    )
}
REFUSED |= {
    f"site {site} {path}": (
        method,
        path,
        {"sec-fetch-site": site, "sec-fetch-mode": mode},
        b"",
        403,
    )
    for site, mode, method, path in (
        ("cross-site", "no-cors", "GET", "/v1/photos/1/picture"),
        ("cross-site", "cors", "POST", "/v1/undo"),
        ("same-site", "cors", "GET", "/v1/session"),
        ("cross-site", "navigate", "POST", "/v1/undo"),
    )
}
REFUSED |= {
    f"length {length}": ("POST", "/v1/classify", {"content-length": length}, _PHOTO, 413)
    for length in ("200001", "99999999999999999999", "-1", "1e3", "٣")
    if length.isascii()
}
REFUSED |= {
    f"name {name[:20]!r}": ("POST", "/v1/classes", {}, json.dumps({"name": name}).encode(), 400)
    for name in (
        *("", " ", ".", "..", "../up", "a/b", "/etc", "C:\\x", ".ssh", "unknown", "a\nb", "a\0b"),
        *("x" * 5000, "\u202egnp", "mug", "MUG", "\ud800", "Thumbs.db", "a\x1b[2J"),
    )
}
REFUSED |= {
    f"json {body[:20]!r}": ("POST", "/v1/photos/remove", {}, body, 400)
    for body in (
        *(
            b"",
            b"{",
            b"[]",
            b"null",
            b'{"numbers": "1"}',
            b'{"numbers": [1.5]}',
            b'{"numbers": []}',
        ),
        *(b'{"numbers": [true]}', b'{"other": 1}', b"[" * 5000, b"\xff\xfe", b'{"numbers": null}'),
    )
}
REFUSED |= {
    f"{method} {path[:40]}": (method, path, {}, b"{}", status)
    for method, path, status in (
        ("POST", "/v1/classes/nobody/photos", 404),
        ("POST", "/v1/classes/..%2f..%2fetc/photos", 404),
        ("DELETE", "/v1/classes/" + "a" * 3000, 404),
        ("GET", "/v1/photos/../../etc/passwd", 404),
        ("GET", "/v1/photos/%2e%2e%2f/picture", 404),
        ("GET", "/v1/photos/-1/picture", 404),
        ("GET", "/v1/photos/" + "9" * 400 + "/picture", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/session.py", 404),
        ("GET", "/app.py", 404),
        ("GET", "/.fewshot-lite/model.safetensors", 404),
        ("TRACE", "/", 405),
        ("PUT", "/v1/classify", 405),
        ("POST", "/v1/classify?top=0", 400),
        ("POST", "/v1/classify?top=-1", 400),
        ("POST", "/v1/classify?top=" + "9" * 5000, 400),
        ("POST", "/v1/classify?reject=1", 400),
        ("POST", "/v1/classify?reject=nan", 400),
        ("POST", "/v1/classify?reject=-inf", 400),
        ("PATCH", "/v1/classes/mug", 400),
        ("PUT", "/v1/model/file", 422),
    )
}
REFUSED |= {
    f"form {body[:24]!r}": ("POST", "/v1/classify", _FORM, body, 400)
    for body in (
        b"",
        b"--y\r\n\r\n",
        b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nno file\r\n--x--\r\n",
        b"--x\r\n" + b"A: b\r\n" * 3000,
        (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n" * 40) + b"--x--\r\n",
    )
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_let_in_is_refused_in_one_line(
    client: TestClient, session: Session, case: str
) -> None:
    method, path, headers, body, status = REFUSED[case]
    board = session.board
    answer = client.request(method, HOME + path, headers=headers, content=body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert len(answer.text.splitlines()) == 1
    assert "Traceback" not in answer.text
    assert session.board == board


def test_hostile_photos_are_named_and_leave_nothing(
    client: TestClient, session: Session, tmp_path: Path
) -> None:
    bad = [
        p for p in hostile.write_hostile(tmp_path / "hostile") if p.is_file() and p.stat().st_size
    ]
    before = contents(session.workspace.root)
    assert len(bad) > 30
    for path in bad:
        data = path.read_bytes()
        for address in ("/v1/classify", "/v1/classes/mug/photos"):
            answer = client.post(address, content=data)
            assert answer.status_code == (413 if len(data) > 200_000 else 422), path
    form = [("p", (f"../../{i}\0.jpg", p.read_bytes())) for i, p in enumerate(bad[:20])]
    answers = client.post("/v1/classify", files=[*form, ("p", ("<img onerror=x>", _PHOTO))]).json()
    assert [a["problem"] is None for a in answers] == [False] * 20 + [True]
    assert answers[-1]["path"] == "<img onerror=x>"
    assert contents(session.workspace.root) == before


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".avi"])
def test_a_video_is_answered_and_not_added(
    client: TestClient, session: Session, tmp_path: Path, ending: str
) -> None:
    clip = write_clip(tmp_path / f"clip{ending}", plain("red", "blue")).read_bytes()
    before = contents(session.workspace.root)
    added = client.post(f"/v1/classes/mug/photos?name=clip{ending}", content=clip)
    assert added.status_code == 422
    (one,) = added.json()["photos"]
    assert one["problem"] == VIDEO
    form = [("p", ("clip", clip)), ("p", ("a.png", photo(0, 5).data))]
    both = client.post("/v1/classify", files=form).json()
    assert [answer["problem"] for answer in both] == [None, None]
    assert contents(session.workspace.root) == before
    (alone,) = client.post("/v1/classify", content=clip).json()
    assert alone["label"] == both[0]["label"]


def test_a_model_of_somebody_elses_is_opened_only_where_nothing_is(
    session: Session, client: TestClient, tmp_path: Path
) -> None:
    limits = Limits(larger={"/v1/model/file": 10**8})
    with TestClient(page_app(session, limits), HOME) as client:
        good = client.get("/v1/model/file").content
        assert client.put("/v1/model/file", content=good).status_code == 409
        for body in (b"", b"x", good[:1000], good[:-1], _JPEG, b"PK\3\4"):
            assert client.put("/v1/model/file", content=body).status_code in (400, 422)


def test_elsewhere_a_token_is_needed(session: Session) -> None:
    with TestClient(page_app(session, Limits(loopback=False, token=TOKEN)), HOME) as client:
        assert client.get("/healthz").status_code == 200
        for headers in (
            {},
            {"authorization": "Bearer x"},
            {"authorization": f"Basic {TOKEN}"},
            {"cookie": "fewshot-lite=x"},
            {"cookie": 'a="\\'},
        ):
            for path in ("/", "/app.js", "/v1/session", "/openapi.json", "/nothing"):
                assert client.get(path, headers=headers).status_code == 401
            assert client.post("/v1/classify", content=_PHOTO, headers=headers).status_code == 401
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/v1/session", headers=bearer).status_code == 200
        assert client.get("/?token=wrong").status_code == 401
        entered = client.get(f"/?token={TOKEN}", follow_redirects=False)
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        assert "HttpOnly; SameSite=Strict" in entered.headers["set-cookie"]
        assert client.get("/v1/session").status_code == 200  # by the cookie
        assert client.get("/openapi.json").json()["security"] == [{"token": []}]


@pytest.fixture
def file(session: Session, tmp_path: Path) -> Path:
    return session.require_model().save(tmp_path / "alone.safetensors")


def test_a_model_alone_takes_photos_that_its_file_has_at_once(file: Path) -> None:
    with TestClient(api_app(GrowingModel(file)), HOME) as client:
        (answer,) = client.post("/v1/classify", content=_PHOTO).json()
        before = client.get("/v1/model").json()
        assert answer["label"] in (*before["class_names"], "unknown")
        for path in ("/", "/v1/session"):
            assert client.get(path).status_code == 404
        files = [("p", (f"{i}.png", data)) for i, data in enumerate((_PHOTO, b"no", _PHOTO))]
        added = client.post("/v1/classes/keys/photos", files=files)
        assert added.status_code == 200
        assert [photo["problem"] for photo in added.json()["photos"]] == [
            None,
            "not an image, or badly damaged",
            "it is in the model already, in 'keys'",
        ]
        shots = {**before["shots"], "keys": before["shots"]["keys"] + 1}
        assert client.get("/v1/model").json()["shots"] == added.json()["model"]["shots"] == shots
        written = PersonalModel.load(file)
        assert written.shots == shots
        assert written.classify(_PHOTO).adapted_to
        (answer,) = client.post("/v1/classify?top=3", content=_PHOTO).json()
        by_file = dict(written.classify(_PHOTO).labels)
        assert {a["name"]: a["probability"] for a in answer["labels"]} == pytest.approx(
            by_file, abs=1e-4
        )
        again = client.post("/v1/classes/keys/photos", content=_PHOTO)
        assert again.status_code == 422
        assert "already" in again.json()["photos"][0]["problem"]
        new = client.post("/v1/classes/cup/photos", content=photo(5, 1).data)
        assert (new.status_code, list(new.json())) == (404, ["error"])
        new = client.post("/v1/classes/cup/photos?create=true", content=photo(5, 1).data)
        assert "cup" in new.json()["model"]["class_names"]
        assert client.post("/v1/classes/..%2fup/photos?create=true", content=_PHOTO).is_error
        # what others do to the file counts
        fewshot_lite.undo(file)
        clip = write_clip(file.with_suffix(".mp4"), plain("red")).read_bytes()
        added = client.post("/v1/classes/keys/photos", content=clip)
        assert (added.status_code, added.json()["photos"][0]["problem"]) == (422, VIDEO)
        added = client.post("/v1/classes/mug/photos", content=photo(0, 78).data)
        assert added.json()["model"]["shots"] == {**shots, "mug": shots["mug"] + 1}
        assert client.post("/v1/undo").json()["shots"] == shots
        assert PersonalModel.load(file).shots == shots
        assert set(client.get("/openapi.json").json()["paths"]) == {
            *("/healthz", "/v1/model", "/v1/classify", "/v1/classes/{name}/photos", "/v1/undo")
        }


def test_models_that_cannot_change_say_why(file: Path, tmp_path: Path) -> None:
    (tmp_path / "small.onnx").write_bytes(exported_small_personal())
    for model, why in (
        (GrowingModel(file, workers=2), "2 processes serve this model"),
        (GrowingModel(tmp_path / "small.onnx"), "exported model cannot be changed"),
    ):
        before = contents(tmp_path)
        with TestClient(api_app(model), HOME) as client:
            for path in ("/v1/classes/mug/photos", "/v1/undo"):
                answer = client.post(path, content=_PHOTO)
                assert (answer.status_code, why in answer.json()["error"]) == (409, True)
        assert contents(tmp_path) == before
    with TestClient(api_app(GrowingModel(file)), HOME) as client:
        for name in ("CON", "mug.", "..", "%20"):
            answer = client.post(f"/v1/classes/{name}/photos?create=true", content=_PHOTO)
            assert (answer.status_code, "no name for a class" in answer.text) in (
                (400, True),
                (404, False),  # ".." is resolved by clients
            )
        assert "nothing to undo" in client.post("/v1/undo").json()["error"]


def test_a_model_in_a_folder_that_cannot_be_written_to_says_what_to_do(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, access = contents(file.parent), os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK and access(path, mode))
    with TestClient(api_app(GrowingModel(file)), HOME) as client:
        answer = client.post("/v1/classes/mug/photos", content=photo(0, 79).data)
        assert answer.status_code == 409
        assert answer.json()["error"].endswith("Serve a copy in a folder that you may write to.")
        assert client.post("/v1/classify", content=_PHOTO).status_code == 200
    assert contents(file.parent) == before


def test_a_class_that_is_no_folder_name_takes_photos_as_others_do(file: Path) -> None:
    odd = fewshot_lite.load(file)
    assert isinstance(odd, PersonalModel)
    odd = fewshot_lite.add(odd, [photo(n, 80).data for n in (1, 2)], labels=["a/b"] * 2).model
    odd.save(file, force=True)
    growing = GrowingModel(file)
    assert growing.add("a/b", [photo(3, 80)]) == [None]
    assert PersonalModel.load(file).shots["a/b"] == 3


def test_where_the_saved_model_is_damaged_it_is_made_anew(session: Session, tmp_path: Path) -> None:
    shutil.copytree(session.workspace.root, tmp_path / "copy")
    session_file = tmp_path / "copy" / ".fewshot-lite" / "model.safetensors"
    session_file.write_bytes(session_file.read_bytes()[:-5])
    again = Session(Workspace(tmp_path / "copy"), base)
    assert again.settled(PATIENCE)
    assert again.require_model().shots == session.require_model().shots
    again.close()
    assert PersonalModel.load(session_file).shots == session.require_model().shots
