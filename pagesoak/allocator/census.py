"""Where the pages of each zone are, all at one moment: a count that adds up.

Taken from the copy that an audit is made of (`audit_copy`): every lock was held for it, so its
counters belong together, as those of a guest that runs never do for who reads them one by one. No
term is computed from the others: each is a counter of its own, and free blocks are counted where
their records stand.
"""

from typing import NamedTuple

import numpy as np

from pagesoak.allocator.audit_blocks import zone_blocks
from pagesoak.allocator.state_arrays import GuestState, arrays_of
from pagesoak.base.layout import (
    KIND_FREE,
    MAX_ORDER,
    MIGRATE_TYPES,
    P_ALLOCATED,
    P_COUNT,
    TYPE_MASK,
    TYPE_SHIFT,
    Z_ALLOCATED_DIRECT,
    Z_BOOT_PAGES,
    Z_FREE_PAGES,
    Z_INDEX,
    Z_ISOLATED,
    Z_MANAGED,
    Z_NODE,
)


class ZoneCensus(NamedTuple):
    """The pages of one zone. `in_use_pages` are those of loads, page cache, kernel and boot.

    free + pageset + isolated + in use = managed.
    """

    node: int
    zone_index: int
    managed_pages: int
    free_pages: int
    pageset_pages: int
    isolated_pages: int
    in_use_pages: int
    free_blocks: tuple[tuple[int, ...], ...]
    """By order, then by migratetype."""


def census(state: GuestState) -> tuple[ZoneCensus, ...]:
    """Count every zone of a state that does not change meanwhile."""
    arrays = arrays_of(state)
    found = []
    for zone in range(state.plan.zones):
        record = arrays.zones[zone]
        pagesets = arrays.pagesets[:, zone]
        taken = int(pagesets[:, P_ALLOCATED].sum()) + int(record[Z_ALLOCATED_DIRECT])
        blocks = zone_blocks(arrays, zone)
        free = blocks.of_kind(KIND_FREE)
        heads = blocks.heads[free]
        types = (blocks.state_at(heads) & TYPE_MASK) >> TYPE_SHIFT
        places = blocks.orders[free] * MIGRATE_TYPES + types
        counts = np.bincount(places, minlength=MAX_ORDER * MIGRATE_TYPES)
        by_order = counts[: MAX_ORDER * MIGRATE_TYPES].reshape(MAX_ORDER, MIGRATE_TYPES)
        found.append(
            ZoneCensus(
                int(record[Z_NODE]),
                int(record[Z_INDEX]),
                int(record[Z_MANAGED]),
                int(record[Z_FREE_PAGES]),
                int(pagesets[:, P_COUNT].sum()),
                int(record[Z_ISOLATED]),
                taken + int(record[Z_BOOT_PAGES]),
                tuple(tuple(map(int, row)) for row in by_order),
            )
        )
    return tuple(found)
