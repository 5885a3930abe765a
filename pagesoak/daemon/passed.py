"""Sockets that the service manager has bound and passes on: LISTEN_FDS of sd_listen_fds(3).

A Unix socket is the one for control, a TCP socket of this machine's own the one for metrics. What
is neither is refused: nothing listens where nobody looked.
"""

import contextlib
import ipaddress
import os
import socket
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import NamedTuple

from pagesoak.base.errors import InputError

COUNT = "LISTEN_FDS"
OWNER = "LISTEN_PID"
NAMES = "LISTEN_FDNAMES"
VARIABLES = (COUNT, OWNER, NAMES)
FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START."""
SOCKETS_MAX = 2
"""One for control, one for metrics."""


class Passed(NamedTuple):
    """The sockets that came; None: bind it yourself."""

    control: socket.socket | None = None
    metrics: socket.socket | None = None

    @property
    def path(self) -> Path | None:
        """Where the control socket is."""
        return None if self.control is None else Path(self.control.getsockname())

    def close(self) -> None:
        """Close them; their names stay, they are the service manager's."""
        for each in self:
            if each is not None:
                each.close()


def passed_sockets(environment: Mapping[str, str], pid: int) -> Passed:
    """The sockets that were passed to the process `pid`.

    Raises InputError when there are others than the two that the daemon has.
    """
    if environment.get(OWNER) != str(pid):
        return Passed()
    text = environment.get(COUNT, "")
    if not (text.isascii() and text.isdecimal() and int(text) <= SOCKETS_MAX):
        raise InputError(f"{text!r}: at most {SOCKETS_MAX} sockets are of use", key=COUNT)
    found: dict[str, socket.socket] = {}
    with contextlib.ExitStack() as undo:
        for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(text)):
            listener = undo.enter_context(_listener(descriptor))
            role = _role(listener)
            if role in found:
                raise InputError(f"two sockets for {role}", key=COUNT)
            found[role] = listener
        undo.pop_all()
    return Passed(**found)


def _listener(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        return socket.socket(fileno=descriptor)
    except OSError as error:
        said = f"descriptor {descriptor} is no socket: {error.strerror}"
        raise InputError(said, key=COUNT) from error


def _role(listener: socket.socket) -> str:
    """What a socket is for; InputError for one that the daemon has no use for."""
    listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if listener.type != socket.SOCK_STREAM or not listening:
        raise InputError("a socket that was passed does not listen for streams", key=COUNT)
    if listener.family == socket.AF_UNIX:
        if not listener.getsockname() or isinstance(listener.getsockname(), bytes):
            raise InputError("the control socket must have a path", key=COUNT)
        return "control"
    if listener.family in {socket.AF_INET, socket.AF_INET6}:
        address = listener.getsockname()[0]
        if ipaddress.ip_address(address).is_loopback:
            return "metrics"
        said = f"{address}: whoever reaches the port sees all figures; only 127.0.0.1 or [::1]"
        raise InputError(said, key=COUNT)
    raise InputError("a socket that was passed is neither of Unix nor of TCP", key=COUNT)


def forget(environment: MutableMapping[str, str]) -> None:
    """Take the variables away: they are not for what this process executes."""
    for name in VARIABLES:
        environment.pop(name, None)
