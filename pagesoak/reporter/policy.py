"""The contract of a policy: what it is shown, what it decides.

A policy is a small frozen object with two pure functions. `at_zone` is asked once per zone and
pass, after the gate; it answers with a context of its own, or None to leave the zone out.
`at_hold` is asked before every taking of the zone lock that is to fill the scatterlist, so again
after each report; it says how far the fill may go. Views are taken without the lock, as the
kernel's own callers see a zone; what has to hold under the lock (the budget by the list's length,
what isolation must leave free) is worked out there.

A policy that does something to the scatterlist between the orders has a third function, `at_order`
(`OrderPlanner`). `at_zone` and `at_order` are handed `ZoneView`s, `at_hold` `HoldView`s. No answer
of a policy that is not built in is believed before `reporter.guard` has looked at it.

What needs memory lives in the zone, not in the policy. This module imports nothing of the core, so
that policies can be listed without loading it.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from pagesoak.base.errors import InputError

CAPACITY_MAX = 32
"""Entries of the scatterlist (PAGE_REPORTING_CAPACITY)."""
TAKE_ALL = 1 << 30
"""A `take` that binds nothing: more blocks than any guest has."""
LEAVE_MAX = 1 << 40
"""More pages than any guest has."""
BUDGET_BY_LIST = -1
"""The kernel's budget, worked out under the lock: ceil(free blocks / (16 * capacity))."""
BUDGET_MAX = 1 << 30
BUDGET_BLOCKS_PER_ENTRY = 16
"""A pass takes about a sixteenth of a long list, so that it is through after 16 passes of 2 s."""
DEMAND_MEMORY_SECONDS = 600
"""Ten minutes: a guest's work changes within hours, its bursts come within minutes."""
DEMAND_MEMORY_SECONDS_MAX = 86_400
BUDGET_SHIFT_MAX = 10
"""The largest order: a budget that is to match an order's step is shifted by no more."""
CAPACITY_OF_HOLD = 0
"""In place of `budget_capacity`: the same as the hold's `capacity`."""


@dataclass(frozen=True, slots=True)
class ZoneView:
    """A zone as a pass meets it; `capacity` is the device's, in entries, all else in pages."""

    zone: int
    order: int
    """page_reporting_order."""
    capacity: int
    managed_pages: int
    free_pages: int
    isolated_pages: int
    reported_pages: int
    highatomic_pages: int
    min_pages: int
    """Raw watermarks, without boost."""
    low_pages: int
    high_pages: int
    boost_pages: int


@dataclass(frozen=True, slots=True)
class HoldView:
    """A zone before the lock is taken to fill from one list, whose order is given beside it.

    After a report (`reported`) its blocks still count as isolated and pending: they return under
    the lock, before the fill. What stands after `pending_entries` is filled in for policies that
    are not built in, and for those that go by it.
    """

    zone: int
    migratetype: int
    capacity: int
    """Entries of the device."""
    free_pages: int
    isolated_pages: int
    free_blocks: int
    """Of this order, all types (nr_free)."""
    pending_entries: int
    pending_pages: int = 0
    reported: bool = False
    managed_pages: int = 0
    min_pages: int = 0
    """Raw watermarks, without boost."""
    low_pages: int = 0
    high_pages: int = 0
    boost_pages: int = 0
    reserved_pages: int = 0
    """Free, and yet not for every request: the HIGHATOMIC reserve and the largest lowmem reserve.
    """
    blocks: tuple[int, ...] = ()
    """Free blocks by order, all types."""
    windows_ns: tuple[int, ...] = ()
    """Lengths of the last report windows, at most eight, the newest first."""
    longest_window_ns: int = 0
    """Of those that are remembered (`demand_memory_seconds` of the policy)."""
    demand_pages: int = 0
    """The most pages taken from the zone in any interval as long as the longest window, or of 2 s
    before the first (`allocator.demand`).
    """
    demand_known: bool = False
    """Whether what was seen so far says something: a window of a guest that takes pages, or that
    it is idle; or it has been watched for a minute.
    """


@dataclass(frozen=True, slots=True)
class Hold:
    """How far one hold may fill.

    `capacity` entries may be used, `take` blocks isolated in this hold (0: none; the list's visit
    ends there). `budget`, for the whole visit of the list and read at its first hold, is its
    number of in-loop reports less one, or BUDGET_BY_LIST: then it is the kernel's, of
    `budget_capacity` entries (CAPACITY_OF_HOLD: of `capacity`) and times 2 ** `budget_shift`.
    `flush_before`: what is pending is reported before a visit begins. `leave_free_pages`: no block
    is isolated that would leave fewer pages free in the zone, which is tested under the lock; a
    block that comes to that makes what is pending be reported first, and if nothing is, the zone
    waits until that many pages and one such block are free.

    `capacity` counts from the last entry, whatever is pending: a smaller one than before makes the
    next unreported block send what is there, and nothing is lost.

    Raises InputError for a value out of range, or no whole number.
    """

    capacity: int
    take: int = TAKE_ALL
    budget: int = BUDGET_BY_LIST
    flush_before: bool = False
    budget_capacity: int = CAPACITY_OF_HOLD
    budget_shift: int = 0
    leave_free_pages: int = 0

    def __post_init__(self) -> None:
        _check_whole("capacity", self.capacity, 1, CAPACITY_MAX)
        _check_whole("take", self.take, 0, TAKE_ALL)
        _check_whole("budget", self.budget, BUDGET_BY_LIST, BUDGET_MAX)
        _check_yes_or_no("flush_before", self.flush_before)
        _check_whole("budget_capacity", self.budget_capacity, CAPACITY_OF_HOLD, CAPACITY_MAX)
        _check_whole("budget_shift", self.budget_shift, 0, BUDGET_SHIFT_MAX)
        _check_whole("leave_free_pages", self.leave_free_pages, 0, LEAVE_MAX)


@dataclass(frozen=True, slots=True)
class OrderPlan:
    """What happens to the scatterlist around the lists of one order.

    `initialise`: so many entries, the last ones, are initialised anew before the first of these
    lists (0: none). Blocks pending there would be forgotten, so that a pass which comes to this
    with any pending is stopped. `flush_after`: what is pending after the last list is reported.
    `context`, unless it is None, takes the place of the zone's for the holds of this order.

    Raises InputError for a value out of range, or no whole number.
    """

    initialise: int = 0
    flush_after: bool = False
    context: Any = None

    def __post_init__(self) -> None:
        _check_whole("initialise", self.initialise, 0, CAPACITY_MAX)
        _check_yes_or_no("flush_after", self.flush_after)


def _check_whole(key: str, value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        message = f"{value!r} is not a whole number from {least} to {most}"
        raise InputError(message, key=f"policy.{key}")


def _check_yes_or_no(key: str, value: object) -> None:
    if type(value) is not bool:
        raise InputError(f"{value!r} is neither True nor False", key=f"policy.{key}")


class Policy(Protocol):
    """What decides how much reporting may take.

    It may have more: `formula` and `isolated_pages_max(order, capacity)`, what is said of it (the
    rule in a line; the most pages isolated at once for a page_reporting_order and a capacity of
    the device), `device_capacity`, the capacity that its device asks for in place of the
    scenario's, `factor`, the `reporting_factor` it comes with, and `demand_memory_seconds`, how
    long demands and windows are remembered for it (DEMAND_MEMORY_SECONDS without it). A built-in
    one that looks at nothing has `fixed_hold(capacity)`, its hold for every zone and list, and is
    not asked again.
    """

    @property
    def name(self) -> str:
        """As scenarios and results name it."""

    @property
    def source(self) -> str:
        """Where the rule comes from."""

    @property
    def registers_device(self) -> bool:
        """False: there is no reporting device, and nothing below is ever asked."""

    def at_zone(self, view: ZoneView) -> Any:
        """A context, handed to `at_hold` for this zone and pass, or None: leave the zone out."""

    def at_hold(self, order: int, view: HoldView, context: Any) -> Hold:
        """How far the next hold on a list of this order may fill."""


class OrderPlanner(Policy, Protocol):
    """A policy that also says what happens to the scatterlist between the orders."""

    def at_order(self, order: int, view: ZoneView, context: Any) -> OrderPlan:
        """Asked once per zone, pass and order, before the first list of the order."""
