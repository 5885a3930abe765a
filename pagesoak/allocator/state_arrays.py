"""The guest's state as numpy arrays, live or copied, and its lists read in order.

For code that looks at the whole state at once (set-up, audit, digest, the /proc formats). The
arrays share memory with what they were made of: drop them before the segment is closed.
"""

from array import array
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from pagesoak.base.layout import (
    MAX_ORDER,
    MIGRATE_TYPES,
    NEXT,
    P_LIST_BASE,
    PAGE_WORDS,
    PAGESET_WORDS,
    PCP_LISTS,
    PCP_ORDERS,
    PCP_THP_LIST,
    PCPTYPES,
    REPORT_WORDS,
    Z_LIST_BASE,
    ZONE_WORDS,
)
from pagesoak.base.layout import MOVABLE as MOVABLE_TYPE
from pagesoak.base.layout import PAGEBLOCK_ORDER as BLOCK_ORDER
from pagesoak.base.plan import SegmentPlan

Words = npt.NDArray[np.int64]
Records = npt.NDArray[np.int32]
Blocks = npt.NDArray[np.int8]


class GuestState(Protocol):
    """What a `Segment` and a `StateCopy` have in common."""

    @property
    def plan(self) -> SegmentPlan:
        """Sizes of the segment."""

    @property
    def kernel_rules(self) -> int:
        """The rules of the guest's kernel (`profile`)."""

    @property
    def zones(self) -> memoryview:
        """Zone records, 64-bit words."""

    @property
    def pagesets(self) -> memoryview:
        """Pageset records, 64-bit words."""

    @property
    def report(self) -> memoryview:
        """The reporting device and its scatterlist, 64-bit words."""

    @property
    def blocks(self) -> memoryview:
        """Type of each page block, bytes."""

    @property
    def pages(self) -> memoryview:
        """Page records and list heads, 32-bit words."""

    @property
    def cache(self) -> memoryview:
        """The page cache's slots, 32-bit words."""


class Arrays(NamedTuple):
    """The sections as arrays.

    `zones[zone, Z_*]`, `pagesets[cpu, zone, P_*]`, `report[R_*]`, `blocks[pfn >>
    PAGEBLOCK_ORDER]`, `pages[record, NEXT|PREVIOUS|STATE|SEQUENCE]` with the list heads from
    record `max_pfn` on.
    """

    zones: Words
    pagesets: Words
    report: Words
    blocks: Blocks
    pages: Records


def arrays_of(state: GuestState) -> Arrays:
    """The arrays that lie over a state's memory."""
    plan = state.plan
    return Arrays(
        np.frombuffer(state.zones, dtype=np.int64).reshape(plan.zones, ZONE_WORDS),
        np.frombuffer(state.pagesets, dtype=np.int64).reshape(
            plan.cpus, plan.zones, PAGESET_WORDS
        ),
        np.frombuffer(state.report, dtype=np.int64).reshape(REPORT_WORDS),
        np.frombuffer(state.blocks, dtype=np.int8),
        np.frombuffer(state.pages, dtype=np.int32).reshape(plan.max_pfn + plan.lists, PAGE_WORDS),
    )


class ListOf(NamedTuple):
    """A list: the record that heads it, and the order and type of its blocks.

    `migratetype` is -1 for the pageset list that holds whole page blocks of every type but
    movable.
    """

    head: int
    order: int
    migratetype: int


NOT_MOVABLE = -1


def free_list_head(arrays: Arrays, zone: int, order: int, migratetype: int) -> int:
    """The record that heads a free list."""
    return int(arrays.zones[zone, Z_LIST_BASE]) + order * MIGRATE_TYPES + migratetype


def free_lists_of(arrays: Arrays, zone: int) -> tuple[ListOf, ...]:
    """A zone's free lists, orders ascending, types ascending within."""
    return tuple(
        ListOf(free_list_head(arrays, zone, order, migratetype), order, migratetype)
        for order in range(MAX_ORDER)
        for migratetype in range(MIGRATE_TYPES)
    )


def pageset_lists_of(arrays: Arrays, cpu: int, zone: int) -> tuple[ListOf, ...]:
    """A pageset's lists in the order of their numbers."""
    base = int(arrays.pagesets[cpu, zone, P_LIST_BASE])
    return tuple(ListOf(base + index, *pageset_list_holds(index)) for index in range(PCP_LISTS))


def pageset_list_holds(index: int) -> tuple[int, int]:
    """Order and type of a pageset list's blocks (Linux 6.1 `order_to_pindex`, inverted)."""
    if index < PCP_ORDERS * PCPTYPES:
        return index // PCPTYPES, index % PCPTYPES
    return BLOCK_ORDER, NOT_MOVABLE if index == PCP_THP_LIST else MOVABLE_TYPE


class Walk(NamedTuple):
    """The records of a list from head to tail; `fault` says why the walk ended before its head."""

    members: "array[int]"
    fault: str | None = None


def walk_list(state: GuestState, head: int, members_max: int) -> Walk:
    """Follow a list's links, at most `members_max`; a broken one ends the walk, never raises."""
    words = state.pages
    pages_end = state.plan.max_pfn
    members = array("i")
    take = members.append
    record = words[head * PAGE_WORDS + NEXT]
    left = members_max
    while record != head:
        if not 0 <= record < pages_end:
            return Walk(members, f"leads to record {record}, which is no page")
        if left == 0:
            return Walk(members, f"does not come back to its head after {members_max} blocks")
        left -= 1
        take(record)
        record = words[record * PAGE_WORDS + NEXT]
    return Walk(members)
