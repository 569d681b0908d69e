"""Serving a personal model by HTTP: requests a second and how long each takes, against clients.

    python -m benchmarks.cost.serving --clients 1,8,32 --seconds 60

`fewshot-lite serve MODEL --api-only` answers clients on the same machine, each of which posts one
photo (a seeded drawing, 640 x 480 JPEG) after the other over a connection of its own. In the same
run, and in turns with them: the bare network on as many images in memory, a batch at a time; both
also by processor time, which other programs on the machine disturb less. The server's memory is
read before and after each number of clients, and every answer is counted.

With `--page`, it is the page's server, whose model runs in torch and follows as photos come; and
how long it takes from a photo of a class to the model that knows it.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

from benchmarks.common import Row, arguments, emit, random_images, say, served
from benchmarks.cost.bulk import KINDS, write_files
from fewshot_lite.demo.drawings import write_folder
from fewshot_lite.personal.classifier import PhotoClassifier
from fewshot_lite.personal.loading import load, open_personal

#: Different photos that clients take in turns; images in a batch of the bare network.
PHOTOS, BATCH = 64, 16


def main() -> None:
    args = arguments(
        __doc__,
        clients=[1, 8, 32],
        seconds=(60.0, "of each number of clients"),
        workers=1,
        page=(False, "the page's server, not --api-only"),
        per_class=(10, "photos of each of the classes"),
        following=(10, "photos to follow, with --page"),
        seed=0,
    )
    if not Path("/proc/self/stat").exists():
        raise SystemExit("Needs a system that tells of other processes in /proc, e.g. Linux")
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        write_files(home / "files", PHOTOS, args.seed)
        photos = [path.read_bytes() for path in sorted((home / "files").rglob("*.jpg"))]
        write_folder(home / "things", KINDS, per_kind=args.per_class, seed=args.seed)
        load().adapt(home / "things").save(home / "model.safetensors")
        model = open_personal(home / "model.safetensors")
        given = ["things"] if args.page else ["model.safetensors", "--api-only"]
        with served([*given, "--workers", str(args.workers)], home) as (process, port):
            server = Server(process.pid, port)
            found: Row = {"loads": [], "following": None}
            for clients in args.clients:
                say(f"{clients} clients …")
                before = network(model, args.seconds / 4)
                row = {"clients": clients, **server.load(photos, clients, args.seconds)}
                after = network(model, args.seconds / 4)
                for name, unit in (("images_a_second", 2), ("cpu_ms_an_image", 1)):
                    row[f"network_{name}"] = round((before[name] + after[name]) / 2, unit)
                found["loads"].append(row)
            if args.page:
                found["following"] = server.following(home / "files", args.following)
    emit("serving", vars(args), found)


def network(model: PhotoClassifier, seconds: float) -> dict[str, float]:
    """The bare model on images in memory."""
    pixels = random_images(BATCH, model.image_size).numpy()
    model.answers_of(pixels)
    start, processor, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        model.answers_of(pixels)
        count += BATCH
    return {
        "images_a_second": count / (time.perf_counter() - start),
        "cpu_ms_an_image": 1000 * (time.process_time() - processor) / count,
    }


class Server:
    """A server that answers, in a process of its own."""

    def __init__(self, pid: int, port: int) -> None:
        self._pid, self._port = pid, port
        while not self._answers():
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return _ask(self._connect(), "GET", "/v1/model")[0] == 200
        except OSError:
            return False

    def _connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self._port, timeout=120)

    def load(self, photos: list[bytes], clients: int, seconds: float) -> Row:
        """What clients at the same time see of it."""
        times: list[float] = []
        statuses: list[int] = []
        end = time.perf_counter() + seconds

        def client(seed: int) -> None:
            random, connection = Random(seed), self._connect()
            while time.perf_counter() < end:
                start = time.perf_counter()
                status, _ = _ask(connection, "POST", "/v1/classify", random.choice(photos))
                times.append(time.perf_counter() - start)
                statuses.append(status)
            connection.close()

        before, start, processor = self._memory(), time.perf_counter(), self._seconds()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(client, range(clients)))
        passed, processor = time.perf_counter() - start, self._seconds() - processor
        cuts = quantiles(times, n=100)
        return {
            "requests": len(times),
            "answered": statuses.count(200),
            "requests_a_second": round(len(times) / passed, 2),
            "cpu_ms_a_request": round(1000 * processor / len(times), 1),
            "p50_ms": round(1000 * cuts[49], 1),
            "p99_ms": round(1000 * cuts[98], 1),
            "mib_before": before,
            "mib_after": self._memory(),
        }

    def following(self, folder: Path, number: int) -> Row:
        """Seconds from posting a photo of a class until the model is fitted to it."""
        connection, seconds = self._connect(), []
        for path in sorted(folder.rglob("*.jpg"))[:number]:
            start = time.perf_counter()
            _ask(connection, "POST", f"/v1/classes/{KINDS[0]}/photos", path.read_bytes())
            while True:
                _, state = _ask(connection, "GET", "/v1/session")
                there = sum(len(found["photos"]) for found in state["classes"])
                if not state["work"] and state["model"]["photos"] == there:
                    break
                time.sleep(0.02)
            seconds.append(time.perf_counter() - start)
        return {
            "photos": there,
            "median_seconds": round(median(seconds), 3),
            "most_seconds": round(max(seconds), 3),
        }

    def _memory(self) -> int:
        """MiB of the server and its workers."""
        status = [Path(f"/proc/{pid}/status").read_text() for pid in _family(self._pid)]
        return round(sum(int(x) for of in status for x in re.findall(r"VmRSS:\s+(\d+)", of)) / 1024)

    def _seconds(self) -> float:
        """Of processor time, of the server and its workers so far."""
        stats = [Path(f"/proc/{pid}/stat").read_text() for pid in _family(self._pid)]
        words = [stat.rpartition(")")[2].split() for stat in stats]
        return sum(int(w[11]) + int(w[12]) for w in words) / os.sysconf("SC_CLK_TCK")


def _ask(connection: HTTPConnection, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, json.loads(response.read() or b"null")


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in _family(int(child)))]


if __name__ == "__main__":
    main()
