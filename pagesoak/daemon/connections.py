"""Connections that cannot be held open for nothing: what uvicorn leaves to whoever uses it.

uvicorn bounds how long an idle connection is kept *after* a request. A client that never finishes
its first one, or never reads its answer, would be kept for ever, and some hundreds of them would
be all that the daemon may have. Here each request has to be complete, and each answer taken,
within a time; and when there are too many connections, the one that has kept us waiting longest
goes, for a request or for its answer to be taken, so that who speaks plainly is answered also
while others do not.
"""

import asyncio
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pagesoak.daemon.peer import STATE, peer_of

CONNECTIONS_MAX = 64
"""Of one socket: a person, a browser, Prometheus, and many who follow events."""
REQUEST_SECONDS_MAX = 10.0
"""From a connection, or the end of an answer, until the request is there."""
ANSWER_SECONDS_MAX = 20.0
"""A client that has not taken what was sent after so long has gone."""
HEADER_BYTES_MAX = 16 << 10
"""Request line and headers together; a URL of ours has a hundred bytes."""
KEEP_ALIVE_SECONDS = 5
"""An idle connection is kept so long, if there is room: Prometheus makes a new one for each scrape
otherwise.
"""

COMING = frozenset({h11.IDLE, h11.SEND_BODY})
"""States of a client whose request is not there yet, or not all of it."""


class BoundedConnection(H11Protocol):
    """One connection; `bounded` makes the class of it for each server."""

    waiting: ClassVar[dict[Any, asyncio.TimerHandle]]
    """Those whose request is not there yet, the oldest first."""
    unread: ClassVar[dict[Any, asyncio.TimerHandle]]
    """Those that have not taken all of what was sent, the oldest first."""
    leaving: ClassVar[set[Any]]
    """Those that were given up, and are still to be closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come; if that is one too many, somebody who keeps us waiting goes, or, when
        nobody does, this one.
        """
        transport.set_write_buffer_limits(high=0)  # what the kernel does not take is unread
        connected = transport.get_extra_info("socket")
        self.app_state = {**self.app_state, STATE: peer_of(connected)}
        super().connection_made(transport)
        self._await_request()
        if len(self.connections) - len(self.leaving) > CONNECTIONS_MAX:
            others = (other for other in (*self.waiting, *self.unread) if other is not self)
            next(others, self).give_up()

    def data_received(self, data: bytes) -> None:
        """A piece of a request."""
        super().data_received(data)
        if self.conn.their_state not in COMING:
            self._request_is_there()

    def on_response_complete(self) -> None:
        """An answer was given; the next request is awaited unless it is there already."""
        super().on_response_complete()
        awaited = self in self.waiting or self.transport.is_closing()
        if self.conn.their_state in COMING and not awaited:
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self.leaving.discard(self)
        self._request_is_there()
        self._end_unread()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client has not taken all that was sent."""
        self.unread[self] = self.loop.call_later(ANSWER_SECONDS_MAX, self.give_up)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Now it has."""
        self._end_unread()
        super().resume_writing()

    def give_up(self) -> None:
        """Close at once; what was to be sent is not."""
        self._request_is_there()
        self._end_unread()
        self.leaving.add(self)
        self.transport.abort()

    def _await_request(self) -> None:
        self.waiting[self] = self.loop.call_later(REQUEST_SECONDS_MAX, self.give_up)

    def _request_is_there(self) -> None:
        timer = self.waiting.pop(self, None)
        if timer is not None:
            timer.cancel()

    def _end_unread(self) -> None:
        timer = self.unread.pop(self, None)
        if timer is not None:
            timer.cancel()


def bounded() -> type[BoundedConnection]:
    """A class of connections for one server: they count together."""
    return type("Bounded", (BoundedConnection,), {"waiting": {}, "unread": {}, "leaving": set()})
