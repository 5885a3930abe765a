"""When memory of the machine itself runs out: who is killed first, and how a run learns of it.

The kernel's OOM killer takes whoever has the highest score in the machine, or in the control group
that has reached its limit. A run's workers can be replaced, so they go first; then the run's
process, then the daemon's. What guest RAM holds stays charged to the group while anybody has it
mapped, so a worker that takes the place of a dead one needs no more than that had; if memory stays
short, the limit of restarts ends the run (`engine.restarts`), and its reason names the group.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pagesoak.base.memory import control_groups
from pagesoak.engine.restarts import WINDOW_SECONDS

OOM_SCORE = Path("/proc/self/oom_score_adj")
OOM_SCORE_MAX = 1000
RUN_SCORE_MORE = 300
"""Of a run of the daemon: more than any other process of it has, whatever the service manager gave
it.
"""
WORKER_SCORE_MORE = 500
"""Of a worker, more than its run: half of all that the group may have. A run's process holds some
tens of MiB of programs that its forks have not touched, so a little more would not do.
"""
EVENT_FILES = ("memory.events", "memory.oom_control")
"""Of control groups, version 2 and 1: both have a line `oom_kill N`."""

LOOK_SECONDS = 1.0
DEATH_SECONDS = 15.0
"""From a kill until the death is seen: the kernel takes the memory apart meanwhile."""


def be_killed_sooner(more: int) -> None:
    """This process, and those it starts, by so much; where that is forbidden, nothing changes."""
    with contextlib.suppress(OSError, ValueError), OOM_SCORE.open("r+") as file:
        score = min(int(file.read()) + more, OOM_SCORE_MAX)
        file.seek(0)
        file.write(f"{score}\n")


class _Kills(NamedTuple):
    """How many were killed before the look of a moment, and after the one before."""

    seen: float
    number: int


def _forget(kills: deque[_Kills], before: float) -> None:
    while kills and kills[0].seen < before:
        kills.popleft()


class MachineOom:
    """What the OOM killer does in this process's control group.

    All runs of a daemon share one, so a kill is taken for the reason of a death only when both
    were within seconds. `proc` and `monotonic` are there for tests. Where groups cannot be read,
    nobody was killed.
    """

    def __init__(
        self, proc: Path = Path("/proc"), monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        groups = control_groups(_text(proc / "self/cgroup"), _text(proc / "self/mountinfo"))
        files = [folder / name for _, folder in groups for name in EVENT_FILES]
        counting = {_identity(file): file for file in files if _kills(file) is not None}
        self._files = list(counting.values())
        """One for each group, however often it is mounted."""
        self._monotonic = monotonic
        self._total = self._count()
        self._looked = monotonic()
        self._kills: deque[_Kills] = deque()
        self._untold: deque[_Kills] = deque()

    def look(self) -> None:
        """Look whether there were kills, each second: when that was is part of what is told."""
        now = self._monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._look(now)

    def new_kills(self) -> int:
        """Processes that it has killed in the last seconds, each told once."""
        now = self._monotonic()
        self._look(now)
        killed = sum(each.number for each in self._untold)
        self._untold.clear()
        return killed

    def in_words(self) -> str:
        """Its part in deaths of which there are too many, as the end of a sentence; empty when it
        had none.
        """
        now = self._monotonic()
        self._look(now)
        killed = sum(each.number for each in self._kills)
        if not killed:
            return ""
        groups = " and ".join(str(file.parent) for file in self._files)
        return (
            f"; memory ran out: the kernel has killed {killed} processes in control group {groups}"
        )

    def _look(self, now: float) -> None:
        total, before = self._count(), self._total
        if total > before:
            for kept in (self._kills, self._untold):
                kept.append(_Kills(now, total - before))
        self._total, self._looked = total, now
        _forget(self._kills, now - WINDOW_SECONDS)
        _forget(self._untold, now - DEATH_SECONDS)

    def _count(self) -> int:
        return sum(_kills(file) or 0 for file in self._files)


def _identity(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def _kills(file: Path) -> int | None:
    """How many processes of a group were killed; None where that is not said."""
    for line in _text(file).splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.isdecimal():
            return int(number)
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
