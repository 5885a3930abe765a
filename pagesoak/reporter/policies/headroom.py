"""`headroom`: leaves free what the guest may take while a report is away. Ours.

*The rule.* What is free is never taken below a floor:

    floor = high watermark + boost + reserved + demand

`demand` is the most pages that were taken from the zone in any interval as long as the longest
report window, both over the last ten minutes. `reserved` are free pages that not every request may
have: the HIGHATOMIC reserve, and the largest lowmem reserve. Of a list of some order (free -
floor) >> order blocks may be isolated together, at most what the device takes. When that is none
and none is pending, the zone waits (`reporter.waiting`): until a free lifts it to the floor and
one block, or until the floor has come down.

What small batches would cost in time is made good by their number: a visit may report as many
blocks as mainline's.

*Before anything was seen* a quarter of the zone counts as demand, or what was seen in 2 s if that
is more. That ends with the first window of a guest that takes pages; with a guest of which nothing
was taken for 3 s, which is idle; and after a minute, so that a busy guest with little free memory
is not left alone for ever.

*The guarantee.* As long as no more is taken from the zone during a window than `demand`, no
request for single pages fails, kills, or even stalls because pages were isolated.

*The argument.* Every isolation is tested under the zone lock and leaves at least the floor free.
In what is left of the window at most `demand` pages are taken, net, up to any moment of it. So at
each moment more than high + boost + reserved are free but for a page, hence every request passes
the low watermark at its first attempt, in this zone, with the rights of the least. What comes back
with the report only adds to that. Several reports one after the other are several windows, and
each begins with its own test.

*Its premises.* (1) The demand: a burst larger than any that was seen, or a window longer than any,
is not covered. It is put on record when it happens (`unseen-demand`), counted, and remembered from
then on; a request that failed meanwhile counts as if all that is isolated had been taken, since
what it would have come to is not known. With `floor=` the user states it. (2) Single pages: a
request for a larger block may find none, because those that would serve it are isolated, however
many pages are free. (3) The watermarks do not rise within the window.

No kernel has this. Where it comes from, and what it costs: docs/policies.md.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from pagesoak.base.errors import InputError
from pagesoak.reporter.policies.bounds import LARGEST_ORDER
from pagesoak.reporter.policy import (
    BUDGET_BLOCKS_PER_ENTRY,
    DEMAND_MEMORY_SECONDS,
    DEMAND_MEMORY_SECONDS_MAX,
    LEAVE_MAX,
    Hold,
    HoldView,
    ZoneView,
)

INITIAL_PERCENT = 25
"""Of a zone's managed pages, until something was seen: the bursts that were reported in 2021 took
less (a guest of 512 MiB, 100 MiB at a time).
"""
PERCENT = 100


@dataclass(frozen=True)
class Headroom:
    """Leaves free what the guest took in any window's time; waits where that is all."""

    name: ClassVar[str] = "headroom"
    source: ClassVar[str] = "pagesoak"
    formula: ClassVar[str] = (
        "capacity(order) = (free - floor) >> order, "
        "floor = high + boost + reserved + most taken in a window's time"
    )
    registers_device: ClassVar[bool] = True
    option_help: ClassVar[dict[str, str]] = {
        "floor": "free pages to leave; left out: worked out from what was seen",
        "memory_seconds": "how long demands and windows are remembered",
        "initial_percent": "of a zone's managed pages, the demand until something was seen",
    }

    floor: int | None = None
    memory_seconds: int = DEMAND_MEMORY_SECONDS
    initial_percent: int = INITIAL_PERCENT

    def __post_init__(self) -> None:
        _check("floor", self.floor or 0, 0, LEAVE_MAX)
        _check("memory_seconds", self.memory_seconds, 1, DEMAND_MEMORY_SECONDS_MAX)
        _check("initial_percent", self.initial_percent, 0, PERCENT)

    @property
    def demand_memory_seconds(self) -> int:
        """How long demands are remembered for it."""
        return self.memory_seconds

    def floor_pages(self, view: HoldView) -> int:
        """Pages that every isolation leaves free."""
        if self.floor is not None:
            return self.floor
        demand = view.demand_pages
        if not view.demand_known:
            demand = max(demand, view.managed_pages * self.initial_percent // PERCENT)
        return view.high_pages + view.boost_pages + view.reserved_pages + demand

    def at_zone(self, _view: ZoneView) -> Any:
        """Every zone that passes the gate."""
        return ()

    def at_hold(self, order: int, view: HoldView, _context: Any) -> Hold:
        """As many blocks as the floor leaves beside what is pending; what a report has brought
        home is free again before the fill.
        """
        floor = self.floor_pages(view)
        free, pending = view.free_pages, view.pending_entries
        if view.reported:
            free, pending = free + view.pending_pages, 0
        room = max(0, free - floor) >> order
        capacity = min(view.capacity, pending + room)
        entries = max(1, capacity)
        budget = budget_of_blocks(view.free_blocks, view.capacity, entries)
        return Hold(entries, room, budget, leave_free_pages=floor)

    def isolated_pages_max(self, _order: int, capacity: int) -> int:
        """A full list of the largest blocks: where that much is free above the floor."""
        return capacity << LARGEST_ORDER


def budget_of_blocks(free_blocks: int, device_capacity: int, entries: int) -> int:
    """Reports of a visit less one, when each has so many entries, that let as many blocks be
    reported in it as mainline's reports of the whole device do: one more than a sixteenth of the
    list needs.
    """
    share = device_capacity * BUDGET_BLOCKS_PER_ENTRY
    blocks = (-(-free_blocks // share) + 1) * device_capacity
    return -(-blocks // entries) - 1


def _check(key: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InputError(f"must be from {least} to {most}, not {value}", key=key)
