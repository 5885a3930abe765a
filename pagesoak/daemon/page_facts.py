"""Where the page for browsers is, and who may change something through it.

Whoever has an account on this machine reaches a port on 127.0.0.1, so to look is open to all of
them once `page.listen` is set, and to change something needs a token, which root and the daemon's
own user get on the Unix socket (`pagesoak page`): who has it may do what they may. It is made anew
with each start and kept nowhere. In a header of its own, no foreign page can send it unasked.
"""

import hmac
import math
import os
import secrets
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from starlette.types import ASGIApp, Receive, Scope, Send

from pagesoak.base.scenario import builtin_names
from pagesoak.daemon.gate import SAFE_METHODS
from pagesoak.daemon.peer import STATE, Peer
from pagesoak.daemon.problem import ProblemError

TOKEN_BYTES = 24
"""Nobody guesses 192 bits."""
TOKEN_HEADER = b"pagesoak-token"
OF_NO_PROCESS = 0
"""In the log, the process of an order that came through the page."""
SECONDS_MAX = 1e9
"""Of a time in a request: thirty years."""


class PageFacts(NamedTuple):
    """The page of one daemon; without an address there is none, without a token it only shows."""

    address: str | None = None
    token: str | None = None

    @classmethod
    def at(cls, listener: socket.socket, *, changes: bool) -> Self:
        """The page on a socket that is bound."""
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        token = secrets.token_urlsafe(TOKEN_BYTES) if changes else None
        return cls(f"http://{shown}:{port}/", token)

    def document(self) -> dict[str, Any]:
        """What everybody may know."""
        return {
            "address": self.address,
            "changes": self.token is not None,
            "scenarios": list(builtin_names()),
        }


NO_PAGE = PageFacts()


class TokenGate:
    """Lets through what changes nothing, and what has the token."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            if self._token is None:
                raise ProblemError(403, "the page changes nothing unless `page.changes` is set")
            given = [value for name, value in scope["headers"] if name == TOKEN_HEADER]
            if len(given) != 1 or not hmac.compare_digest(given[0], self._token.encode()):
                raise ProblemError(403, "the token is missing or wrong: see `pagesoak page`")
            holder = Peer(OF_NO_PROCESS, os.geteuid(), os.getegid())
            scope["state"] = {**scope.get("state", {}), STATE: holder}
        await self._app(scope, receive, send)


def read_interval(query: Mapping[str, str]) -> tuple[float, float]:
    """`from` and `to`, in seconds of the soak's clock; ProblemError when they are none."""
    begin, end = _seconds(query, "from", 0.0), _seconds(query, "to", math.inf)
    if end < begin:
        raise ProblemError(422, "`to` lies before `from`")
    return begin, end


def _seconds(query: Mapping[str, str], name: str, default: float) -> float:
    text = query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= SECONDS_MAX:  # also what is no number
        raise ProblemError(422, f"`{name}` must be a time in seconds, 0 to {SECONDS_MAX:.0f}")
    return value
