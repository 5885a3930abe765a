"""Faults of a run on a virtual clock: a host that does wrong (`host.faults`), a clock that jumps.

Workers that are killed or stopped are processes, which such a run does not have. The moments and
kinds are drawn from the seed, so that the run stays the same to the byte.
"""

import random
from collections.abc import Callable

from pagesoak.base.errors import InputError
from pagesoak.base.faults import CLOCK_JUMP, VIRTUAL_FAULTS, FaultWanted
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.engine.host_orders import HostOrders
from pagesoak.engine.prepare import Soak


class VirtualFaults:
    """Makes a soak's faults happen; `count` is told of each that has, `jump` makes the guest's
    clock jump by so many ns.

    Raises InputError when the scenario wants one that is only to be had live.
    """

    def __init__(
        self, soak: Soak, count: Callable[[str], None], jump: Callable[[int], None]
    ) -> None:
        self._orders = HostOrders(
            soak.segment.header, lambda taken: count(taken.kind), lambda _missed: None
        )
        self._wanted = soak.scenario.faults
        self._count = count
        self._jump = jump
        self._random = random.Random(f"faults of {soak.scenario.seed}")  # noqa: S311 - no secret
        self._due_ns = 0.0
        if self._wanted.every_ns is None:
            return
        for kind in self._wanted.kinds:
            if kind not in VIRTUAL_FAULTS:
                only = ", ".join(VIRTUAL_FAULTS)
                msg = f"{kind} needs a live run; on a virtual clock there are {only}"
                raise InputError(msg, key="faults.kinds")

    def look(self, elapsed_ns: int) -> None:
        """Make happen what is due so long after the soak's start."""
        self._orders.look(elapsed_ns)
        every_ns = self._wanted.every_ns
        if every_ns is None or elapsed_ns < self._due_ns:
            return
        if self._due_ns:
            kind = self._random.choice(self._wanted.kinds)
            if kind == CLOCK_JUMP:
                self._jump(self._wanted.stopped_for_ns)
                self._count(kind)
            else:
                seconds = self._wanted.slower_by_ns / NS_PER_SECOND
                self._orders.want(FaultWanted(kind, seconds=seconds), elapsed_ns)
        self._due_ns = elapsed_ns + self._random.expovariate(1 / every_ns)

    def end(self) -> None:
        """The run is over."""
        self._orders.end()
