"""One executed runner: its process, seen through a pidfd, and the daemon's end of the line to it.

Everything is told through callbacks of the event loop; nothing here waits. The runner gets what
to run on its standard input and leads a session of its own: what a terminal sends to the daemon
is no business of the runners, which the daemon ends in order.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pagesoak.engine.line import MESSAGE_BYTES_MAX

LAST_WORDS_BYTES = 4_000
"""Of what a runner wrote to its standard error: the end of a traceback."""
MESSAGES_AT_ONCE = 16
"""Taken from one line before the loop goes on to others."""


class End(NamedTuple):
    """How a runner ended: its exit code, negative for the signal that killed it, and the end of
    what it wrote to its standard error.
    """

    code: int
    last_words: str

    def in_words(self) -> str:
        """The same as a sentence's end."""
        how = (
            f"was killed by {signal.Signals(-self.code).name}"
            if self.code < 0
            else f"ended with code {self.code}"
        )
        return f"{how}: {self.last_words}" if self.last_words else how


class Executed:
    """A runner that was just started.

    `hear` is called with each message of the runner and a descriptor that came with it, which is
    the callee's from then on; `ended` once, when the process is gone and all it said was heard.

    Raises OSError when the system refuses the process or a descriptor; nothing is left then.
    """

    def __init__(
        self,
        wanted: Mapping[str, Any],
        hear: Callable[[dict[str, Any], int | None], None],
        ended: Callable[[End], None],
    ) -> None:
        self._hear = hear
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(ours.close)
            self._stderr = undo.enter_context(tempfile.TemporaryFile())
            with theirs, tempfile.TemporaryFile() as request:
                request.write(json.dumps({**wanted, "parent": os.getpid()}).encode())
                request.seek(0)
                program = [sys.executable, "-P", "-m", "pagesoak", "runner"]
                self._process = subprocess.Popen(  # noqa: S603 - this program, and a number
                    [*program, "--line", str(theirs.fileno())],
                    stdin=request,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    pass_fds=(theirs.fileno(),),
                    process_group=0,  # see `engine.line.end_with_parent`
                )
            undo.callback(self._process.kill)
            self._pidfd = os.pidfd_open(self._process.pid)
            undo.pop_all()
        ours.setblocking(False)
        self._socket = ours
        self._loop.add_reader(self._socket, self._listen)
        self._loop.add_reader(self._pidfd, self._see_end)

    @property
    def pid(self) -> int:
        """The runner's process ID, for people."""
        return self._process.pid

    def stop(self) -> None:
        """Ask the runner to end its run in order; that it cannot hear is no error here."""
        self.say({"do": "stop"})

    def say(self, message: Mapping[str, Any]) -> bool:
        """Send the runner a message; whether it could be sent."""
        try:
            self._socket.send(json.dumps(message).encode())
        except OSError:
            return False
        return True

    def chaos(self, fault: Mapping[str, Any]) -> None:
        """Ask the runner to make a fault happen; that it cannot hear is no error here."""
        with contextlib.suppress(OSError):
            self._socket.send(json.dumps({"do": "chaos", "fault": fault}).encode())

    def kill(self) -> None:
        """SIGKILL: its workers die with it."""
        with contextlib.suppress(ProcessLookupError, OSError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _listen(self) -> bool:
        """Take what the runner said; False when there is nothing (more) at this moment."""
        for _ in range(MESSAGES_AT_ONCE):
            try:
                text, descriptors, _, _ = socket.recv_fds(self._socket, MESSAGE_BYTES_MAX, 1)
            except BlockingIOError:
                return False
            except OSError:
                text, descriptors = b"", []
            if not text:
                self._loop.remove_reader(self._socket)
                return False
            for descriptor in descriptors:  # recv_fds hands no flags on to the kernel
                os.set_inheritable(descriptor, False)
            self._hear(json.loads(text), descriptors[0] if descriptors else None)
        return True

    def _see_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        while self._listen():
            pass
        self._loop.remove_reader(self._socket)
        self._socket.close()
        os.close(self._pidfd)
        code = self._process.wait()
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - LAST_WORDS_BYTES))
        words = self._stderr.read().decode("utf-8", "replace").strip()
        self._stderr.close()
        self._ended(End(code, words.splitlines()[-1] if words else ""))
