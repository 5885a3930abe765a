"""What a policy is shown: a zone as it is now, read without the lock.

A policy that goes by little is shown little: the words of `look_at_hold` are enough for the
proposals of 2021, and asking for the others takes as long again.
"""

from typing import NamedTuple

from pagesoak.allocator.demand import look_at_demand
from pagesoak.base.layout import MAX_ORDER
from pagesoak.reporter.gate import look_at_headroom, look_at_hold, look_at_zone
from pagesoak.reporter.policy import HoldView, ZoneView


class ListOf(NamedTuple):
    """A free list that a visit is about to fill from; `capacity` is the device's, in entries."""

    zone: int
    order: int
    migratetype: int
    capacity: int


def zone_view(base: int, zone: int, reporting_order: int, capacity: int) -> ZoneView:
    """The zone, as a pass comes to it."""
    return ZoneView(zone, reporting_order, capacity, *look_at_zone(base, zone))


def hold_view(base: int, worker: int, at: ListOf, *, whole: bool) -> HoldView:
    """The zone before a hold; `whole`: with everything that there is to be seen."""
    free, isolated, blocks, pending = look_at_hold(base, at.zone, at.order)
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
