"""What a policy is shown: a zone as it is now, read without the lock.

A policy that goes by little is shown little: the words of `look_at_hold` are enough for the
proposals of 2021, and asking for the others takes as long again.
"""

from typing import NamedTuple

from pagesoak.allocator.demand import look_at_demand
from pagesoak.base.layout import MAX_ORDER
from pagesoak.reporter.gate import look_at_headroom, look_at_hold, look_at_zone
from pagesoak.reporter.lists import next_list
from pagesoak.reporter.policy import HoldView, ZoneView

Seen = tuple[int, ...]
"""What `look_at_hold` says: four words."""


class ListOf(NamedTuple):
    """A free list that a visit is about to fill from; `capacity` is the device's, in entries."""

    zone: int
    order: int
    migratetype: int
    capacity: int


def next_list_of(base: int, zone: int, order: int, migratetype: int) -> tuple[int, Seen]:
    """The first list from this migratetype on that has blocks, and what its `hold_view` begins
    with.
    """
    found = next_list(base, zone, order, migratetype)
    return found[0], found[1:]


def zone_view(base: int, zone: int, reporting_order: int, capacity: int) -> ZoneView:
    """The zone, as a pass comes to it."""
    return ZoneView(zone, reporting_order, capacity, *look_at_zone(base, zone))


def hold_view(base: int, worker: int, at: ListOf, seen: Seen | None, *, whole: bool) -> HoldView:
    """The zone before a hold; `whole`: with everything that there is to be seen. `seen`: what
    `look_at_hold` has said just now.
    """
    free, isolated, blocks, pending = seen or look_at_hold(base, at.zone, at.order)
    if not whole:
        return HoldView(at.zone, at.migratetype, at.capacity, free, isolated, blocks, pending)
    words = look_at_headroom(base, at.zone)
    pending_pages, reported, managed, low, mid, high, boost, reserved = words[:-MAX_ORDER]
    known, demand, longest, *windows = look_at_demand(base, worker, at.zone)
    return HoldView(
        at.zone,
        at.migratetype,
        at.capacity,
        free,
        isolated,
        blocks,
        pending,
        pending_pages,
        bool(reported),
        managed,
        low,
        mid,
        high,
        boost,
        reserved,
        words[-MAX_ORDER:],
        tuple(filter(None, windows)),
        longest,
        demand,
        bool(known),
    )
