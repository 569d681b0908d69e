"""Send a running page what means no good: is every answer a plain refusal, and nothing left behind?

    python -m benchmarks.reliability.hostile_uploads

`fewshot-lite serve` is started on drawings, once open to this machine and once with a token, and
gets one request after another over bare sockets, then all of them sixteen at a time. What is
counted must be nothing: answers of 500, tracebacks in answers or on stderr, files outside of the
folder, requests after which the server does not answer in time. A connection that is closed
without an answer ("closed") is as good as a refusal.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from PIL import Image

from benchmarks.common import arguments, emit, say, served
from benchmarks.image_formats import encoded
from benchmarks.reliability.hostile_images import claimed_sizes, other_formats
from fewshot_lite.demo.drawings import KINDS, write_folder

TOKEN = "a-token-that-nobody-guesses"
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
#: Methods and paths.
STARTS = (
    *(b"GET http://evil/", b"GET //evil/", b"GET /../../etc/passwd", b"GET *", b"CONNECT /"),
    *(b"\xff /", b"A" * 999 + b" /", b"GET /v1/photos/%2e%2e%2f%2e%2e/picture"),
)


@dataclass(frozen=True)
class Attack:
    """Bytes for one connection."""

    family: str
    pieces: tuple[bytes, ...]
    """Sent one after another."""
    pause: float = 0.0
    """Seconds between them."""


def request(
    method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> bytes:
    """An HTTP request; a header that is None in `headers` is left out."""
    whole = {"Host": "127.0.0.1", "Content-Length": str(len(body)), "Connection": "close"}
    whole |= headers or {}
    lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in whole.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace") + body


def photo(draw: Random, kind: str = "PNG") -> bytes:
    return encoded(Image.frombytes("RGB", (40, 40), draw.randbytes(4800)), kind)


def bodies(draw: Random) -> Iterator[tuple[str, bytes]]:
    """Photos that are none, (family, bytes)."""
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        whole = photo(draw, kind)
        for _ in range(3):
            yield "truncated", whole[: draw.randrange(1, len(whole) - 1)]
    yield from (("bombs", data) for _, data in claimed_sizes())
    yield from (("wrong types", data) for _, data in other_formats())
    for data in (b"", b"GIF89a", bytes(5000), draw.randbytes(5000), b"<svg onload=alert(1)>"):
        yield "wrong types", data


def attacks(draw: Random, tokened: bool) -> Iterator[Attack]:
    """All of them, against a server with or without a token."""
    if tokened:
        for headers in (
            *({}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {TOKEN}"}),
            *({"Cookie": "fewshot-lite=x"}, {"Cookie": "=" * 5000}, {"Authorization": ""}),
            {"Authorization": "Bearer " + TOKEN[:-1]},
        ):
            for method, path in (("POST", "/v1/classify"), ("GET", "/v1/photos.zip")):
                yield Attack("token", (request(method, path, photo(draw), headers),))
        yield Attack("token", (request("GET", "/?token=" + "%00" * 100),))
        return
    for family, data in bodies(draw):
        for path in ("/v1/classify", "/v1/classes/fish/photos"):
            yield Attack(family, (request("POST", path, data),))
    for name in NAMES:
        quoted = quote(name, safe="")
        for path in (f"/v1/classes/fish/photos?name={quoted}", f"/v1/classes/{quoted}/photos"):
            yield Attack("names", (request("POST", path, photo(draw)),))
        for members in ({"name": name}, {"into": name}):
            body = json.dumps(members).encode()
            yield Attack("names", (request("PATCH", "/v1/classes/house", body),))
        part = f'Content-Disposition: form-data; name="p"; filename="{name}"\r\n\r\n'
        form = b"--x\r\n" + part.encode("utf-8", "replace") + photo(draw) + b"\r\n--x--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        yield Attack("names", (request("POST", "/v1/classes/fish/photos", form, kind),))
    for path in ("/v1/classes", "/v1/photos/remove", "/v1/adapt"):
        yield from (Attack("JSON", (request("POST", path, body),)) for body in JSONS)
    for headers in (
        *({"Origin": o} for o in ("http://evil.example", "null", "http://127.0.0.1:1", "file://")),
        *({"Host": h} for h in ("evil.example", "127.0.0.1.evil.example", "", "[::2]", "a@b")),
        *({"Sec-Fetch-Site": s} for s in ("cross-site", "same-site")),
    ):
        yield Attack("origin", (request("POST", "/v1/undo", b"{}", headers),))
    yield from forms(draw)
    yield from raw()


def forms(draw: Random) -> Iterator[Attack]:
    """Forms that are none."""
    part = b'Content-Disposition: form-data; name="p"; filename="a.png"\r\n\r\n'
    for kind in ("", "; boundary=", "; boundary=x", "; boundary=" + "x" * 5000, '; boundary="'):
        for body in (
            *(b"", b"--x", b"--x\r\n", b"--x\r\n" + part, b"--x--\r\n", b"--y\r\n" + part + b"z"),
            b"--x\r\n" + b"A: b\r\n" * 5000,
            (b"--x\r\n" + part + photo(draw) + b"\r\n") * 300 + b"--x--\r\n",
        ):
            head = {"Content-Type": f"multipart/form-data{kind}"}
            yield Attack("forms", (request("POST", "/v1/classify", body, head),))


def raw() -> Iterator[Attack]:
    """What is no request, or two in one, or comes without end."""
    post, host = b"POST /v1/classify HTTP/1.1\r\n", b"Host: 127.0.0.1\r\n"
    hidden = b"GET /v1/session HTTP/1.1\r\nHost: evil\r\n\r\n"
    for headers in (
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
        b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + hidden,
        b"Content-Length: 4, 44\r\n\r\n" + hidden,
        b"Transfer-Encoding: xchunked\r\n\r\n" + hidden,
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + hidden,
        b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        *(b"Content-Length: %b\r\n\r\nx" % n for n in (b"-1", b"1e9", b"9" * 30, b"+1", b"0x1")),
        b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n",
        b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz",
    ):
        yield Attack("smuggling and lengths", (post + host + headers,))
    for data in (
        *(
            b"\x16\x03\x01\x02\0\1",
            b"\0" * 100,
            b"GET /\r\n",
            b"GET / HTTP/9\r\n\r\n",
            b"\r\n" * 999,
        ),
        *(b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\nHost: localhost\n\n"),
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + host + b"X: " + b"b" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + host + b"X\0: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + host + b" folded: b\r\n\r\n",
        *(b"%b HTTP/1.1\r\n" % start + host + b"\r\n" for start in STARTS),
    ):
        yield Attack("no requests", (data,))
    slow = (post + host + b"Content-Length: 999\r\n\r\n", b"x")
    yield Attack("slow", slow)
    yield Attack("slow", (post + host, b"X: y\r\n"))
    yield Attack("slow", (post + host, *[b"X: y\r\n"] * 20), 1.0)
    yield Attack("slow", (post + host + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nab"))


def answer(port: int, attack: Attack) -> tuple[str, str]:
    """Its status, "closed" or "no answer"; and what came."""
    found, otherwise = b"", "closed"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            for piece in attack.pieces:
                connection.sendall(piece)
                time.sleep(attack.pause)
            while part := connection.recv(65536):
                found += part
    except TimeoutError:
        otherwise = "no answer"  # or kept open for a next request
    except OSError:
        pass
    status = re.match(rb"HTTP/1\.1 (\d+)", found)
    return (status[1].decode() if status else otherwise), found.decode("latin-1")


def attacked(scratch: Path, draw: Random, *, tokened: bool) -> dict[str, Any]:
    """One server, its attacks, and what is left."""
    words = ["things", *(["--token", TOKEN] if tokened else [])]
    environment = {**os.environ, "HOME": str(scratch), "COLUMNS": "200"}
    with (
        (scratch / "stderr.txt").open("w+") as errors,
        served(words, scratch, stderr=errors, env=environment) as (server, port),
    ):
        headers = {"Authorization": f"Bearer {TOKEN}"} if tokened else {}
        alive = Attack("", (request("GET", "/v1/model", b"", headers),))
        while answer(port, alive)[0] == "409":  # the photos are being adapted to
            time.sleep(0.5)
        before = outside(scratch)
        every = list(attacks(draw, tokened))
        families: dict[str, Counter[str]] = {}
        bad = []
        for way, workers in (("one by one", 1), ("sixteen at a time", 16)):
            say(way, len(every))
            with ThreadPoolExecutor(workers) as pool:
                for attack, (status, text) in zip(
                    every, pool.map(lambda a: answer(port, a), every), strict=True
                ):
                    families.setdefault(attack.family, Counter())[status] += 1
                    wrong = status in ("no answer", "500", "502") or "Traceback" in text
                    if wrong:
                        bad.append([way, attack.family, repr(attack.pieces[0][:80]), status])
        well = answer(port, alive)[0]
        server.send_signal(signal.SIGINT)
        code = server.wait(60)
        errors.seek(0)
        said = errors.read()
    return {
        "requests": 2 * len(every),
        "answers": {family: dict(counts) for family, counts in families.items()},
        "bad": bad,
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
    result = {}
    for name, tokened in (("open", False), ("with a token", True)):
        with tempfile.TemporaryDirectory() as folder:
            write_folder(Path(folder) / "things", KINDS[:3], 4, seed=args.seed, size=64)
            result[name] = attacked(Path(folder), Random(args.seed), tokened=tokened)
    emit("hostile_uploads", vars(args), result)


if __name__ == "__main__":
    main()
