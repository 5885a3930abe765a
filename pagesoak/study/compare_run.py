"""The runs of a comparison: each an ordinary run, in a process of its own.

Virtual runs need no quiet machine and go two at a time; live ones would get in each other's way
and go one after the other. The core is loaded before, once for all: a run is forked from this
process, so a policy that stands in a file is loaded once, too. A run's process hands its outcome
over in shared memory, which needs no reader, and ends in order when its parent is gone.

A signal ends the runs that go on, in order, and starts no more. So does a run that is broken or
could not start.
"""

import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pagesoak.base.errors import (
    EXIT_HARNESS_BROKEN,
    EXIT_INTERRUPTED,
    HarnessError,
    InputError,
    PagesoakError,
)
from pagesoak.engine.processes import PR_SET_PDEATHSIG
from pagesoak.engine.progress import Progress
from pagesoak.engine.rundir import name_part
from pagesoak.engine.runner import run_scenario
from pagesoak.engine.signals import END_SIGNALS, EndSignals
from pagesoak.study.compare_plan import Plan, PlannedRun

VIRTUAL_AT_ONCE_MAX = 2
"""A virtual run keeps a CPU busy and has a guest's records of its own in memory."""
LOOK_SECONDS = 0.2
"""Between two looks for a signal while no run ends."""
END_SECONDS = 90.0
"""A run that is to end finishes its pass, verifies its pages and writes its files; longer than the
longest of that, a reporter's minute."""

_libc = ctypes.CDLL(None, use_errno=True)


class RunDone(NamedTuple):
    """A run that has ended: its plan, and its summary."""

    planned: PlannedRun
    summary: dict[str, Any]


class Runs(NamedTuple):
    """The runs that came to their end, in the order of the plan; whether a signal cut it short."""

    done: tuple[RunDone, ...]
    interrupted: bool


@dataclass(frozen=True)
class _Going:
    planned: PlannedRun
    pid: int
    descriptor: int
    outcome: int
    """A file in memory with what came of it."""


def variant_folder(number: int, label: str) -> str:
    """The folder of a variant's runs: `2-mainline`."""
    return f"{number + 1}-{name_part(label)}"


def run_all(
    plan: Plan,
    folder: Path,
    *,
    command: Sequence[str],
    announce: Callable[[RunDone], None],
) -> Runs:
    """Run everything; the core must be loaded. Each run that ends by itself is announced.

    Raises InputError when a run cannot start, HarnessError when one is broken; others are ended
    first.
    """
    waiting = list(plan.runs())[::-1]
    going: list[_Going] = []
    done: list[RunDone] = []
    cpus = len(os.sched_getaffinity(0))
    at_once = min(VIRTUAL_AT_ONCE_MAX, cpus) if plan.virtual else 1
    cut_short = False
    with EndSignals() as signals:
        try:
            while going or (waiting and not signals.stopping()):
                while waiting and len(going) < at_once and not signals.stopping():
                    going.append(_start(plan, waiting.pop(), folder, command))
                if signals.stopping():
                    _tell(going, signal.SIGTERM)
                for ended in _ended(going):
                    going.remove(ended)
                    run = _taken(ended)
                    if run is None:
                        cut_short = True
                    else:
                        done.append(run)
                        announce(run)
        finally:
            _end(going)
        cut_short = cut_short or signals.stopping()
    order = {planned: number for number, planned in enumerate(plan.runs())}
    done.sort(key=lambda run: order[run.planned])
    return Runs(tuple(done), cut_short)


def _start(plan: Plan, planned: PlannedRun, folder: Path, command: Sequence[str]) -> _Going:
    """Fork a run. Signals wait meanwhile, so that none is lost between two handlers."""
    outcome = os.memfd_create("pagesoak-outcome")
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, END_SIGNALS)
    try:
        pid = os.fork()
    except OSError as error:
        os.close(outcome)
        raise PagesoakError(f"cannot start a run: {error.strerror}") from error
    finally:
        if os.getpid() == parent:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if pid == 0:
        code = EXIT_HARNESS_BROKEN
        try:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            for number in END_SIGNALS:
                signal.signal(number, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            if os.getppid() == parent:
                code = _run(plan, planned, folder, command, outcome)
        except KeyboardInterrupt:  # before the run took signals into its own hands, or after
            code = EXIT_INTERRUPTED
        finally:
            os._exit(code)
    return _Going(planned, pid, os.pidfd_open(pid), outcome)


def _run(
    plan: Plan, planned: PlannedRun, folder: Path, command: Sequence[str], outcome: int
) -> int:
    """The life of a run's process; its exit code."""
    variant = plan.variants[planned.variant]
    said: dict[str, Any] = {}
    try:
        found = run_scenario(
            variant.scenario.with_overrides(seed=planned.seed),
            results=folder / variant_folder(planned.variant, variant.label),
            command=command,
            progress=None if plan.virtual else Progress(),
            virtual=plan.virtual,
            policy=variant.policy,
        )
        said = {"summary": found.summary, "complaint": found.complaint}
    except PagesoakError as error:
        said = {"refused": str(error), "code": error.exit_code}
    except Exception as error:  # noqa: BLE001 - the last frame of this process
        said = {"refused": f"{type(error).__name__}: {error}", "code": EXIT_HARNESS_BROKEN}
    with os.fdopen(outcome, "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump(said, file)
    return 0


def _ended(going: Sequence[_Going]) -> list[_Going]:
    """Those that have ended; waits for a moment if there is none."""
    ready, _, _ = select.select([run.descriptor for run in going], [], [], LOOK_SECONDS)
    return [run for run in going if run.descriptor in ready]


def _taken(run: _Going) -> RunDone | None:
    """What came of a run; None of one that a signal ended.

    Raises InputError when it could not start, HarnessError when it is broken.
    """
    _, status = os.waitpid(run.pid, 0)
    os.close(run.descriptor)
    with os.fdopen(run.outcome, "rb") as file:
        file.seek(0)
        text = file.read()
    how = os.waitstatus_to_exitcode(status)
    if how == EXIT_INTERRUPTED:
        return None
    if how:
        ended = f"ended with code {how}" if how > 0 else f"died of {signal.Signals(-how).name}"
        raise HarnessError(f"the process of a run (seed {run.planned.seed}) {ended}")
    said = json.loads(text)
    if "refused" in said:
        error = HarnessError if said["code"] == EXIT_HARNESS_BROKEN else InputError
        raise error(said["refused"])
    summary = said["summary"]
    if summary["verdict"] == "broken":
        raise HarnessError(f"{summary['directory']}: {summary['reason']}")
    if said["complaint"]:
        raise PagesoakError(said["complaint"])
    return None if summary["interrupted"] else RunDone(run.planned, summary)


def _tell(going: Sequence[_Going], number: int) -> None:
    for run in going:
        signal.pidfd_send_signal(run.descriptor, number)


def _end(going: Sequence[_Going]) -> None:
    """End runs in order, and kill those that do not end; nobody is left."""
    deadline = time.monotonic() + END_SECONDS
    left = list(going)
    while left and time.monotonic() < deadline:
        _tell(left, signal.SIGTERM)
        for run in _ended(left):
            left.remove(run)
    _tell(left, signal.SIGKILL)
    for run in going:
        os.waitpid(run.pid, 0)
        os.close(run.descriptor)
        os.close(run.outcome)
