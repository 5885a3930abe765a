"""`driver-capacity`: the driver says how many entries a batch has, as in the 7.2 era.

A device whose ring has room for fewer than 32 entries is not refused any more: its number takes
the place of 32 in the array, in the budget and in the gate, which so asks for less, too. It is the
same for every order, and need not be a power of two.

Models `mm/page_reporting.c` as of July 2026 (K7.2f, commit 47c81dadb704) by its effects. Rules:
docs/model.md, 13.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from pagesoak.base.errors import InputError
from pagesoak.reporter.policies.bounds import LARGEST_ORDER
from pagesoak.reporter.policy import CAPACITY_MAX, Hold, HoldView, ZoneView


@dataclass(frozen=True)
class DriverCapacity:
    """`mainline` on a device of fewer entries; without the option, of the scenario's device."""

    name: ClassVar[str] = "driver-capacity"
    source: ClassVar[str] = "Linux 7.2-rc, mm/page_reporting.c (K7.2f)"
    formula: ClassVar[str] = "capacity(order) = c; gate: free > low + boost + (c << p)"
    registers_device: ClassVar[bool] = True
    option_help: ClassVar[dict[str, str]] = {
        "capacity": "entries of the device's batch, 1 to 32; left out: reporting.capacity"
    }

    capacity: int | None = None

    def __post_init__(self) -> None:
        if self.capacity is not None and not 1 <= self.capacity <= CAPACITY_MAX:
            said = f"must be from 1 to {CAPACITY_MAX}, not {self.capacity}"
            raise InputError(said, key="capacity")

    @property
    def device_capacity(self) -> int | None:
        """What the driver registers its device with."""
        return self.capacity

    def at_zone(self, _view: ZoneView) -> Any:
        """Every zone that passes the gate."""
        return ()

    def at_hold(self, _order: int, view: HoldView, _context: Any) -> Hold:
        """As much as there is room for on the device."""
        return self.fixed_hold(view.capacity)

    def fixed_hold(self, capacity: int) -> Hold:
        """The same in every zone, for every list."""
        return Hold(capacity)

    def isolated_pages_max(self, _order: int, capacity: int) -> int:
        """A full list of the largest blocks."""
        return (self.capacity or capacity) << LARGEST_ORDER
