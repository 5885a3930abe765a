"""Who asks: the process at the other end of the Unix socket, as the kernel says (SO_PEERCRED).

Whoever reaches the socket may look and may start runs. What ends a run, holds it up or breaks
something in it is for root, for the daemon's own user, and for who started the run.
"""

import os
import socket
import struct
from typing import NamedTuple

from starlette.requests import Request

from pagesoak.daemon.problem import ProblemError

_CREDENTIALS = struct.Struct("=iII")
"""pid, uid, gid (`struct ucred`)."""
ROOT = 0
STATE = "peer"
"""Of a connection's state: its peer."""


class Peer(NamedTuple):
    """A process that asks; its number is for people, it may be another's by now."""

    pid: int
    uid: int
    gid: int


def peer_of(connected: socket.socket) -> Peer | None:
    """Who is at the other end; None of a socket that does not say."""
    if connected.family != socket.AF_UNIX:
        return None
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Peer(*_CREDENTIALS.unpack(raw))


def asking(request: Request) -> Peer | None:
    """Who asks."""
    peer: Peer | None = getattr(request.state, STATE, None)
    return peer


def check_authority(peer: Peer | None, owner: int | None, run: str) -> None:
    """Raise ProblemError (403) unless the peer may end, hold up or break a run of that owner."""
    if peer is not None and peer.uid in {ROOT, os.geteuid(), owner}:
        return
    said = "is for root, the daemon's own user, and who started the run"
    raise ProblemError(403, f"{run}: to end, hold up or change it {said}")
