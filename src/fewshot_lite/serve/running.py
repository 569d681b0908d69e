"""Running of the server: its socket, uvicorn, and the end of it."""

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

# Set before torch is imported: waiting threads that spin would slow down the camera's browser.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

#: The default port if it is free, so that the address stays the same.
USUAL_PORT = 8765
#: The settings of uvicorn.
_SETTINGS: dict[str, Any] = {
    "ws": "none",
    "log_level": "warning",
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,
    "limit_concurrency": 256,  # connections
    "timeout_graceful_shutdown": 5,
}
#: The environment variable by which `serve_api` passes its arguments to workers.
_WORKER = "FEWSHOT_LITE_SERVE"

#: Contexts that last as long as a worker.
_WORKER_CONTEXTS = contextlib.ExitStack()

#: Called with one line.
OnLine = Callable[[str], None]


def serve_page(
    target: Target,
    service: Service,
    *,
    base: str | Path = DEFAULT_BASE,
    device: str = "auto",
    on_address: OnLine,
    on_note: OnLine,
) -> None:
    """Serve the page and its API until Ctrl-C.

    Args:
        target: the folder, and the model to open in it.
        service: the address and its limits.
        base: the meta-trained model to adapt.
        device: the device to compute on.
        on_address: called with the address when it can be opened.
        on_note: called with a remark on files that the page does not use.

    Raises:
        UsageError, FewshotError: an address, folder, model or device that cannot be used.
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
    """Open the session of a folder, which is created if it is missing.

    Raises:
        UsageError, FewshotError: a folder, model or device that cannot be used.
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
        stack.pop_all()  # the caller closes the session
    return session


def serve_api(model: Path, service: Service, *, workers: int = 1, on_address: OnLine) -> None:
    """Serve the API of a model until Ctrl-C.

    Args:
        model: a personal model, or its export, which needs no torch.
        service: the address and its limits.
        workers: the number of processes, each with the model in memory; only a single one can add
            photos to it.
        on_address: called with the address when it can be opened.

    Raises:
        UsageError, FewshotError: an address or model that cannot be used.
    """
    limits = service.limits()
    check_web()
    with _listening(service) as listener:
        growing = GrowingModel(model)  # also with workers, so that errors are reported once
        on_address(_address(service, listener))
        if workers == 1:
            _run(api_app(growing, limits), listener)
            return
        port = listener.getsockname()[1]
    arguments = {"model": str(model), "service": asdict(service), "workers": workers}
    os.environ[_WORKER] = json.dumps({**arguments, "pixels": current_limit()})
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
    """Return the application of a worker process, with the arguments of `serve_api`."""
    about = json.loads(os.environ[_WORKER])
    _WORKER_CONTEXTS.enter_context(pixel_limit(about["pixels"]))
    model = GrowingModel(Path(about["model"]), workers=about["workers"])
    if "torch" in sys.modules:  # which runs the model: each process has its part of the cores
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() // about["workers"]))
    return api_app(model, Service(**about["service"]).limits())


def _listening(service: Service) -> socket.socket:
    """Return a listening socket, so that browsers wait until the server has started.

    Raises:
        UsageError: the address cannot be used.
    """
    host, port = service.host, service.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in (USUAL_PORT, 0) if port is None else (port,):
        listener = socket.socket(family, socket.SOCK_STREAM)
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(128)
        except (OSError, OverflowError) as error:
            listener.close()
            if port is None and candidate:
                continue
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise UsageError(
                f"--host {host} --port {candidate}: cannot be listened on ({reason}). "
                "Give another address, or a --port that is free."
            ) from None
        return listener
    raise AssertionError  # not reached: the last candidate returns or raises


def _address(service: Service, listener: socket.socket) -> str:
    host, token = service.host, service.token
    name = f"[{host}]" if ":" in host else host
    query = f"?token={token}" if token else ""
    return f"http://{name}:{listener.getsockname()[1]}/{query}"


def _run(app: App, listener: socket.socket) -> None:
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, http=protocols.Impatient, **_SETTINGS))
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
