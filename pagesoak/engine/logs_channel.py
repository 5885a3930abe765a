"""One worker's way for log lines to the runner: a `MultiProcessingHandler` of its own.

The only module that touches the insides of multiprocessing-logging and of `multiprocessing.Queue`,
neither of which has a public name for the ends of its pipe. Why there is one channel for each life
of a worker, and who closes which end when, is told in `logs`.
"""

import gc
import logging
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Semaphore
from threading import Thread
from typing import Protocol, cast

from multiprocessing_logging import install_mp_handler

from pagesoak.base.errors import HarnessError, PagesoakError

# Records that may be on the way. Ordinary ones have 400 bytes, so this is 400 KiB; with the
# longest lines allowed it is 32 MiB. A receiver that is this far behind (a stuck disk) will not
# catch up.
BACKLOG_RECORDS_MAX = 1_000

# End-of-file wakes the receiver at once, and it has at most a pipe and a backlog to write.
DRAIN_SECONDS = 2.0
# A receiver told to stop looks up every 0.2 s (the library's own time-out).
STOP_SECONDS = 1.0


class _Queue(Protocol):
    _reader: Connection
    _writer: Connection
    _thread: Thread | None
    _sem: Semaphore
    qsize: Callable[[], int]

    def cancel_join_thread(self) -> None: ...


class _Carrier(Protocol):
    queue: _Queue
    _receive_thread: Thread
    _is_closed: bool

    handleError: Callable[[logging.LogRecord], None]  # noqa: N815 - the library's name

    def handle(self, record: logging.LogRecord) -> bool: ...


def require_fork() -> None:
    """Make `fork` the start method of multiprocessing.

    Raises:
        HarnessError: another one has been chosen already.
    """
    chosen: str | None = multiprocessing.get_start_method(allow_none=True)
    if chosen is None:
        multiprocessing.set_start_method("fork")
    elif chosen != "fork":
        raise HarnessError(f"worker logs need the start method 'fork', but '{chosen}' is set")


def _install(logger: logging.Logger) -> str:
    """Put the library's handler before a logger's own; what the system says when it refuses."""
    try:
        install_mp_handler(logger)
    except (OSError, RuntimeError) as error:
        return str(error)
    return ""


class Channel:
    """Queue, pipe and receiver thread; the thread calls `receiver.emit` for every line that comes.

    Raises:
        PagesoakError: descriptors, threads or semaphores have run out.
    """

    def __init__(self, name: str, receiver: logging.Handler) -> None:
        private = logging.Logger(f"pagesoak.worker.{name}")  # noqa: LOG001 - a registered one would stay for ever
        private.addHandler(receiver)
        refused = _install(private)
        if refused:
            gc.collect()  # the half-made handler and its thread would be waited for at exit
            raise PagesoakError(f"no log queue for worker '{name}': {refused}")
        self._name = name
        self._carrier = cast("_Carrier", private.handlers[0])
        self._carrier.handleError = self._note_failure  # the library's own prints a traceback
        self._queue = self._carrier.queue
        self._sent = True

    def in_flight(self) -> int:
        """Records sent and not yet taken in; those a killed worker never got out stay counted."""
        return self._queue.qsize()

    def send(self, line: str, level: int) -> bool:
        """In the worker: put one line on its way; False if too many are on it, or the system has
        no thread for it. Never waits.
        """
        if self.in_flight() >= BACKLOG_RECORDS_MAX:
            return False
        self._sent = True
        self._carrier.handle(logging.LogRecord(self._name, level, "", 0, line, None, None))
        return self._sent

    def _note_failure(self, _record: logging.LogRecord) -> None:
        """Without a thread to send it the queue would keep this record, and all that follow, for a
        thread that it takes for started.
        """
        self._sent = False
        thread = self._queue._thread  # noqa: SLF001
        if thread is None or not thread.is_alive():
            self._queue._thread = None  # noqa: SLF001
            self._queue._sem.release()  # noqa: SLF001

    def never_wait_at_exit(self) -> None:
        """In the worker, before the first line: its exit must not wait for a lost receiver."""
        self._queue.cancel_join_thread()

    def close_write_end(self) -> None:
        """In the runner, after the fork: from now on only the worker holds it."""
        self._queue._writer.close()  # noqa: SLF001

    def close_both_ends(self) -> None:
        """In a worker, for what it inherited of another one."""
        self._queue._writer.close()  # noqa: SLF001
        self._queue._reader.close()  # noqa: SLF001

    def drain_and_end(self) -> tuple[bool, int]:
        """In the runner: take in what the dead worker sent; then thread and descriptors are gone.

        Bounded by `DRAIN_SECONDS` and `STOP_SECONDS`. Returns whether the receiver has ended (not
        so only where a *living* process holds the write end and stopped within a record), and how
        many records the worker had counted but never sent.
        """
        self.close_write_end()
        thread = self._carrier._receive_thread  # noqa: SLF001
        thread.join(DRAIN_SECONDS)
        unsent_records = self._queue.qsize()
        # The library ends its receiver at `qsize() == 0`, which a killed worker may have put out
        # of reach for ever.
        self._carrier._is_closed = True  # noqa: SLF001
        self._queue.qsize = lambda: 0
        thread.join(STOP_SECONDS)
        ended = not thread.is_alive()
        if ended:
            self._queue._reader.close()  # noqa: SLF001
        logging.Handler.close(cast("logging.Handler", self._carrier))
        return ended, unsent_records
