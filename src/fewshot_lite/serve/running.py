"""The server: an address, uvicorn on it, and the end of it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import DEFAULT_BASE
from fewshot_lite.images.opening import current_limit, pixel_limit
from fewshot_lite.serve import protocols
from fewshot_lite.serve.app import api_app
from fewshot_lite.serve.growing import GrowingModel
from fewshot_lite.serve.guard import App, Limits
from fewshot_lite.serve.target import Target, check_address, check_web

if TYPE_CHECKING:
    from fewshot_lite.serve.session import Session

# Before torch is imported: threads that wait by spinning take the cores from the camera's browser.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

#: Taken where it is free and no other is asked for, so that the address stays the same.
USUAL_PORT = 8765
#: uvicorn's, for every way to run it.
_SETTINGS: dict[str, Any] = {
    "ws": "none",
    "log_level": "warning",
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,
    "limit_concurrency": 256,  # connections
    "timeout_graceful_shutdown": 5,
}
#: In the environment of workers: what they serve.
_WORKER = "FEWSHOT_LITE_SERVE"

#: What holds as long as a worker runs: a context that nobody keeps ends at once.
_FOR_GOOD = contextlib.ExitStack()

OnAddress = Callable[[str], None]


def serve_page(
    target: Target,
    *,
    base: str | Path = DEFAULT_BASE,
    device: str = "auto",
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    at_work: int = 32,
    on_address: OnAddress | None = None,
    on_note: Callable[[str], None] | None = None,
) -> None:
    """Serve the page and its API until Ctrl-C.

    Args:
        target: the folder, and the model to begin with.
        base: the meta-trained model to adapt.
        device: to compute on.
        host: the address to listen on.
        port: its port; None for `USUAL_PORT`, or any that is free.
        token: what has to be shown, on an address that others can reach.
        at_work: requests that are worked on at a time.
        on_address: told the address when it can be opened.
        on_note: told what the page passes over in the folder, in one line.

    Raises:
        UsageError, FewshotError: an address, folder, model or device that cannot be.
    """
    limits = Limits(loopback=check_address(host, token), token=token, at_work=at_work)
    check_web()
    from fewshot_lite.serve.page_app import page_app

    with _listening(host, port) as listener:
        session = open_session(target, base=base, device=device)
        try:
            if on_address is not None:
                on_address(_address(host, listener, token))
            if on_note is not None and (videos := session.workspace.videos()):
                several = f"{len(videos)} videos are" if len(videos) > 1 else "one video is"
                on_note(
                    f"{target.folder}: {several} passed over ({videos[0].name}"
                    f"{', …' * (len(videos) > 1)}), as the page takes photos alone. To learn from "
                    f"videos: fewshot-lite adapt {shlex.quote(str(target.folder))}"
                )
            _run(page_app(session, limits), listener)
        finally:
            session.close()


def open_session(
    target: Target, *, base: str | Path = DEFAULT_BASE, device: str = "auto"
) -> Session:
    """The state of a page on a folder, which is made if it is not there.

    Raises:
        UsageError, FewshotError: a folder, model or device that cannot be.
    """
    from fewshot_lite.core.devices import pick_device
    from fewshot_lite.personal.meta_model import MetaModel
    from fewshot_lite.serve.session import Session
    from fewshot_lite.serve.workspace import Workspace

    name = str(pick_device(device))
    with contextlib.ExitStack() as stack:
        workspace = stack.enter_context(contextlib.closing(Workspace(target.folder)))
        session = Session(workspace, lambda: MetaModel.load(base, device=name), device=name)
        stack.callback(session.close)
        if target.model is not None and not session.board.classes:
            session.open_model(target.model)
        stack.pop_all()  # it is the caller's to close
    return session


def serve_api(
    model: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    at_work: int = 32,
    workers: int = 1,
    on_address: OnAddress | None = None,
) -> None:
    """Serve the API of a model alone, in as many processes as are asked for.

    Args:
        model: what `adapt` or `export` wrote; an export needs no torch.
        workers: processes, each with the model in memory; only one alone adds photos to it.
        host: as `serve_page` takes it.
        port: as `serve_page` takes it.
        token: as `serve_page` takes it.
        at_work: as `serve_page` takes it, of each process.
        on_address: as `serve_page` takes it.

    Raises:
        UsageError, FewshotError: an address or model that cannot be.
    """
    limits = Limits(loopback=check_address(host, token), token=token, at_work=at_work)
    check_web()
    with _listening(host, port) as listener:
        opened = GrowingModel(model)  # also where workers do: what is wrong is said once
        if on_address is not None:
            on_address(_address(host, listener, token))
        if workers == 1:
            _run(api_app(opened, limits), listener)
            return
        port = listener.getsockname()[1]
    about = {"model": str(model), "host": host, "token": token, "at_work": at_work}
    os.environ[_WORKER] = json.dumps({**about, "workers": workers, "pixels": current_limit()})
    import uvicorn

    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(
            "fewshot_lite.serve.running:worker",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            http=protocols.Impatient,
            **_SETTINGS,
        )


def worker() -> App:
    """The application of one of several processes, by what `serve_api` left for them."""
    about = json.loads(os.environ[_WORKER])
    _FOR_GOOD.enter_context(pixel_limit(about["pixels"]))
    model = GrowingModel(Path(about["model"]), workers=about["workers"])
    _share_cores(about["workers"])
    loopback = check_address(about["host"], about["token"])
    limits = Limits(loopback=loopback, token=about["token"], at_work=about["at_work"])
    return api_app(model, limits)


def _share_cores(workers: int) -> None:
    """Let each process have its part of the cores, where torch is what runs the model."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() // workers))


def _listening(host: str, port: int | None) -> socket.socket:
    """A socket that listens, so that a browser that comes early waits.

    Raises:
        UsageError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in (USUAL_PORT, 0) if port is None else (port,):
        found = socket.socket(family, socket.SOCK_STREAM)
        if os.name != "nt":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, candidate))
            found.listen(128)
        except (OSError, OverflowError) as error:
            found.close()
            if port is None and candidate:
                continue
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise UsageError(
                f"--host {host} --port {candidate}: cannot be listened on ({reason})."
            ) from None
        return found
    raise AssertionError  # the last candidate returned or raised


def _address(host: str, listener: socket.socket, token: str | None) -> str:
    name = f"[{host}]" if ":" in host else host
    query = f"?token={token}" if token else ""
    return f"http://{name}:{listener.getsockname()[1]}/{query}"


def _run(app: App, listener: socket.socket) -> None:
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, http=protocols.Impatient, **_SETTINGS))
    with contextlib.suppress(KeyboardInterrupt):  # how it is meant to end
        server.run(sockets=[listener])
