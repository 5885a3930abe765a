"""What a run's recoveries came to, for its summary."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pagesoak.base import statistics as st
from pagesoak.base.faults import FAULTS
from pagesoak.engine.summary import ROLES

EVENTS = {
    "worker-died": ("name", "pid"),
    "machine-oom": ("killed",),
    "host-fenced": ("pid",),
    "lock-stuck": ("name", "pid"),
    "recovered": ("pages", "torn_pages", "lost_pages", "lock_died", "rebuilt"),
    "epoch": ("epoch", "seed"),
    "worker-restarted": ("name", "pid"),
    "fault": ("fault", "name", "pid"),
    "fault-missed": ("fault",),
}
"""Kinds of the events that the runner writes, with their fields."""


LENGTHS_MAX = 20_000
"""Lengths that are kept; of more, every second in order of size, which moves no quantile by more
than one of them.
"""


def quantile(values: Iterable[float], share: float) -> float:
    """The value at a share of the sorted values (the next one up); 0 of none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Lengths:
    """How long things took, in seconds: their number, quantiles, and the longest, for as many as
    there may be in weeks.
    """

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0
        self._kept: list[float] = []
        self._weight = 1
        """How many lengths each kept one stands for."""

    def add(self, seconds: float) -> None:
        """One more."""
        self.count += 1
        self.longest = max(self.longest, seconds)
        if self.count % self._weight == 0:
            self._kept.append(seconds)
        if len(self._kept) > LENGTHS_MAX:
            self._kept = sorted(self._kept)[1::2]
            self._weight *= 2

    def fields(self) -> dict[str, float]:
        """Half and 99 of 100 took at most so long, and the longest."""
        return {
            "p50": quantile(self._kept, 0.5),
            "p99": quantile(self._kept, 0.99),
            "max": self.longest,
        }


@dataclass
class RecoveryFigures:
    """Counted as it happens."""

    faults: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAULTS, 0))
    restarts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROLES, 0))
    lengths: Lengths = field(default_factory=Lengths)
    """From the moment a death was seen until the run went on, of each recovery."""
    recovered: int = 0
    """A lock's holder died and the state was in order all the same."""
    rebuilt: int = 0
    """It was not: a new epoch."""
    hosts_fenced: int = 0
    machine_oom_kills: int = 0
    pages_back: int = 0
    torn_pages: int = 0
    lost_pages: int = 0
    before_epoch: tuple[int, ...] = ()
    """Counters when the present epoch began, nothing in the first one."""

    @property
    def epochs(self) -> int:
        """Lives of the guest's state; all but the last are tainted."""
        return 1 + self.rebuilt

    def count_fault(self, kind: str) -> None:
        """A fault was made to happen."""
        self.faults[kind] += 1

    def fields(self) -> dict[str, Any]:
        """The parts of the summary."""
        return {
            "faults": dict(self.faults),
            "recoveries": {
                "count": self.lengths.count,
                "recovered": self.recovered,
                "rebuilt": self.rebuilt,
                "hosts_fenced": self.hosts_fenced,
                "machine_oom_kills": self.machine_oom_kills,
                "pages_back": self.pages_back,
                "torn_pages": self.torn_pages,
                "lost_pages": self.lost_pages,
                "seconds": self.lengths.fields(),
            },
        }

    def charged(self, figures: dict[str, Any]) -> dict[str, Any]:
        """The figures that a policy answers for: without what was counted in tainted epochs."""
        if not self.before_epoch:
            return figures
        charged = dict(figures)
        for name, first in (
            ("oom_events", st.OOM_ISOLATED),
            ("alloc_failures", st.FAILURES_ISOLATED),
        ):
            charged[name] = {
                cause: figures[name][cause] - self.before_epoch[first + number]
                for number, cause in enumerate(st.CAUSES)
            }
        return charged
