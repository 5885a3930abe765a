"""When memory of the machine itself runs out: who is killed first, and how a run learns of it.

The kernel's OOM killer takes whoever has the highest score in the machine, or in the control group
that has reached its limit. A run's workers can be replaced, so they go first; then the run's
process, then the daemon's. What guest RAM holds stays charged to the group while anybody has it
mapped, so a worker that takes the place of a dead one needs no more than that had; if memory stays
short, the limit of restarts ends the run (`engine.restarts`), and its reason names the group.
"""

import contextlib
from pathlib import Path

from pagesoak.base.memory import memory_groups

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


def be_killed_sooner(more: int) -> None:
    """This process, and those it starts, by so much; where that is forbidden, nothing changes."""
    with contextlib.suppress(OSError, ValueError), OOM_SCORE.open("r+") as file:
        score = min(int(file.read()) + more, OOM_SCORE_MAX)
        file.seek(0)
        file.write(f"{score}\n")


class MachineOom:
    """What the OOM killer did in this process's control group, since this was made.

    `proc` is there for tests. Where groups cannot be read, nobody was killed.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        groups = memory_groups(_text(proc / "self/cgroup"), _text(proc / "self/mountinfo"))
        files = [folder / name for _, folder in groups for name in EVENT_FILES]
        self._files = [file for file in files if _kills(file) is not None]
        self._seen = self._before = self._total()

    def new_kills(self) -> int:
        """Processes that it has killed since this was asked last."""
        total, seen = self._total(), self._seen
        self._seen = total
        return max(total - seen, 0)

    def in_words(self) -> str:
        """Its part in a death, as the end of a sentence; empty when it had none."""
        if self._seen <= self._before:
            return ""
        groups = " and ".join(str(file.parent) for file in self._files)
        killed = self._seen - self._before
        return (
            f"; memory ran out: the kernel has killed {killed} processes in control group {groups}"
        )

    def _total(self) -> int:
        return sum(_kills(file) or 0 for file in self._files)


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
