"""`mainline`: page reporting as Linux has it since 5.7, unchanged up to 7.1.

Every order may use the whole scatterlist, whatever its blocks hold: 32 blocks of order 10 are 128
MiB. Nothing but the gate and isolation's own test looks at what is left.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from pagesoak.reporter.policies.bounds import LARGEST_ORDER
from pagesoak.reporter.policy import Hold, HoldView, ZoneView


@dataclass(frozen=True)
class Mainline:
    """Capacity of the device, no bound but the budget."""

    name: ClassVar[str] = "mainline"
    source: ClassVar[str] = "Linux 5.7 to 7.1, mm/page_reporting.c"
    formula: ClassVar[str] = "capacity(order) = 32"
    registers_device: ClassVar[bool] = True

    def at_zone(self, _view: ZoneView) -> Any:
        """Every zone that passes the gate."""
        return ()

    def at_hold(self, _order: int, view: HoldView, _context: Any) -> Hold:
        """As much as there is room for."""
        return self.fixed_hold(view.capacity)

    def fixed_hold(self, capacity: int) -> Hold:
        """The same in every zone, for every list."""
        return Hold(capacity)

    def isolated_pages_max(self, _order: int, capacity: int) -> int:
        """A full list of the largest blocks."""
        return capacity << LARGEST_ORDER
