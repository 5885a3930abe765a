"""`halving`: Alexander Duyck's first alternative to patch 4/4, in his review of 2 April 2021.

The mail gives a formula, (32 << 9) >> order, at least 1, with a budget to match: half the entries
for each step of the order, whatever is free, so that a batch never holds more than one of the
smallest order does. Where the mail is silent it is read as patch 4/4 is built: the last entries
are initialised anew for each order, and what is pending at an order's end is reported.

The budget "to match" has two readings. `div`: the list in units of 16 such batches, as the kernel
counts. `shift`: the kernel's own number, doubled with each step.

Models ML-R4, alternative A. Rules and test IDs: docs/model.md, 9.3.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pagesoak.reporter.policies.bounds import entries_of_order, most_pages
from pagesoak.reporter.policy import Hold, HoldView, OrderPlan, ZoneView

Budget = Literal["div", "shift"]
BUDGET_HELP = (
    "reports of a visit less one: div = ceil(blocks / (16 * capacity(order))), "
    "shift = ceil(blocks / (16 * capacity)) << (order - p)"
)


def hold_of_order(order: int, reporting_order: int, capacity: int, budget: Budget) -> Hold:
    """The entries of an order, and its budget by either reading."""
    entries = entries_of_order(order, reporting_order, capacity)
    if budget == "div":
        return Hold(entries)
    return Hold(entries, budget_capacity=capacity, budget_shift=order - reporting_order)


@dataclass(frozen=True)
class Halving:
    """Entries halved with each order, a report at the end of each."""

    name: ClassVar[str] = "halving"
    source: ClassVar[str] = "Alexander Duyck, review of [PATCH 4/4], 2 April 2021 (ML-R4), A"
    formula: ClassVar[str] = "capacity(order) = max(1, (32 << p) >> order)"
    registers_device: ClassVar[bool] = True
    option_help: ClassVar[dict[str, str]] = {"budget": BUDGET_HELP}

    budget: Budget = "div"

    def at_zone(self, view: ZoneView) -> Any:
        """page_reporting_order, which the capacities count from."""
        return view.order

    def at_order(self, order: int, view: ZoneView, _context: int) -> OrderPlan:
        """Its entries begin anew, and nothing pending is carried on to the next order."""
        entries = entries_of_order(order, view.order, view.capacity)
        return OrderPlan(entries, flush_after=True)

    def at_hold(self, order: int, view: HoldView, context: int) -> Hold:
        """The entries of the order."""
        return hold_of_order(order, context, view.capacity, self.budget)

    def isolated_pages_max(self, order: int, capacity: int) -> int:
        """What a full list of page_reporting_order holds, or one largest block."""
        return most_pages(order, capacity)
