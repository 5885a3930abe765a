"""Having a host do wrong, one call after the other.

What is wanted stands in a word of the segment until the host takes it, as its next call begins
(`host.faults`). Only what was taken has happened, and is counted; what no call comes for in time
is given up. Times are ns of the run's clock, real or virtual.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from pagesoak.base.faults import HOST_FAULTS, FaultWanted
from pagesoak.base.layout_faults import H_HOST_FAULT, H_HOST_FAULT_AMOUNT
from pagesoak.base.native import Words
from pagesoak.base.units import NS_PER_SECOND

MOMENT_NS_MAX = 5 * NS_PER_SECOND
"""A reporter with something to do calls the host every few seconds."""


class _Order(NamedTuple):
    wanted: FaultWanted
    until_ns: int


class HostOrders:
    """The orders to one run's hosts; `taken` and `missed` are told what became of each."""

    def __init__(
        self,
        header: Words,
        taken: Callable[[FaultWanted], None],
        missed: Callable[[FaultWanted], None],
    ) -> None:
        self._header = header
        self._taken = taken
        self._missed = missed
        self._waiting: deque[_Order] = deque()
        self._told: _Order | None = None

    @property
    def waits(self) -> bool:
        """Whether a host may have taken something, or more is to be told."""
        return self._told is not None or bool(self._waiting)

    def want(self, wanted: FaultWanted, now_ns: int) -> None:
        """Have a host's next call go wrong so, or one of those after it."""
        self._waiting.append(_Order(wanted, now_ns + MOMENT_NS_MAX))
        self.look(now_ns)

    def look(self, now_ns: int) -> None:
        """See what was taken, give up what no call came for, tell what is next."""
        self._settle()
        if self._told is not None and now_ns > self._told.until_ns:
            self._withdraw()
        while self._waiting and now_ns > self._waiting[0].until_ns:
            self._missed(self._waiting.popleft().wanted)
        if self._told is None and self._waiting:
            self._told = self._waiting.popleft()
            wanted = self._told.wanted
            self._header[H_HOST_FAULT_AMOUNT] = int(wanted.seconds * NS_PER_SECOND)
            self._header[H_HOST_FAULT] = HOST_FAULTS[wanted.kind]

    def end(self) -> None:
        """No call goes wrong any more."""
        self._settle()
        if self._told is not None:
            self._withdraw()
        while self._waiting:
            self._missed(self._waiting.popleft().wanted)

    def _settle(self) -> None:
        if self._told is not None and self._header[H_HOST_FAULT] == 0:
            self._taken(self._told.wanted)
            self._told = None

    def _withdraw(self) -> None:
        self._header[H_HOST_FAULT] = 0
        if self._told is not None:
            self._missed(self._told.wanted)
            self._told = None
