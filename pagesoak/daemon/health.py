"""How the workers of a run are: stopped, dead, stuck and slow told apart.

A worker writes its heartbeat at each burst of some milliseconds and before each wait, and no wait
is longer than a quarter of a second. So one that has not written for seconds is not served by the
machine, and one that has not for eight does not go on by itself. Whether it is there at all, or
stopped, the process table says. Which process that is the segment says, and it is believed only
where the process is a child of the runner.
"""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pagesoak.base import layout
from pagesoak.base.segment_view import SegmentWords
from pagesoak.base.units import NS_PER_SECOND

SLOW_SECONDS = 2.0
"""Eight times the longest wait of a worker."""
STUCK_SECONDS = 8.0
"""Longer than the pauses that a loaded machine makes by itself; with a look each second that is
named within ten.
"""


GONE = "ZX"
"""States of a process, by letter: it has ended, and at most its parent does not know yet."""
STOPPED = "Tt"
"""By a signal, by a debugger."""


class How(StrEnum):
    """What is the matter with a worker."""

    DEAD = "dead"
    """Its process is gone."""
    STOPPED = "stopped"
    """By a signal, or by a debugger."""
    STUCK = "stuck"
    SLOW = "slow"


class Unwell(NamedTuple):
    """A worker that does not work as it should. `silent_seconds` since its last heartbeat."""

    run: str
    worker: str
    pid: int
    how: How
    silent_seconds: float


class Process(NamedTuple):
    """A process as the process table has it: its state's letter, and its parent."""

    state: str
    parent: int


def process(pid: int, proc: Path = Path("/proc")) -> Process | None:
    """A process; None when there is none."""
    try:
        fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return Process(fields[0], int(fields[1]))


def is_held_up(seen: Process | None) -> bool:
    """Whether a process does nothing, and will not by itself: it is stopped, or gone."""
    return seen is None or seen.state in GONE + STOPPED


def unwell(
    run: str,
    view: SegmentWords,
    runner: int,
    now_ns: int,
    name: Callable[[int], str],
    look_up: Callable[[int], Process | None] = process,
) -> list[Unwell]:
    """The workers of a run that are not well at `now_ns`, monotonic; `name` says what one is
    called, by its number.
    """
    found = []
    for worker in range(view.plan.workers):
        at = worker * layout.WORKER_WORDS
        heartbeat_ns = view.workers[at + layout.W_HEARTBEAT_NS]
        pid = view.workers[at + layout.W_PID]
        if not heartbeat_ns or not pid:
            continue
        silent = max(0.0, (now_ns - heartbeat_ns) / NS_PER_SECOND)
        how = _how(look_up(pid), runner, silent)
        if how is not None:
            found.append(Unwell(run, name(worker), pid, how, silent))
    return found


def _how(seen: Process | None, runner: int, silent_seconds: float) -> How | None:
    if seen is None or seen.state in GONE or seen.parent != runner:
        return How.DEAD
    if seen.state in STOPPED:
        return How.STOPPED
    if silent_seconds >= STUCK_SECONDS:
        return How.STUCK
    return How.SLOW if silent_seconds >= SLOW_SECONDS else None
