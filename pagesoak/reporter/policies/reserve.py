"""`reserve`: Alexander Duyck's second alternative to patch 4/4, in his review of 2 April 2021.

One array throughout, never initialised between the orders. Its first entries are kept unused, more
of them with each order, so many that the others hold what `halving` allows; there is always one
left. A block is isolated while the lowest used entry lies above that reserve. Otherwise what is
pending is reported first, from the entry that was the lowest then: `start` is kept apart, because
the lowest used entry is reset before the blocks are put back. So nothing is flushed when the
reserve grows: what is pending may reach into it, and goes out when the next block wants in, or as
the leftover.

That the lowest used entry is compared with `<=`, that `start` is kept, and that a change of the
reserve touches no entry, are the core's own rules for any capacity (`reporter.cycle`).

Models ML-R4, alternative B. Rules and test IDs: docs/model.md, 9.4.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from pagesoak.reporter.policies.bounds import most_pages
from pagesoak.reporter.policies.halving import BUDGET_HELP, Budget, hold_of_order
from pagesoak.reporter.policy import Hold, HoldView, ZoneView


@dataclass(frozen=True)
class Reserve:
    """The bound of `halving`, with batches that go on from order to order."""

    name: ClassVar[str] = "reserve"
    source: ClassVar[str] = "Alexander Duyck, review of [PATCH 4/4], 2 April 2021 (ML-R4), B"
    formula: ClassVar[str] = "reserve(order) = 32 - max(1, (32 << p) >> order) entries unused"
    registers_device: ClassVar[bool] = True
    option_help: ClassVar[dict[str, str]] = {"budget": BUDGET_HELP}

    budget: Budget = "div"

    def at_zone(self, view: ZoneView) -> Any:
        """page_reporting_order, which the reserves count from."""
        return view.order

    def at_hold(self, order: int, view: HoldView, context: int) -> Hold:
        """All entries but the reserve."""
        return hold_of_order(order, context, view.capacity, self.budget)

    def isolated_pages_max(self, order: int, capacity: int) -> int:
        """What a full list of page_reporting_order holds, or one largest block."""
        return most_pages(order, capacity)
