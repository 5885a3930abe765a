"""A guest that is driven along a trace, and the words for what is found in it."""

from typing import NamedTuple

from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.study.fidelity_trace_core import KINDS
from pagesoak.study.fidelity_trace_guest import TraceGuest
from pagesoak.study.fidelity_trace_kswapd import Kswapd
from pagesoak.study.fidelity_trace_repair import GuestPair
from pagesoak.study.fidelity_trace_reporter import Entries, TraceReporter


class Driven(NamedTuple):
    """A guest that is being driven, and who acts on it."""

    pair: GuestPair
    reporter: TraceReporter
    kswapd: Kswapd

    def changed(self) -> None:
        """The guest was changed by something that is no request."""
        self.pair.same()
        self.kswapd.forget()

    def close(self) -> None:
        """Give the memory back."""
        self.reporter.close()
        self.pair.close()
        self.kswapd.close()


def reported_orders(snapshot: FreeListSnapshot) -> set[int]:
    """Orders of the blocks that are Reported: the device takes no smaller ones."""
    return {
        order
        for zone in snapshot.zones
        for (order, _), blocks in zone.free_lists.items()
        if any(block.reported for block in blocks)
    }


def page_text(pfn: int) -> str:
    """A page by its frame, or that there is none."""
    return "no page" if pfn < 0 else f"page {pfn:#x}"


def state_text(guest: TraceGuest, pfn: int) -> str:
    """What the model knows of a page."""
    if pfn < 0:
        return "none"
    if guest.zone_of(pfn) < 0:
        return "in no zone of the snapshot"
    kind, order, migratetype = guest.look_at(pfn)
    known = KINDS.get(kind, "isolated or reserved")
    return f"{known} (order {order}, type {migratetype})" if kind else known


def first_difference(recorded: Entries, predicted: Entries) -> str:
    """The first scatterlist entry that was not predicted."""
    for number, (one, other) in enumerate(zip(recorded, predicted, strict=False)):
        if one != other:
            return f"entry {number} is {other[0]:#x}/{other[1]}, recorded {one[0]:#x}/{one[1]}"
    return f"recorded {len(recorded)}"
