"""The gate before every route: whom a request is for, where it comes from, how large it may be.

A page in somebody's browser can send requests to any port of his machine, and, by changing what a
name resolves to, read the answers. So the `Host` must be one that this daemon goes by. Nothing is
changed by a GET; what changes something must be JSON, which a page of another origin cannot send
unasked, and an `Origin` that is there must be one of the daemon's own. No answer allows other
origins anything. What leads to no route, or comes with a method that its route has not, changes
nothing and needs no JSON: the routes answer that.
"""

import asyncio
from collections.abc import Callable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pagesoak.base.units import MIB
from pagesoak.daemon.problem import ProblemError, problem

BODY_BYTES_MAX = MIB
"""Of a request: the text of a scenario is a quarter of it at most."""
BODY_SECONDS_MAX = 10.0
"""From the headers to the end of the body."""
OWN_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]", "pagesoak"})
"""What a daemon is called without being told. A client on a Unix socket says one of them, too."""
SAFE_METHODS = frozenset({"GET", "HEAD"})
API_VERSION = 1
"""Of the HTTP interface: raised when an older client would misunderstand an answer."""
VERSION_HEADER = b"pagesoak-api"

_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (VERSION_HEADER, str(API_VERSION).encode()),
)


class Gate:
    """An ASGI application that lets through what may pass; `hosts` is asked each time, because the
    configuration may change. `leads`: whether a request, by path and method, is for a route.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Callable[[], tuple[str, ...]],
        leads: Callable[[Scope], bool],
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._leads = leads
        self._log = structlog.get_logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        begun = False

        async def send_on(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                own = list(message.get("headers", []))
                named = {name.lower() for name, _ in own}
                missing = [header for header in _HEADERS if header[0] not in named]
                message = {**message, "headers": [*own, *missing]}
            await send(message)

        try:
            body = await self._checked(scope, receive)
            await self._app(scope, _replayed(body, receive), send_on)
        except ProblemError as error:
            if not begun:
                await error.response()(scope, receive, send_on)
        except Exception:
            self._log.exception("request.failed", path=scope["path"][:200])
            if begun:
                raise
            await problem(500, "see the daemon's log")(scope, receive, send_on)

    async def _checked(self, scope: Scope, receive: Receive) -> bytes:
        """The body of a request that may pass; ProblemError for others."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hosts = OWN_HOSTS | set(self._hosts())
        named = [value for name, value in headers if name == b"host"]
        if len(named) != 1 or _host(named[0]) not in hosts:
            raise ProblemError(421, "the Host header names no host that this daemon goes by")
        given = dict(headers)
        wanted = given.get(VERSION_HEADER)
        if wanted is not None and wanted != str(API_VERSION).encode():
            said = f"this daemon speaks version {API_VERSION} of its interface, the client another"
            raise ProblemError(400, f"{said}: use client and daemon of one version")
        if scope["method"] in SAFE_METHODS:
            return b""
        origin = given.get(b"origin")
        if origin is not None and _host(origin.partition(b"://")[2]) not in hosts:
            raise ProblemError(403, "the request comes from a page of another origin")
        kind = given.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json" and self._leads(scope):
            raise ProblemError(415, "the body of a request must be application/json")
        try:
            return await asyncio.wait_for(_read_body(receive), BODY_SECONDS_MAX)
        except TimeoutError:
            raise ProblemError(408, f"no whole body within {BODY_SECONDS_MAX:.0f} s") from None


def _host(value: bytes) -> str:
    """A `Host`, or what follows `://` of an `Origin`, in small letters and without its port."""
    text = value.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[: text.find("]") + 1]
    return text.partition(":")[0]


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ProblemError(400, "the request was cut off")
        body += message.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            raise ProblemError(413, f"a body may have {BODY_BYTES_MAX} bytes")
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, then what comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
