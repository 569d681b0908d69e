"""The server: an address, uvicorn on it, and the end of it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import DEFAULT_BASE
from fewshot_lite.images.opening import current_limit, pixel_limit
from fewshot_lite.serve import protocols
from fewshot_lite.serve.app import api_app, page_app
from fewshot_lite.serve.growing import GrowingModel
from fewshot_lite.serve.guard import App
from fewshot_lite.serve.target import Service, Target, check_web

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

#: Told one line.
Tell = Callable[[str], None]


def serve_page(
    target: Target,
    service: Service,
    *,
    base: str | Path = DEFAULT_BASE,
    device: str = "auto",
    on_address: Tell,
    on_note: Tell,
) -> None:
    """Serve the page and its API until Ctrl-C.

    Args:
        target: the folder, and the model to begin with.
        service: where, and to whom.
        base: the meta-trained model to adapt.
        device: to compute on.
        on_address: told the address when it can be opened.
        on_note: told what the page passes over in the folder, in one line.

    Raises:
        UsageError, FewshotError: an address, folder, model or device that cannot be.
    """
    limits = service.limits()
    check_web()
    with _listening(service) as listener:
        session = open_session(target, base=base, device=device)
        try:
            on_address(_address(service, listener))
            if videos := session.workspace.videos():
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


def serve_api(model: Path, service: Service, *, workers: int = 1, on_address: Tell) -> None:
    """Serve the API of a model alone, in as many processes as are asked for.

    Args:
        model: what `adapt` or `export` wrote; an export needs no torch.
        service: where, and to whom.
        workers: processes, each with the model in memory; only one alone adds photos to it.
        on_address: told the address when it can be opened.

    Raises:
        UsageError, FewshotError: an address or model that cannot be.
    """
    limits = service.limits()
    check_web()
    with _listening(service) as listener:
        opened = GrowingModel(model)  # also where workers do: what is wrong is said once
        on_address(_address(service, listener))
        if workers == 1:
            _run(api_app(opened, limits), listener)
            return
        port = listener.getsockname()[1]
    about = {"model": str(model), "service": asdict(service), "workers": workers}
    os.environ[_WORKER] = json.dumps({**about, "pixels": current_limit()})
    import uvicorn

    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(
            "fewshot_lite.serve.running:worker",
            factory=True,
            host=service.host,
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
    if "torch" in sys.modules:  # which runs the model: each process has its part of the cores
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() // about["workers"]))
    return api_app(model, Service(**about["service"]).limits())


def _listening(service: Service) -> socket.socket:
    """A socket that listens, so that a browser that comes early waits.

    Raises:
        UsageError: the address cannot be had.
    """
    host, port = service.host, service.port
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
                f"--host {host} --port {candidate}: cannot be listened on ({reason}). "
                "Give another address, or a --port that is free."
            ) from None
        return found
    raise AssertionError  # the last candidate returned or raised


def _address(service: Service, listener: socket.socket) -> str:
    host, token = service.host, service.token
    name = f"[{host}]" if ":" in host else host
    query = f"?token={token}" if token else ""
    return f"http://{name}:{listener.getsockname()[1]}/{query}"


def _run(app: App, listener: socket.socket) -> None:
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, http=protocols.Impatient, **_SETTINGS))
    with contextlib.suppress(KeyboardInterrupt):  # how it is meant to end
        server.run(sockets=[listener])
