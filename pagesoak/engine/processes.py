"""Worker processes: forked by the single-threaded runner, watched through pidfds, never outliving
it.

A child dies with its parent (PR_SET_PDEATHSIG, then another look at the parent, which may have
died in between). It ignores SIGINT and SIGTERM: the terminal sends those to the whole group, and
ending in order is the runner's business. It leaves with `os._exit`, so that nothing the runner has
on its stack is unwound twice.
"""

import ctypes
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from pagesoak.base import layout
from pagesoak.base.errors import EXIT_HARNESS_BROKEN, HarnessError, InputError
from pagesoak.base.segment import Segment
from pagesoak.engine.logs import Incarnation, WorkerLogs
from pagesoak.engine.machine_oom import WORKER_SCORE_MORE, be_killed_sooner

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
NAME_LENGTH_MAX = 15
"""The kernel keeps so many characters of a process's name."""
EXIT_CRASHED = 70
"""A worker ended by an exception that is no HarnessError: a bug all the same (EX_SOFTWARE)."""
KILL_WAIT_SECONDS = 10.0
"""How long a killed process may take to be seen dead: it may be in a punch of a large range."""

_libc = ctypes.CDLL(None, use_errno=True)


class WorkerProcess:
    """A forked worker as its parent sees it."""

    def __init__(self, name: str, number: int, pid: int, incarnation: Incarnation) -> None:
        self.name = name
        self.number = number
        self.pid = pid
        self.exit_status: int | None = None
        self._descriptor = os.pidfd_open(pid)
        self._incarnation = incarnation

    @property
    def descriptor(self) -> int:
        """Its pidfd, readable when it has ended; closed once `ended` has said so."""
        return self._descriptor

    def ended(self) -> bool:
        """Whether it has ended; takes its exit status when it has."""
        if self.exit_status is None:
            result = os.waitid(os.P_PIDFD, self._descriptor, os.WEXITED | os.WNOHANG)
            if result is not None:
                killed = result.si_code != os.CLD_EXITED
                self.exit_status = -result.si_status if killed else result.si_status
                os.close(self._descriptor)
                self._incarnation.retire()
        return self.exit_status is not None

    def send(self, number: int) -> bool:
        """Send it a signal; False when it has ended."""
        if self.ended():
            return False
        signal.pidfd_send_signal(self._descriptor, number)
        return True

    def kill(self) -> None:
        """SIGKILL it and see it dead; `HarnessError` when it does not die."""
        if self.ended():
            return
        signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        select.select([self._descriptor], [], [], KILL_WAIT_SECONDS)  # readable when it has ended
        if not self.ended():
            raise HarnessError(f"worker {self.name} does not die")

    def describe_end(self) -> str:
        """How it ended, in words."""
        status = self.exit_status
        if status is None:
            return "is running"
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with code {status}"


def error_file(directory: Path, name: str) -> Path:
    """Where a worker leaves what it died of."""
    return directory / f"{name}.error"


def _name_process(name: str) -> None:
    _libc.prctl(PR_SET_NAME, name[:NAME_LENGTH_MAX].encode(), 0, 0, 0)


def _tie_to_parent(parent: int) -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(EXIT_CRASHED)


def _child(
    name: str,
    incarnation: Incarnation,
    body: Callable[[], None],
    context: Mapping[str, object],
    directory: Path,
) -> int:
    """The child's life; returns its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _name_process(name)
    be_killed_sooner(WORKER_SCORE_MORE)
    log = incarnation.attach_child(context)
    logger = structlog.get_logger()
    logger.info("worker.started")
    code = 0
    try:
        body()
    except InputError as error:
        logger.warning("worker.refused", reason=str(error))
        error_file(directory, name).write_text(f"{error}\n")
        code = error.exit_code
    except BaseException as error:
        logger.exception("worker.failed")
        error_file(directory, name).write_text(f"{type(error).__name__}: {error}\n")
        code = EXIT_HARNESS_BROKEN if isinstance(error, HarnessError) else EXIT_CRASHED
    logger.info("worker.ended", code=code)
    log.close()
    return code


def fork_worker(
    name: str,
    number: int,
    body: Callable[[], None],
    *,
    logs: WorkerLogs,
    context: Mapping[str, object],
    directory: Path,
    segment: Segment,
) -> WorkerProcess:
    """Fork a worker that runs `body`; its number is its record in the segment."""
    incarnation = logs.prepare(name)
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = EXIT_CRASHED
        try:
            _tie_to_parent(parent)
            code = _child(name, incarnation, body, context, directory)
        finally:
            os._exit(code)
    incarnation.attach_parent()
    segment.workers[number * layout.WORKER_WORDS + layout.W_PID] = pid
    try:
        return WorkerProcess(name, number, pid, incarnation)
    except OSError:  # no descriptor to watch it by
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
