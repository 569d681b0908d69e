"""What stands before every request: who may ask, how much may be sent, how many at a time.

A page on the user's own machine can be reached by any web site that the user visits, so:

- on a loopback address the Host must be one (a name that was made to point here is another host);
- what changes something must come from the page itself (Origin, Sec-Fetch-Site) or from a program,
  which sends neither;
- anywhere else a token is needed, in a header or in a cookie that the page's address sets.

Bodies are read here, up to a size and within a time, before anything else sees them.
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

#: Names of this machine for itself.
LOOPBACK = frozenset(["127.0.0.1", "localhost", "::1"])
#: Where no token is asked for: it tells nothing.
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
    """What is let in."""

    loopback: bool = True
    """Whether the address is this machine's own for itself."""
    token: str | None = None
    """What has to be shown; None where nothing has."""
    at_work: int = 32
    """Requests that are worked on at a time; others are told to come again."""
    reading: int = 128
    """Requests whose body is on its way, at a time."""
    body: int = 50_000_000
    """Bytes of a body."""
    larger: Mapping[str, int] = field(default_factory=dict)
    """Path -> bytes of a body, where it is another number."""
    in_memory: int = 1_000_000_000
    """Bytes of all bodies at a time."""
    pause: float = 10.0
    """Seconds between two pieces of a body."""
    whole: float = 60.0
    """Seconds for a body, and one more for each megabyte that the path may be sent."""


class Refused(Exception):
    """A request that is not let in."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.reply = error_reply(status, message, **headers)


class Guard:
    """An ASGI application before another one."""

    def __init__(self, app: App, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._reading = self._working = self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the start and end of the server."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = _headers(scope)
        guarded = _guarded(send)
        try:
            self._check_host(headers)
            self._check_origin(scope, headers)
            if entered := self._check_token(scope, headers):
                await _send(entered, guarded)
                return
            await self._let_in(scope, receive, guarded, headers)
        except Refused as refused:
            await _send(refused.reply, guarded)

    async def _let_in(
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
                await self._app(scope, _replayed(body, receive), send)
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
                patience = min(limits.pause, end - time.monotonic())
                try:
                    message = await asyncio.wait_for(receive(), max(patience, 0.001))
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
        if self._limits.loopback and _name(headers.get("host", "")) not in LOOPBACK:
            raise Refused(
                421, "This server answers to 127.0.0.1 and localhost, not to other names."
            )

    def _check_origin(self, scope: Scope, headers: Mapping[str, str]) -> None:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        reads = scope["method"] in ("GET", "HEAD")
        here = site in ("none", "same-origin")
        if reads and headers.get("sec-fetch-mode") == "navigate":
            return  # a link to the page
        if not here or (origin is not None and urlsplit(origin).netloc != headers.get("host")):
            raise Refused(403, "The request comes from another site.")

    def _check_token(self, scope: Scope, headers: Mapping[str, str]) -> Reply | None:
        """A reply that sets the cookie, for the address that holds the token."""
        token = self._limits.token
        if token is None or scope["path"] in _OPEN:
            return None
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if scope["method"] == "GET" and scope["path"] == "/" and "token" in query:
            if not _same(query["token"][0], token):
                raise Refused(401, "The token in the address is not the one of this server.")
            cookie = f"{_COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/"
            return Reply(b"", "text/plain", 303, {"location": "/", "set-cookie": cookie})
        shown = [headers.get("authorization", "").removeprefix("Bearer "), _cookie(headers)]
        if not any(_same(value, token) for value in shown):
            raise Refused(
                401,
                "A token is needed: open the address with ?token=TOKEN that was printed, or send "
                "it as 'Authorization: Bearer TOKEN'.",
                **{"www-authenticate": "Bearer"},
            )
        return None


def _headers(scope: Scope) -> dict[str, str]:
    return {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}


def _name(host: str) -> str:
    """The host without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _cookie(headers: Mapping[str, str]) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _same(shown: str, token: str) -> bool:
    return hmac.compare_digest(shown.encode(errors="replace"), token.encode())


def _too_large(most: int) -> Refused:
    return Refused(413, f"More than {most / 1e6:.0f} MB.", connection="close")


def _busy() -> Refused:
    return Refused(503, "Too many requests at a time. Try again.", **{"retry-after": "1"})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """As the body comes in one piece; after it, whether the client has left."""
    pieces = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pieces.pop() if pieces else await receive()

    return again


def _guarded(send: Send) -> Send:
    """With the headers that every answer has."""

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            extra = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", ()), *extra]}
        await send(message)

    return with_headers


async def _send(reply: Reply, send: Send) -> None:
    headers = {"content-type": reply.kind, "content-length": str(len(reply.body)), **reply.headers}
    pairs = [(k.encode(), v.encode()) for k, v in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": pairs})
    await send({"type": "http.response.body", "body": reply.body})
