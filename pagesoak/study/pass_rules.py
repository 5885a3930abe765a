"""What must be true of every recorded report call, whatever was on the free lists.

Without the page events of the load nobody can say which blocks a pass should find. But the rules
of a pass show in any recording of it (docs/model.md, 7.2 to 7.5; Linux 6.1
`mm/page_reporting.c`): it works zone by zone upwards, within a zone order by order upwards; a
scatterlist holds blocks of one zone and is full unless it is the zone's last; what was isolated is
what is reported, and what is put back, in scatterlist order, once the device has answered; a call
that fails ends the pass.
"""

from collections.abc import Iterator
from itertools import pairwise

from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.base.layout import REPORTING_CAPACITY
from pagesoak.study.pass_trace import UNKNOWN_NS, Block, TracedCall, TracedPass


def broken_rules(
    made: TracedPass, order: int, snapshot: FreeListSnapshot | None
) -> list[list[str]]:
    """For each call of a pass the rules it breaks, in words; all empty lists when it keeps them.

    `order` is page_reporting_order; `snapshot` tells the zones (None: taken for one zone).
    """
    calls = made.calls
    broken = [list(_broken_by(call, order, snapshot)) for call in calls]
    for before, call, complaints in zip(calls, calls[1:], broken[1:], strict=False):
        if not before.isolated or not call.isolated:
            continue
        here, there = _place(before.isolated[-1], snapshot), _place(call.isolated[0], snapshot)
        if there < here:
            complaints.append("it goes back to an earlier zone or order")
        elif there[0] == here[0] and len(before.isolated) < REPORTING_CAPACITY:
            complaints.append("the call before it was not full, and its zone had more")
        if before.error:
            complaints.append("the call before it failed: the pass should have ended")
        if call.isolated_ns < before.end_ns:
            complaints.append("blocks were isolated while another call was under way")
    return broken


def _broken_by(call: TracedCall, order: int, snapshot: FreeListSnapshot | None) -> Iterator[str]:
    if call.entries != len(call.isolated):
        yield f"{call.entries} entries were reported, {len(call.isolated)} blocks isolated"
    if not 1 <= call.entries <= REPORTING_CAPACITY:
        yield f"a scatterlist of {call.entries} entries"
    if len(set(call.isolated)) != len(call.isolated):
        yield "a block was isolated twice"
    places = [_place(block, snapshot) for block in call.isolated]
    if len({zone for zone, _ in places}) > 1:
        yield "blocks of several zones share a scatterlist"
    if any(later < earlier for earlier, later in pairwise(places)):
        yield "orders do not ascend"
    if any(block_order < order for _, block_order in call.isolated):
        yield f"a block below page_reporting_order {order}"
    if call.put_back and tuple(call.put_back) != call.scatterlist:
        yield "blocks do not come back in scatterlist order"
    if call.end_ns != UNKNOWN_NS and not call.put_back:
        yield "blocks do not come back"


def _place(block: Block, snapshot: FreeListSnapshot | None) -> tuple[int, int]:
    """Zone by its number, and order: a pass visits them in this sequence."""
    zones = () if snapshot is None else snapshot.zones
    pfn, order = block
    found = (n for n, zone in enumerate(zones) if zone.start_pfn <= pfn < zone.end_pfn)
    return next(found, 0), order
