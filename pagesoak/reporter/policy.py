"""The contract of a policy: what it is shown, what it decides.

A policy is a small frozen object with two pure functions. `at_zone` is asked once per zone and
pass, after the gate; it answers with a context of its own, or None to leave the zone out.
`at_hold` is asked before every taking of the zone lock that is to fill the scatterlist, so again
after each report; it says how far the fill may go. Views are taken without the lock, as the
kernel's own callers see a zone; what has to hold under the lock (the budget by the list's length,
what isolation must leave free) is worked out there.

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
BUDGET_BY_LIST = -1
"""The kernel's budget, worked out under the lock: ceil(free blocks / (16 * capacity))."""
BUDGET_MAX = 1 << 30


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

    After a report its blocks still count as isolated and pending: they return under the lock.
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


@dataclass(frozen=True, slots=True)
class Hold:
    """How far one hold may fill.

    `capacity` entries may be used, `take` blocks isolated in this hold (0: none; the list's visit
    ends there). `budget`, for the whole visit of the list and read at its first hold, is its
    number of in-loop reports less one, or BUDGET_BY_LIST. `flush_before`: what is pending is
    reported before a visit begins.

    Raises InputError for a value out of range, or no whole number.
    """

    capacity: int
    take: int = TAKE_ALL
    budget: int = BUDGET_BY_LIST
    flush_before: bool = False

    def __post_init__(self) -> None:
        for key, value, least, most in (
            ("capacity", self.capacity, 1, CAPACITY_MAX),
            ("take", self.take, 0, TAKE_ALL),
            ("budget", self.budget, BUDGET_BY_LIST, BUDGET_MAX),
        ):
            if type(value) is not int or not least <= value <= most:
                message = f"{value!r} is not a whole number from {least} to {most}"
                raise InputError(message, key=f"policy.{key}")


class Policy(Protocol):
    """What decides how much reporting may take."""

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
