"""Send a running page what means no good: is every answer a plain refusal, and nothing left behind?

    python -m benchmarks.reliability.hostile_uploads

`fewshot-lite serve` is started on drawings, and gets one request after another over bare sockets,
then all of them sixteen at a time. "wrong", and everything below it, must be nothing: answers of
500, tracebacks in answers or on stderr, files outside of the folder, requests that are not answered
in time. A connection that is closed without an answer ("closed") is as good as a refusal.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from subprocess import PIPE, Popen
from urllib.parse import quote

from PIL import Image

from benchmarks.common import Row, arguments, emit
from benchmarks.reliability.hostile_images import claimed_sizes, encoded, other_formats
from benchmarks.trials import summary
from fewshot_lite.demo.drawings import KINDS, write_folder

#: Seconds until a connection must have an answer or be closed.
PATIENCE = 60
NAMES = (
    *("../../escaped.jpg", "/etc/escaped.jpg", "C:\\escaped.jpg", "..", ".", "", " "),
    *("<img src=x onerror=alert(1)>", "'\"><script>alert(1)</script>", "a\0b", "a\r\nX-Evil: 1"),
    *("\u202egnp.exe", "\u2066\u2069", "x" * 5000, "\x1b[2J", "CON", ".ssh", "a/b/../../c"),
)
JSONS = (
    *(b"[" * 100_000, b'{"name":' * 5000, b'{"name": 1e400}', b'{"name": "\\ud800"}', b"\xff\xfe"),
    *(b'{"name": "a", "name": "../b"}', b'{"name": ' + b"9" * 10_000 + b"}", b"null", b"NaN"),
    *(b'{"numbers": [1e308]}', b'{"numbers": [' + b"1," * 50_000 + b"1]}", b'{"__proto__": 1}'),
)
POST, HOST = b"POST /v1/classify HTTP/1.1\r\n", b"Host: 127.0.0.1\r\n"
GET, HIDDEN = b"GET / HTTP/1.1\r\n", b"GET /v1/session HTTP/1.1\r\nHost: evil\r\n\r\n"
#: What follows `POST` and `HOST`: lengths that contradict, and requests within them.
LENGTHS = (
    b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + HIDDEN,
    b"Content-Length: 4, 44\r\n\r\n" + HIDDEN,
    b"Transfer-Encoding: xchunked\r\n\r\n" + HIDDEN,
    b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    *(b"Content-Length: %b\r\n\r\nx" % n for n in (b"-1", b"1e9", b"9" * 30, b"+1", b"0x1")),
    b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n",
    b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz",
)
#: Methods and paths.
STARTS = (
    *(b"GET http://evil/", b"GET //evil/", b"GET /../../etc/passwd", b"GET *", b"CONNECT /"),
    *(b"\xff /", b"A" * 999 + b" /", b"GET /v1/photos/%2e%2e%2f%2e%2e/picture"),
)
NO_REQUESTS = (
    *(b"\x16\x03\x01\x02\0\1", b"\0" * 100, b"GET /\r\n", b"GET / HTTP/9\r\n\r\n", b"\r\n" * 999),
    *(b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\nHost: localhost\n\n"),
    GET + b"A: b\r\n" * 20_000 + b"\r\n",
    *(GET + HOST + x + b"\r\n\r\n" for x in (b"X: " + b"b" * 200_000, b"X\0: b", b" folded: b")),
    *(b"%b HTTP/1.1\r\n" % start + HOST + b"\r\n" for start in STARTS),
)


#: Heads and bodies that do not end, piece by piece.
SLOW = (
    (POST + HOST + b"Content-Length: 999\r\n\r\n", b"x"),
    (POST + HOST, b"X: y\r\n"),
    (POST + HOST, *[b"X: y\r\n"] * 20),
    (POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nab"),
)
#: A family, and bytes for one connection, in pieces with a second between them.
Attack = tuple[str, tuple[bytes, ...]]


def request(
    family: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> Attack:
    """One HTTP request."""
    whole = {"Host": "127.0.0.1", "Content-Length": str(len(body)), "Connection": "close"}
    whole |= headers or {}
    lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in whole.items()), "", ""]
    return family, ("\r\n".join(lines).encode("latin-1", "replace") + body,)


def photo(draw: Random, kind: str = "PNG") -> bytes:
    return encoded(Image.frombytes("RGB", (40, 40), draw.randbytes(4800)), kind)


def no_photos(draw: Random) -> Iterator[tuple[str, bytes]]:
    """Photos that are none, (family, bytes)."""
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        whole = photo(draw, kind)
        yield from (("truncated", whole[: draw.randrange(1, len(whole) - 1)]) for _ in range(3))
    yield from (("bombs", data) for _, data in claimed_sizes())
    yield from (("wrong types", data) for _, data in other_formats())
    for data in (b"", b"GIF89a", bytes(5000), draw.randbytes(5000), b"<svg onload=alert(1)>"):
        yield "wrong types", data


def part(name: str) -> bytes:
    """The head of a form's part."""
    line = f'Content-Disposition: form-data; name="p"; filename="{name}"\r\n\r\n'
    return b"--x\r\n" + line.encode("utf-8", "replace")


def attacks(draw: Random) -> Iterator[Attack]:
    """All attacks; those of other sites, and without a token, are in `tests/serve/test_api.py`."""
    adding = "/v1/classes/fish/photos"
    for family, data in no_photos(draw):
        yield from (request(family, "POST", path, data) for path in ("/v1/classify", adding))
    for name in NAMES:
        quoted = quote(name, safe="")
        for path in (f"{adding}?name={quoted}", f"/v1/classes/{quoted}/photos"):
            yield request("names", "POST", path, photo(draw))
        for body in (json.dumps({key: name}).encode() for key in ("name", "into")):
            yield request("names", "PATCH", "/v1/classes/house", body)
        body = part(name) + photo(draw) + b"\r\n--x--\r\n"
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        yield request("names", "POST", adding, body, form)
    for path in ("/v1/classes", "/v1/photos/remove", "/v1/adapt"):
        yield from (request("JSON", "POST", path, body) for body in JSONS)
    head = part("a.png")
    for kind in ("", "; boundary=", "; boundary=x", "; boundary=" + "x" * 5000, '; boundary="'):
        for body in (
            *(b"", b"--x", b"--x\r\n", head, b"--x--\r\n", head.replace(b"--x", b"--y") + b"z"),
            b"--x\r\n" + b"A: b\r\n" * 5000,
            (head + photo(draw) + b"\r\n") * 300 + b"--x--\r\n",
        ):
            form = {"Content-Type": f"multipart/form-data{kind}"}
            yield request("forms", "POST", "/v1/classify", body, form)
    yield from (("smuggling and lengths", (POST + HOST + data,)) for data in LENGTHS)
    yield from (("no requests", (data,)) for data in NO_REQUESTS)
    yield from (("slow", pieces) for pieces in SLOW)


def answer(port: int, pieces: tuple[bytes, ...]) -> Row:
    """What comes of an attack: a status, "closed" or "no answer"."""
    found, outcome = b"", "closed"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            for number, piece in enumerate(pieces):
                time.sleep(min(number, 1))
                connection.sendall(piece)
            while data := connection.recv(65536):
                found += data
    except TimeoutError:
        outcome = "no answer"  # or kept open for a next request
    except OSError:
        pass
    if status := re.match(rb"HTTP/1\.1 (\d+)", found):
        outcome = status[1].decode()
    wrong = outcome in ("no answer", "500", "502") or b"Traceback" in found
    return {"name": repr(pieces[0][:80]), "outcome": outcome, "wrong": wrong}


def attacked(scratch: Path, every: list[Attack]) -> Row:
    """A server, the attacks on it, and what is left."""
    command = [sys.executable, "-m", "fewshot_lite", "serve", "things", "--no-open"]
    environment = {**os.environ, "HOME": str(scratch), "COLUMNS": "200"}
    rows: dict[str, list[Row]] = defaultdict(list)
    with (
        (scratch / "stderr.txt").open("w+") as errors,
        Popen(command, cwd=scratch, stdout=PIPE, stderr=errors, env=environment) as server,
    ):
        try:
            started = re.search(rb":(\d+)/", server.stdout.readline() if server.stdout else b"")
            assert started is not None, "the server did not start"
            port, (_, alive) = int(started[1]), request("", "GET", "/v1/model")
            while answer(port, alive)["outcome"] == "409":  # the photos are being adapted to
                time.sleep(0.5)
            before = outside(scratch)
            for workers in (1, 16):
                with ThreadPoolExecutor(workers) as pool:
                    found = pool.map(lambda attack: answer(port, attack[1]), every)
                    for (family, _), row in zip(every, found, strict=True):
                        rows[family].append(row)
            well = answer(port, alive)["outcome"]
            server.send_signal(signal.SIGINT)
            code = server.wait(60)
        finally:
            server.kill()
        errors.seek(0)
        said = errors.read()
    return {
        "requests": 2 * len(every),
        "answers": {family: summary(of_family) for family, of_family in rows.items()},
        "answers_afterwards": well == "200",
        "exit_code": code,
        "tracebacks_on_stderr": said.count("Traceback"),
        "lines_on_stderr": sorted(set(said.splitlines()))[:20],
        "new_files_outside": sorted(outside(scratch) - before),
        "odd_files_inside": odd(scratch / "things"),
    }


def outside(scratch: Path) -> set[str]:
    """Files beside the folder, and where path-like names would have led."""
    near = [p for p in scratch.rglob("*") if not p.is_relative_to(scratch / "things")]
    far = [*Path("/etc").glob("*escaped*"), *scratch.parent.glob("*escaped*")]
    return {str(path) for path in (*near, *far)}


def odd(folder: Path) -> list[str]:
    """What the page would not write: links, programs, files that are no photos in class folders."""
    found = []
    for path in folder.rglob("*"):
        within = path.relative_to(folder)
        if path.is_symlink() or len(within.parts) > 3:
            found.append(str(within))
        elif path.is_file() and within.parts[0] != ".fewshot-lite":
            with Image.open(path) as image:  # raises where it is none
                image.load()
            if path.stat().st_mode & 0o111:
                found.append(str(within))
    return found


def main() -> None:
    args = arguments(__doc__, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder) / "things", KINDS[:3], 4, seed=args.seed, size=64)
        emit(
            "hostile_uploads", vars(args), attacked(Path(folder), list(attacks(Random(args.seed))))
        )


if __name__ == "__main__":
    main()
