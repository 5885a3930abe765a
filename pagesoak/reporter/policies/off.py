"""`off`: no reporting device is registered. The control of every comparison."""

from dataclasses import dataclass
from typing import Any, Final

from pagesoak.reporter.policy import Hold, HoldView, ZoneView


@dataclass(frozen=True)
class Off:
    """Nothing is reported: a guest without the feature."""

    name: Final = "off"
    source: Final = "a guest without VIRTIO_BALLOON_F_REPORTING"
    registers_device: Final = False

    def at_zone(self, _view: ZoneView) -> Any:
        """No zone."""
        return None

    def at_hold(self, _order: int, view: HoldView, _context: Any) -> Hold:
        """No block."""
        return Hold(view.capacity, take=0)
