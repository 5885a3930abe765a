"""The line between a runner and the daemon that executed it: a pair of sockets, a JSON object to a
message.

The runner says `prepared`, with the segment's descriptor beside it, then `alive` each second, and
at the end `ended` or `refused`. The daemon says `{"do": "stop"}`, or `chaos` and a fault, or gives
an order with a number (`{"do": "pause", "order": 7}`), which is answered with `done` or `not done`
and that number. Neither waits for the other: what cannot be sent at once is left out, and what
counts is in the run's directory anyway.

When the daemon is gone, the runner hears it (the end of the stream here, and a signal of the
kernel), ends its run in order, and is ended by an alarm if that takes too long. So a daemon that
is killed leaves no worker, and of a run that can be saved it leaves the results.
"""

import ctypes
import json
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pagesoak.base.faults import FaultWanted

MESSAGE_BYTES_MAX = 64 << 10
"""Of one message: names and a sentence or two."""
ORDERS_MAX = 64
"""That wait to be carried out: a user gives one at a time. Those beyond are dropped."""
ALIVE_SECONDS = 1.0
"""Between two signs of life."""
ORPHAN_SECONDS_MAX = 8
"""Without a daemon a run ends in order within this, or is ended: it must be gone after ten."""
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(parent: int) -> None:
    """Let the kernel send SIGTERM when the process `parent`, which executed this one, dies; raises
    KeyboardInterrupt when it has died already.

    The kernel lets a stopped process go on when it is in another process group of its parent's
    session and the parent dies, so that SIGTERM reaches this one then, too. It sends SIGHUP with
    that, which is ignored, here and in the workers.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        raise KeyboardInterrupt


class Unstored(NamedTuple):
    """Lines of a run's files that wait for the disk, and those that will never be there."""

    waiting_lines: int
    lost_lines: int


class Line:
    """The runner's end of the line; `descriptor` is its socket."""

    def __init__(self, descriptor: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._monotonic = monotonic
        self._alive_due = 0.0
        self._stop = False
        self._orders: deque[dict[str, Any]] = deque(maxlen=ORDERS_MAX)
        self._faults: list[FaultWanted] = []
        self._orphan = False
        self.unstored: Callable[[], Unstored] = lambda: Unstored(0, 0)
        """How much of the run's results the disk has refused; told with each sign of life."""
        self.news: Callable[[], Mapping[str, Any]] = dict
        """What else is told with it."""

    def stopping(self) -> bool:
        """Whether the daemon wants the run to end, or is gone; says `alive` when it is time."""
        self._hear()
        if self._monotonic() >= self._alive_due and not self._orphan:
            self._alive_due = self._monotonic() + ALIVE_SECONDS
            self._say_alive()
        return self._stop

    def orders(self) -> Iterator[dict[str, Any]]:
        """The orders that have come since the last look, each given once."""
        self._hear()
        while self._orders:
            yield self._orders.popleft()

    def done(self, order: int, **more: object) -> None:
        """An order has been carried out."""
        self._say({"say": "done", "order": order, **more})

    def not_done(self, order: int, message: str) -> None:
        """An order cannot be carried out."""
        said = message[: MESSAGE_BYTES_MAX // 8]
        self._say({"say": "not done", "order": order, "message": said})

    def take_faults(self) -> list[FaultWanted]:
        """The faults that the daemon wants to happen, each given once."""
        self._hear()
        taken, self._faults = self._faults, []
        return taken

    def prepared(self, run: str, directory: Path, segment: int) -> None:
        """The guest is made and its workers live; `segment` is the descriptor to read from."""
        self._say({"say": "prepared", "run": run, "directory": str(directory)}, segment)

    def ended(self, summary: Mapping[str, Any], exit_code: int, complaint: str) -> None:
        """The run is over, and its results are kept unless there is a `complaint`: then the
        summary goes to the daemon, which writes it down when the disk lets it.
        """
        self._say_alive()  # what broke the run is the last of the news
        said = {"verdict": summary["verdict"], "exit_code": exit_code, "complaint": complaint}
        if complaint:
            said["summary"] = summary
        self._say({"say": "ended", **said})

    def refused(self, message: str) -> None:
        """The run cannot be: nothing was left behind."""
        self._say({"say": "refused", "message": message[: MESSAGE_BYTES_MAX // 8]})

    def _say_alive(self) -> None:
        self._say({"say": "alive", **self.unstored()._asdict(), **self.news()})

    def _hear(self) -> None:
        while not self._orphan:
            try:
                message = self._socket.recv(MESSAGE_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._orphan = self._stop = True
                signal.setitimer(signal.ITIMER_REAL, ORPHAN_SECONDS_MAX)
                return
            said = json.loads(message)
            if "order" in said:
                self._orders.append(said)
            elif said["do"] == "chaos":
                self._faults.append(FaultWanted(**said["fault"]))
            else:
                self._stop = self._stop or said["do"] == "stop"

    def _say(self, message: Mapping[str, Any], descriptor: int | None = None) -> None:
        text = json.dumps(message).encode()
        try:
            if descriptor is None:
                self._socket.send(text)
            else:
                socket.send_fds(self._socket, [text], [descriptor])
        except OSError:  # nobody listens, or not at this moment
            return
