"""`order-threshold`: Xunlei Pang's patch 4/4 of 26 March 2021, exactly as posted.

Once per zone, after the gate and without the lock, t = free - (low + boost) is compared with full
lists: the first order of which a full one holds more than t is the threshold, above the largest
order if there is none. From it on an order has half the entries of the one before it, and they are
the last ones of the array, initialised anew. What is pending at the end of an order is reported
where the next one is at the threshold or above. It rests on patches 1 to 3, so it comes with
`reporting_factor` at 100.

The threshold is old by the time it is used. `threshold=each-order` is not Pang's: it works it out
again before every order, the obvious repair, and shows what the posted form is silently saved
from: blocks are pending then that no flush was made for, initialising their entries would lose
them, and the reporter stops (docs/model.md, P4-6).

Models ML-4. Rules and test IDs: docs/model.md, 9.2.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pagesoak.reporter.policies.bounds import LARGEST_ORDER
from pagesoak.reporter.policy import Hold, HoldView, OrderPlan, ZoneView


def order_threshold(view: ZoneView) -> int:
    """The first order that gets fewer entries; the largest order plus 1 if none does."""
    room_pages = view.free_pages - (view.low_pages + view.boost_pages)
    for order in range(view.order, LARGEST_ORDER + 1):
        if view.capacity << order > room_pages:
            return order
    return LARGEST_ORDER + 1


def capacity_at(order: int, threshold: int, capacity: int) -> int:
    """Entries of an order: halved for each step from the threshold on, at least 1."""
    if order < threshold:
        return capacity
    return max(1, capacity >> (order - threshold + 1))


@dataclass(frozen=True)
class OrderThreshold:
    """Fewer entries for the orders of which a full list would not fit above the low mark."""

    name: ClassVar[str] = "order-threshold"
    source: ClassVar[str] = "Xunlei Pang, [PATCH 4/4], linux-kernel, 26 March 2021 (ML-4)"
    formula: ClassVar[str] = (
        "T = first order with (32 << order) > free - (low + boost), once per zone; "
        "capacity(order) = 32 below T, then max(1, 32 >> (order - T + 1))"
    )
    registers_device: ClassVar[bool] = True
    factor: ClassVar[int] = 100
    option_help: ClassVar[dict[str, str]] = {
        "threshold": "once per zone, as posted, or worked out again before each order"
    }

    threshold: Literal["once", "each-order"] = "once"

    def at_zone(self, view: ZoneView) -> Any:
        """The threshold, from what is free now."""
        return order_threshold(view)

    def at_order(self, order: int, view: ZoneView, context: int) -> OrderPlan:
        """The array begins anew with a zone, its last part with every order from T on."""
        threshold = context if self.threshold == "once" else order_threshold(view)
        begins = order == view.order or order >= threshold
        entries = capacity_at(order, threshold, view.capacity) if begins else 0
        return OrderPlan(entries, flush_after=order + 1 >= threshold, context=threshold)

    def at_hold(self, order: int, view: HoldView, context: int) -> Hold:
        """The entries of the order; the budget is theirs."""
        return Hold(capacity_at(order, context, view.capacity))

    def isolated_pages_max(self, _order: int, capacity: int) -> int:
        """No threshold: a full list of the largest blocks, as `mainline`."""
        return capacity << LARGEST_ORDER
