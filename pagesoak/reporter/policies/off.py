"""`off`: no reporting device is registered. The control of every comparison."""

from dataclasses import dataclass
from typing import Any, ClassVar

from pagesoak.reporter.policy import Hold, HoldView, ZoneView


@dataclass(frozen=True)
class Off:
    """Nothing is reported: a guest without the feature."""

    name: ClassVar[str] = "off"
    source: ClassVar[str] = "a guest without VIRTIO_BALLOON_F_REPORTING"
    formula: ClassVar[str] = "no device, no pass"
    registers_device: ClassVar[bool] = False

    def at_zone(self, _view: ZoneView) -> Any:
        """No zone."""
        return None

    def at_hold(self, _order: int, view: HoldView, _context: Any) -> Hold:
        """No block."""
        return Hold(view.capacity, take=0)

    def isolated_pages_max(self, _order: int, _capacity: int) -> int:
        """None."""
        return 0
