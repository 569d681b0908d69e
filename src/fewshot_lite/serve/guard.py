"""ASGI middleware that checks every request: its origin, its size, and the number of requests.

Any web site that the user visits can send requests to a page on the user's machine, so:

- on a loopback address the Host header must be one, not a name that resolves to it (DNS rebinding);
- requests that change something must come from the page itself (Origin, Sec-Fetch-Site) or from a
  program, which sends neither header;
- on other addresses a token is needed, in a header or in a cookie that the page's address sets.

Bodies are read here, up to a size and within a time, before the application is called.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fewshot_lite.serve.replies import Reply, error_reply

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Names of the loopback address.
LOOPBACK = frozenset(["127.0.0.1", "localhost", "::1"])
#: Paths that need no token.
_OPEN = frozenset(["/healthz"])
_COOKIE = "fewshot-lite"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Limits:
    """The limits on requests; all numbers are maxima."""

    loopback: bool = True
    """Whether the server listens on a loopback address."""
    token: str | None = None
    """The token that requests need, if any."""
    at_work: int = 32
    """Requests handled at a time; others are answered with 503."""
    reading: int = 128
    """Requests whose bodies are received at a time."""
    body: int = 50_000_000
    """Bytes of a body."""
    larger: Mapping[str, int] = field(default_factory=dict)
    """Bytes of a body at paths with another maximum."""
    in_memory: int = 1_000_000_000
    """Bytes of all bodies at a time."""
    pause: float = 10.0
    """Seconds between two pieces of a body."""
    whole: float = 60.0
    """Seconds for a body, to which one is added for each megabyte that the path allows."""


class Refused(Exception):
    """The request is refused."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.reply = error_reply(status, message, **headers)


class Guard:
    """An ASGI application that refuses requests or passes them to another one."""

    def __init__(self, app: App, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._reading = self._working = self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or the start and end of the server."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = _headers(scope)
        send = _with_security_headers(send)
        try:
            self._check_host(headers)
            self._check_origin(scope, headers)
            if login := self._check_token(scope, headers):
                await _send(login, send)
                return
            await self._handle(scope, receive, send, headers)
        except Refused as refused:
            await _send(refused.reply, send)

    async def _handle(
        self, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str]
    ) -> None:
        if scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        body = b""
        try:
            body = await self._read(scope["path"], receive, headers)
            self._bytes += len(body)
            if self._working >= self._limits.at_work:
                raise _busy()
            self._working += 1
            try:
                await self._app(scope, _replay(body, receive), send)
            finally:
                self._working -= 1
        finally:
            self._bytes -= len(body)

    async def _read(self, path: str, receive: Receive, headers: Mapping[str, str]) -> bytes:
        limits = self._limits
        most = limits.larger.get(path, limits.body)
        announced = headers.get("content-length", "0")
        if not announced.isascii() or not announced.isdigit() or int(announced[:20]) > most:
            raise _too_large(most)
        if self._reading >= limits.reading or self._bytes + int(announced) > limits.in_memory:
            raise _busy()
        end = time.monotonic() + limits.whole + most / 1e6
        parts, size, more = [], 0, True
        self._reading += 1
        try:
            while more:
                timeout = min(limits.pause, end - time.monotonic())
                try:
                    message = await asyncio.wait_for(receive(), max(timeout, 0.001))
                except TimeoutError:
                    raise Refused(
                        408, "The request took too long to arrive.", connection="close"
                    ) from None
                if message["type"] == "http.disconnect":
                    raise Refused(400, "The request broke off.")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > most:
                    raise _too_large(most)
                more = message.get("more_body", False)
        finally:
            self._reading -= 1
        return b"".join(parts)

    def _check_host(self, headers: Mapping[str, str]) -> None:
        if self._limits.loopback and _hostname(headers.get("host", "")) not in LOOPBACK:
            raise Refused(
                421, "This server answers to 127.0.0.1 and localhost, not to other names."
            )

    def _check_origin(self, scope: Scope, headers: Mapping[str, str]) -> None:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if scope["method"] in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate":
            return  # a link to the page
        same_site = site in ("none", "same-origin")
        if not same_site or (origin is not None and urlsplit(origin).netloc != headers.get("host")):
            raise Refused(403, "The request comes from another site.")

    def _check_token(self, scope: Scope, headers: Mapping[str, str]) -> Reply | None:
        """Refuse requests without the token; return a reply with the cookie for /?token=TOKEN."""
        token = self._limits.token
        if token is None or scope["path"] in _OPEN:
            return None
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if scope["method"] == "GET" and scope["path"] == "/" and "token" in query:
            if not _same(query["token"][0], token):
                raise Refused(401, "The token in the address is not the one of this server.")
            cookie = f"{_COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/"
            return Reply(b"", "text/plain", 303, {"location": "/", "set-cookie": cookie})
        given = [headers.get("authorization", "").removeprefix("Bearer "), _cookie(headers)]
        if not any(_same(value, token) for value in given):
            raise Refused(
                401,
                "A token is needed: open the address with ?token=TOKEN that was printed, or send "
                "it as 'Authorization: Bearer TOKEN'.",
                **{"www-authenticate": "Bearer"},
            )
        return None


def _headers(scope: Scope) -> dict[str, str]:
    return {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}


def _hostname(host: str) -> str:
    """Return a Host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _cookie(headers: Mapping[str, str]) -> str:
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie else ""


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())


def _too_large(most: int) -> Refused:
    return Refused(413, f"More than {most / 1e6:.0f} MB.", connection="close")


def _busy() -> Refused:
    return Refused(503, "Too many requests at a time. Try again.", **{"retry-after": "1"})


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body in one piece, then the client's disconnection."""
    pieces = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return pieces.pop() if pieces else await receive()

    return receive_again


def _with_security_headers(send: Send) -> Send:
    """Return a `send` that adds `_HEADERS` to the response."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            extra = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", ()), *extra]}
        await send(message)

    return send_with_headers


async def _send(reply: Reply, send: Send) -> None:
    headers = {"content-type": reply.kind, "content-length": str(len(reply.body)), **reply.headers}
    pairs = [(k.encode(), v.encode()) for k, v in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": pairs})
    await send({"type": "http.response.body", "body": reply.body})
