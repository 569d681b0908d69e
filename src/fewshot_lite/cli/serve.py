"""`fewshot-lite serve`: parsing and rendering."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewshot_lite.cli.options import Base, Device, MaxPixels, argument, option, was_given
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import DEFAULT_BASE, DEFAULT_PERSONAL
from fewshot_lite.personal.base_argument import parse_base
from fewshot_lite.serve.target import Service, check_model, check_web, find_target

_API = "The API"
#: Parameters of the page alone, and why.
_PAGE_ONLY = {
    "base": "which adapts no model but serves one",
    "device": "which runs on the CPU",
    "no_open": "which opens no browser",
}


def serve(
    target: Annotated[
        Path | None,
        argument(
            "A folder with one folder of photos per class, which the page works on; or a "
            "personal model. With neither, the page keeps its photos in your home folder.",
            metavar="MODEL|FOLDER",
        ),
    ] = None,
    base: Base = DEFAULT_BASE,
    port: Annotated[
        int | None,
        option("The port.", min=1, max=65535, metavar="N", shown="8765, or a free one"),
    ] = None,
    no_open: Annotated[bool, option("Do not open the browser.", "--no-open")] = False,
    host: Annotated[
        str,
        option("The address to listen on; others than this machine need --token.", metavar="NAME"),
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        option(
            "The secret that whoever uses the server has to give.",
            envvar="FEWSHOT_LITE_TOKEN",
            metavar="TEXT",
        ),
    ] = None,
    api_only: Annotated[
        bool,
        option(
            "Serve a personal model or its export by HTTP, without the page.",
            "--api-only",
            panel=_API,
        ),
    ] = False,
    workers: Annotated[
        int | None,
        option("Processes of --api-only.", min=1, max=256, metavar="N", panel=_API, shown="1"),
    ] = None,
    at_work: Annotated[
        int,
        option(
            "Requests that are worked on at a time; others get 503 and when to try again.",
            min=1,
            max=1024,
            metavar="N",
        ),
    ] = 32,
    max_pixels: MaxPixels = None,
    device: Device = "auto",
    *,
    context: typer.Context,
) -> None:
    """Open a page in the browser: webcam or photos in, live answers out, offline.

    Classes and photos are added, moved, renamed and removed there, and the model follows. What the
    page removes is put into FOLDER/.fewshot-lite/removed. The page uses no network but that to this
    program. Its API is described at /openapi.json.
    """
    _check_flags(context, api_only=api_only)
    service = Service(host, port, token, at_work)
    loopback = service.limits().loopback
    check_web()
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.serve.running import serve_api, serve_page

    def print_address(address: str) -> None:
        kind = "The API is at" if api_only else "The page is at"
        render.out.print(f"{kind} [bold]{render.escape(address)}[/]  (Ctrl-C ends it)")
        if not loopback:
            render.print_note(
                "others can reach this address. What they send and see is not encrypted: put a "
                "server with HTTPS before it, unless the network is yours."
            )
        if not (no_open or api_only):
            import webbrowser

            webbrowser.open(address)

    if api_only:
        model = DEFAULT_PERSONAL if target is None else target
        check_model(model)
        serve_api(model, service, workers=workers or 1, on_address=print_address)
        return
    parse_base(base)
    serve_page(
        find_target(target),
        service,
        base=base,
        device=device,
        on_address=print_address,
        on_note=render.print_note,
    )


def _check_flags(context: typer.Context, *, api_only: bool) -> None:
    """Raise UsageError for a flag that would do nothing, whatever its value."""
    if not api_only and was_given(context, "workers"):
        raise UsageError("--workers: goes with --api-only. The page is served by one process.")
    for name, why in _PAGE_ONLY.items():
        if api_only and was_given(context, name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag}: does nothing with --api-only, {why}. Leave it out.")
