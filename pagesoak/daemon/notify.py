"""What a service manager is told: ready, reloading, stopping, how it is, and that it lives.

The protocol of sd_notify(3): lines of NAME=VALUE in one datagram to the socket that
`NOTIFY_SOCKET` names. Without one nothing is told. Nobody waits for the service manager, and none
of its troubles is ours.
"""

import contextlib
import socket
import time
from collections.abc import Mapping, MutableMapping

SOCKET = "NOTIFY_SOCKET"
WATCHDOG = "WATCHDOG_USEC"
WATCHDOG_PID = "WATCHDOG_PID"
VARIABLES = (SOCKET, WATCHDOG, WATCHDOG_PID)
STATUS_CHARS_MAX = 200
"""A line of `systemctl status`."""
NS_PER_US = 1_000
US_PER_SECOND = 1_000_000


class Notifier:
    """Tells the service manager that `environment` names; for the process `pid`."""

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        self._address = _address(environment.get(SOCKET, ""))
        self.watchdog_seconds = _watchdog_seconds(environment, pid)
        """A sign of life is due so often at least; None: nobody wants any."""

    def ready(self) -> None:
        """The daemon takes requests, for the first time or again."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // NS_PER_US}")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """How it is, in a line."""
        line = "".join(char for char in text if char.isprintable())[:STATUS_CHARS_MAX]
        self._tell(f"STATUS={line}")

    def alive(self) -> None:
        """It lives, and its workers get on."""
        if self.watchdog_seconds is not None:
            self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        if self._address is None:
            return
        with contextlib.suppress(OSError), _datagram() as sender:
            sender.sendto(text.encode(), self._address)


def _datagram() -> socket.socket:
    return socket.socket(
        socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    )


def _address(named: str) -> str | None:
    """A socket's address: a path, or an abstract name after `@`; None for what is neither."""
    if named.startswith("@") and len(named) > 1:
        return "\0" + named[1:]
    return named if named.startswith("/") else None


def _watchdog_seconds(environment: Mapping[str, str], pid: int) -> float | None:
    """How often a sign of life is wanted of this process; None for what is no number."""
    if environment.get(WATCHDOG_PID, str(pid)) != str(pid):
        return None
    wanted = environment.get(WATCHDOG, "")
    if not (wanted.isascii() and wanted.isdecimal()) or int(wanted) == 0:
        return None
    return int(wanted) / US_PER_SECOND


def forget(environment: MutableMapping[str, str]) -> None:
    """Take the variables away: what this process executes has nothing to tell."""
    for name in VARIABLES:
        environment.pop(name, None)
