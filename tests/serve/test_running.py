"""The real server: processes, sockets, signals, and what clients do that mean no good."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from command_line import Run, is_one_clear_line
from drawn import base, filled, photo
from exported import exported_small_personal
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.serve.workspace import OWN
from photos import draw_classes
from served import Served, serving

pytest.importorskip("uvicorn", reason="needs the extra `web`")


def request(served: Served, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", served.port, timeout=60)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")
    finally:
        connection.close()


def until(true: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    base().save(path)
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone"], "gone: no such file or folder"),
        (["x.onnx"], "give the .safetensors file.*or a folder.*served with --api-only"),
        (["x.zip"], r"x.zip: give the .safetensors file.*or a folder.*Unpack the archive"),
        (["--host", "0.0.0.0"], "needs --token"),
        (["--token", "short"], "16 to 200 characters"),
        (["--token", "not a cookie; at all"], "16 to 200 characters"),
        (["--workers", "2"], "goes with --api-only"),
        (["--workers", "1"], "goes with --api-only"),
        (["x.onnx", "--api-only", "--base", "default"], "--base: does nothing with --api-only"),
        (["x.onnx", "--api-only", "--device", "cpu"], "--device: does nothing with --api-only"),
        (["x.onnx", "--api-only", "--no-open"], "--no-open: does nothing with --api-only"),
        (["--api-only", "."], "a folder. With --api-only"),
        (["--api-only"], "Make one with `fewshot-lite adapt FOLDER`"),
        (["--host", "203.0.113.1", "--token", "a" * 16], r"listened on \(.*\)\. Give another"),
        (["--base", "nothing-of-this-name", "."], "--base nothing-of-this-name"),
        ([".", "--no-open"], "photos lie directly in the folder"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.onnx").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("mug/a.png", photo(0, 0).data)
    (tmp_path / "loose.png").write_bytes(photo(0, 0).data)
    code = 1 if "loose" in message or "lie directly" in message else 2
    is_one_clear_line(run("serve", *words), code, message)


@pytest.mark.slow
@pytest.mark.parametrize("clips", [0, 1, 2])
def test_videos_in_the_folder_are_said_to_be_passed_over(tmp_path: Path, clips: int) -> None:
    folder = draw_classes(tmp_path / "my things", {"mug": 1, "keys": 1})
    for name in ("mug/a.mp4", "keys/deep/b")[:clips]:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\0\0\x18ftypisom")
    (folder / "mug" / "photo.mp4").write_bytes(photo(0, 9).data)  # as some programs name photos
    with serving(folder, "--no-open", cwd=tmp_path) as served:
        assert request(served, "GET", "/healthz")[0] == 200
        code, said = served.end(signal.SIGINT)
    assert code == 0
    if not clips:
        assert said == ""
        return
    several = "2 videos are passed over (b, …)" if clips > 1 else "one video is passed over (a.mp4)"
    assert said == (
        f"{folder}: {several}, as the page takes photos alone. To learn from videos: "
        f"fewshot-lite adapt '{folder}'\n"
    )


@pytest.mark.slow
def test_a_server_that_is_killed_while_it_saves_loses_nothing(tmp_path: Path, tiny: Path) -> None:
    folder = draw_classes(tmp_path / "things", {"mug": 2, "keys": 2})
    sent: list[int] = []
    seed = iter(range(10_000))
    for round_ in range(4):
        with serving(folder, "--base", tiny, "--no-open", cwd=tmp_path) as served:
            stop = threading.Event()

            def post(served: Served = served, stop: threading.Event = stop) -> None:
                while not stop.is_set():
                    number = next(seed)
                    path = f"/v1/classes/{('mug', 'keys')[number % 2]}/photos"
                    try:
                        status, _ = request(served, "POST", path, photo(number % 2, number).data)
                    except (OSError, HTTPException):
                        return
                    if status == 200:
                        sent.append(number)

            with ThreadPoolExecutor(3) as pool:
                for _ in range(3):
                    pool.submit(post)
                until(lambda: (folder / OWN / "model.safetensors").exists())
                time.sleep(0.7 + 0.37 * round_)
                served.process.send_signal(signal.SIGKILL)
                stop.set()
    there = {path.read_bytes() for path in folder.glob("*/*.png")}
    assert len(sent) > 8
    assert all(photo(number % 2, number).data in there for number in sent)
    PersonalModel.load(folder / OWN / "model.safetensors")
    with serving(folder, "--base", tiny, "--no-open", cwd=tmp_path) as served:

        def all_learned() -> bool:
            model = request(served, "GET", "/v1/session")[1]["model"]
            return model is not None and model["photos"] == len(list(folder.glob("*/*.png")))

        until(all_learned)
        assert served.end(signal.SIGINT) == (0, "")


@pytest.mark.slow
def test_slow_clients_are_let_go_and_others_do_not_notice(tmp_path: Path) -> None:
    filled(tmp_path / "things").close()
    with serving(tmp_path / "things", "--no-open", cwd=tmp_path) as served:
        slow = []
        for start in (
            b"",
            b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n",
            b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\nx",
            b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        ):
            for _ in range(10):
                slow.append(socket.create_connection(("127.0.0.1", served.port)))
                slow[-1].sendall(start)
                slow[-1].settimeout(30)
        begun = time.monotonic()
        assert request(served, "POST", "/v1/classify", photo(0, 7).data)[0] == 200
        assert time.monotonic() - begun < 5
        for connection in slow:
            answer = connection.recv(1000)
            assert answer == b"" or b" 408 " in answer
            connection.close()
        assert time.monotonic() - begun < 20
        for line in (b"\x16\x03\x01\x02\0\1", b"GET / HTTP/9\r\n\r\n", b"GET /" + b"a" * 99_999):
            with socket.create_connection(("127.0.0.1", served.port)) as connection:
                connection.sendall(line)
                connection.settimeout(30)
                assert b" 500 " not in connection.recv(1000)
        assert served.end()[0] == 0


@pytest.mark.slow
def test_beyond_so_many_at_work_clients_are_told_to_come_again(tmp_path: Path) -> None:
    filled(tmp_path / "things").close()
    data = photo(0, 7).data
    with serving(tmp_path / "things", "--no-open", "--at-work", 1, cwd=tmp_path) as served:

        def insist(_: int) -> int:
            for refused in range(1000):
                status, _found = request(served, "POST", "/v1/classify", data)
                if status == 200:
                    return refused
                assert status == 503
                time.sleep(0.01)
            raise AssertionError("never let in")

        with ThreadPoolExecutor(16) as pool:
            refused = list(pool.map(insist, range(64)))
        assert len(refused) == 64
        assert sum(refused) > 0
        assert served.end() == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_an_export_is_served_without_torch_by_several(tmp_path: Path, workers: int) -> None:
    (tmp_path / "small.onnx").write_bytes(exported_small_personal())
    words = ("small.onnx", "--api-only", "--workers", workers)
    with serving(*words, cwd=tmp_path) as served:

        def answers() -> bool:
            try:
                return request(served, "GET", "/healthz")[0] == 200
            except OSError:
                return False

        until(answers)
        status, (answer,) = request(served, "POST", "/v1/classify", photo(0, 1).data)
        assert (status, answer["problem"]) == (200, None)
        if os.path.exists("/proc"):
            for pid in _family(served.process.pid):
                assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()
        assert served.end()[0] == 0
    with socket.socket() as after:  # none of them is left
        assert after.connect_ex(("127.0.0.1", served.port)) != 0


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in _family(int(child)))]
