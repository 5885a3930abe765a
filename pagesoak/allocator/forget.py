"""What a worker held without a lock is taken from it when it is dead: marks that say "mine".

Its pageset's mark that it is inside, its claims of other CPUs' pagesets, loads' tables, kswapd and
a zone's compaction; and its figures, should it have died while it published them. Loads that ran
on its CPU are as if their processes had been killed: they have nothing, and begin again.
"""

from collections.abc import Collection

from pagesoak.allocator.claims import load_words, loads_of
from pagesoak.base.counting import publish_statistics
from pagesoak.base.layout import (
    L_CAPACITY,
    L_CURSOR,
    L_EVENT_COUNT,
    L_HELD,
    L_HELD_PAGES,
    L_TABLE,
    LOAD_WORDS,
    P_CLAIM,
    P_INSIDE,
    PAGESET_WORDS,
    W_PUBLISHED_SEQUENCE,
    WORKER_WORDS,
    ZONE_WORDS,
)
from pagesoak.base.layout_demand import L_OOM_WAIT_SINCE_NS
from pagesoak.base.layout_faults import W_AT_REST, W_FAULT_POINT
from pagesoak.base.layout_kernel import Z_COMPACT_BUSY, Z_COMPACT_TARGET
from pagesoak.base.layout_reclaim import (
    H_NODES,
    L_BUSY,
    L_FILE_POSITION,
    L_VICTIM,
    N_RUNNING,
    NODE_WORDS,
    NODES_MAX,
)
from pagesoak.base.layout_virtual import L_SLICE_LEFT, L_SLICE_NS
from pagesoak.base.segment import Segment

_OF_A_PROCESS = (
    L_CURSOR,
    L_HELD,
    L_HELD_PAGES,
    L_VICTIM,
    L_BUSY,
    L_OOM_WAIT_SINCE_NS,
    L_SLICE_LEFT,
    L_SLICE_NS,
    L_FILE_POSITION,
)
"""Words of a load that are those of its process; a replay's cursor is among them."""
NO_BLOCK = -1


def forget_marks(segment: Segment, dead: Collection[int]) -> None:
    """Take the marks of these workers away; nobody else may be at work."""
    _forget_pagesets(segment, dead)
    _forget_claims(segment, {worker + 1 for worker in dead})
    for worker in dead:
        at = worker * WORKER_WORDS
        segment.workers[at + W_AT_REST] = segment.workers[at + W_FAULT_POINT] = 0
        sequence = segment.workers[at + W_PUBLISHED_SEQUENCE]
        segment.workers[at + W_PUBLISHED_SEQUENCE] = sequence + sequence % 2
        publish_statistics(segment.base, worker)


def _forget_pagesets(segment: Segment, dead: Collection[int]) -> None:
    zones = segment.plan.zones
    for number in range(segment.plan.cpus * zones):
        at = number * PAGESET_WORDS
        if number // zones in dead:
            segment.pagesets[at + P_INSIDE] = 0
        if segment.pagesets[at + P_CLAIM] - 1 in dead:
            segment.pagesets[at + P_CLAIM] = 0


def _forget_claims(segment: Segment, marks: Collection[int]) -> None:
    """Marks with a worker's number + 1 in loads, nodes and zones."""
    for at in range(0, segment.plan.loads * LOAD_WORDS, LOAD_WORDS):
        if segment.loads[at + L_BUSY] in marks:
            segment.loads[at + L_BUSY] = 0
    for node in range(NODES_MAX):
        at = H_NODES + node * NODE_WORDS
        if segment.header[at + N_RUNNING] in marks:
            segment.header[at + N_RUNNING] = 0
    for z in range(0, segment.plan.zones * ZONE_WORDS, ZONE_WORDS):
        if segment.zones[z + Z_COMPACT_BUSY] in marks:
            segment.zones[z + Z_COMPACT_BUSY] = 0
        segment.zones[z + Z_COMPACT_TARGET] = 0  # no scan is under way: what it took is nobody's


def forget_processes(segment: Segment, cpus: Collection[int]) -> list[int]:
    """The loads of these CPUs have nothing any more; which ones."""
    loads = loads_of(segment, cpus)
    for load in loads:
        words = load_words(segment, load)
        for word in _OF_A_PROCESS:
            segment.loads[load * LOAD_WORDS + word] = 0
        if words[L_EVENT_COUNT]:
            first = words[L_TABLE]
            for place in range(first, first + words[L_CAPACITY]):
                segment.tables[place] = NO_BLOCK
    return loads
