"""The audit's checks of counters, flags, buddies and scatterlist; lists: `audit_lists`.

Written from the rules, not from the code that keeps them: nothing of the core is used here but the
layout.
"""

import numpy as np

from pagesoak.allocator.audit_blocks import NO_ZONE, Breach, ZoneBlocks, breaches_at
from pagesoak.allocator.state_arrays import Arrays
from pagesoak.base.layout import (
    E_END,
    E_ORDER,
    E_PAGES,
    E_PFN,
    ENTRY_WORDS,
    KIND_ALLOCATED,
    KIND_FREE,
    KIND_ISOLATED,
    KIND_MASK,
    KIND_PAGESET,
    KIND_RESERVED,
    MAX_ORDER,
    MIGRATE_TYPES,
    ON_LRU,
    ORDER_MASK,
    OWNER_BOOT,
    OWNER_NOBODY,
    P_ALLOCATED,
    P_COUNT,
    PAGEBLOCK_ORDER,
    PCPTYPES,
    PREVIOUS,
    R_COUNT,
    R_ENTRIES,
    R_OFFSET,
    R_ORDER,
    R_REGISTERED,
    R_REQUEST,
    R_START,
    REPORTED,
    REPORTING_CAPACITY,
    TYPE_MASK,
    TYPE_SHIFT,
    Z_ALLOCATED_DIRECT,
    Z_BOOT_PAGES,
    Z_FREE_PAGES,
    Z_ISOLATED,
    Z_MANAGED,
    Z_REPORTED,
    Z_RESERVED,
)
from pagesoak.base.layout_kernel import Z_RESERVE_RELEASED


def _allocated(arrays: Arrays, zone: int) -> int:
    """Pages taken minus pages given back since the start, by the counters."""
    through_pagesets = int(arrays.pagesets[:, zone, P_ALLOCATED].sum())
    return through_pagesets + int(arrays.zones[zone, Z_ALLOCATED_DIRECT])


def check_conservation(arrays: Arrays, blocks: ZoneBlocks) -> list[Breach]:
    """No page is lost and none is made: the counters add up to the zone (see `populate`)."""
    record = arrays.zones[blocks.zone]
    terms = {
        "free": int(record[Z_FREE_PAGES]),
        "in pagesets": int(arrays.pagesets[:, blocks.zone, P_COUNT].sum()),
        "isolated": int(record[Z_ISOLATED]),
        "allocated": _allocated(arrays, blocks.zone),
        "boot": int(record[Z_BOOT_PAGES]),
        "reserved records": blocks.pages_of(KIND_RESERVED),
    }
    managed, reserved = int(record[Z_MANAGED]), int(record[Z_RESERVED])
    found = []
    if sum(terms.values()) != managed + reserved:
        text = " + ".join(f"{name} {pages}" for name, pages in terms.items())
        message = f"{text} = {sum(terms.values())}, not managed {managed} + reserved {reserved}"
        found.append(Breach("conservation", message, blocks.zone))
    if managed + reserved != blocks.end_pfn - blocks.start_pfn:
        message = (
            f"managed {managed} + reserved {reserved} is not the span of"
            f" {blocks.end_pfn - blocks.start_pfn} pages"
        )
        found.append(Breach("conservation", message, blocks.zone))
    return found


def check_counted(arrays: Arrays, blocks: ZoneBlocks) -> list[Breach]:
    """Each counter is what the page records add up to.

    A boot page that was given back counts as minus one in allocated, so these two are compared
    together; what still belongs to boot can only have become less.
    """
    record = arrays.zones[blocks.zone]
    reported = blocks.of_kind(KIND_FREE) & (blocks.state_at(blocks.heads) & REPORTED != 0)
    boot = int(record[Z_BOOT_PAGES])
    found = []
    for name, counter, pages in (
        ("free", int(record[Z_FREE_PAGES]), blocks.pages_of(KIND_FREE)),
        ("isolated", int(record[Z_ISOLATED]), blocks.pages_of(KIND_ISOLATED)),
        (
            "in pagesets",
            int(arrays.pagesets[:, blocks.zone, P_COUNT].sum()),
            blocks.pages_of(KIND_PAGESET),
        ),
        (
            "allocated and boot",
            _allocated(arrays, blocks.zone) + boot,
            blocks.pages_of(KIND_ALLOCATED),
        ),
        ("reported", int(record[Z_REPORTED]), int(blocks.pages[reported].sum())),
    ):
        if counter != pages:
            message = f"{name}: the counter says {counter} pages, the records {pages}"
            found.append(Breach("counted", message, blocks.zone))
    taken = blocks.heads[blocks.of_kind(KIND_ALLOCATED)]
    of_boot = taken[arrays.pages[taken, PREVIOUS] == OWNER_BOOT]
    left = int(np.left_shift(1, blocks.state_at(of_boot) & ORDER_MASK, dtype=np.int64).sum())
    if left > boot:
        message = f"boot: {boot} pages at the start, {left} now"
        found.append(Breach("counted", message, blocks.zone))
    return found


def check_flags(arrays: Arrays, blocks: ZoneBlocks) -> list[Breach]:
    """Known kinds and types; Reported only where it may be; taken blocks have an owner."""
    state = blocks.state_at(blocks.heads)
    free = blocks.of_kind(KIND_FREE)
    taken = blocks.of_kind(KIND_ALLOCATED)
    zone = blocks.zone
    unknown = blocks.kinds > KIND_RESERVED
    found = breaches_at(
        "flags",
        zone,
        blocks.heads[unknown],
        "the block at {pfn} is of no known kind",
    )
    typeless = (state & TYPE_MASK) >> TYPE_SHIFT >= MIGRATE_TYPES
    found += breaches_at(
        "flags",
        zone,
        blocks.heads[typeless],
        "the block at {pfn} is of no known type",
    )
    reported = np.flatnonzero(blocks.state & REPORTED) + blocks.start_pfn
    stale = blocks.state_at(reported) & KIND_MASK != KIND_FREE
    found += breaches_at(
        "flags",
        zone,
        reported[stale],
        "page {pfn} is Reported and begins no free block",
    )
    if arrays.report[R_REGISTERED] != 0:
        order_min = int(arrays.report[R_ORDER])
        small = free & (state & REPORTED != 0) & (blocks.orders < order_min)
        found += breaches_at(
            "flags",
            zone,
            blocks.heads[small],
            f"the block at {{pfn}} is Reported and below order {order_min}",
        )
    on_lru = ~taken & (state & ON_LRU != 0)
    found += breaches_at(
        "flags",
        zone,
        blocks.heads[on_lru],
        "the block at {pfn} is on the LRU but not taken",
    )
    heads = blocks.heads[taken]
    ownerless = heads[arrays.pages[heads, PREVIOUS] <= OWNER_NOBODY]
    found += breaches_at("flags", zone, ownerless, "the block at {pfn} is taken by nobody")
    return found


def check_buddies(arrays: Arrays, blocks: ZoneBlocks) -> list[Breach]:
    """No two free buddies of one order lie side by side: they would have merged.

    From page block size on they may, where types differ of which one must not be mixed
    (HIGHATOMIC, CMA, ISOLATE). The type of a block is that of its list, or of its page block:
    either may have been looked at. And a block that the HIGHATOMIC reserve gave back whole is not
    merged with its buddy: the kernel changes its list, and no more.
    """
    found = []
    free = blocks.of_kind(KIND_FREE)
    for order in range(MAX_ORDER - 1):
        size = 1 << order
        lower = blocks.heads[free & (blocks.orders == order)]
        lower = lower[(lower & size == 0) & (lower + size < blocks.end_pfn)]
        upper_state = blocks.state_at(lower + size)
        lower = lower[upper_state & (KIND_MASK | ORDER_MASK) == KIND_FREE | order]
        if order >= PAGEBLOCK_ORDER and len(lower):
            types = np.stack(
                [
                    (blocks.state_at(lower) & TYPE_MASK) >> TYPE_SHIFT,
                    (blocks.state_at(lower + size) & TYPE_MASK) >> TYPE_SHIFT,
                    arrays.blocks[lower >> PAGEBLOCK_ORDER].astype(np.int32),
                    arrays.blocks[(lower + size) >> PAGEBLOCK_ORDER].astype(np.int32),
                ]
            )
            apart = (types.max(axis=0) >= PCPTYPES) & (types.min(axis=0) != types.max(axis=0))
            released = int(arrays.zones[blocks.zone, Z_RESERVE_RELEASED])
            lower = lower[~apart][released:]
        text = f"the block at {{pfn}} and its buddy are free blocks of order {order}, not merged"
        found += breaches_at("buddies", blocks.zone, lower, text)
    return found


def check_scatterlist(arrays: Arrays, zones: list[ZoneBlocks]) -> list[Breach]:
    """Every isolated block is in exactly one entry in use, and every entry in use names one.

    In use are the entries from `R_OFFSET` on, and those of the request that is out. The last entry
    carries the end marker; it is looked at only while something is in use, because an empty list
    may be initialised without a lock.
    """
    report = arrays.report
    entries = report[R_ENTRIES:].reshape(REPORTING_CAPACITY, ENTRY_WORDS)
    offset = int(report[R_OFFSET])
    if not 0 <= offset <= REPORTING_CAPACITY:
        return [Breach("scatterlist", f"the offset is {offset}, of {REPORTING_CAPACITY} entries")]
    used = set(range(offset, REPORTING_CAPACITY))
    if report[R_REQUEST] != 0:
        start = int(report[R_START])
        used |= set(range(start, start + int(report[R_COUNT]))) & set(range(REPORTING_CAPACITY))
    found = []
    seen: dict[int, int] = {}
    for index in range(REPORTING_CAPACITY):
        pfn = int(entries[index, E_PFN])
        if index in used:
            found += _check_entry(arrays, zones, index, seen)
            seen.setdefault(pfn, index)
        elif pfn >= 0:
            message = f"entry {index} is not in use but names page {pfn:#x}"
            found.append(Breach("scatterlist", message, NO_ZONE, pfn))
    if used:
        marked = [int(index) for index in np.flatnonzero(entries[:, E_END])]
        if marked != [REPORTING_CAPACITY - 1]:
            message = f"the end marker is on entries {marked}, not on the last alone"
            found.append(Breach("scatterlist", message))
    for blocks in zones:
        isolated = blocks.heads[blocks.of_kind(KIND_ISOLATED)]
        lost = isolated[~np.isin(isolated, list(seen))]
        found += breaches_at(
            "scatterlist",
            blocks.zone,
            lost,
            "the isolated block at {pfn} is in no entry",
        )
        pages = sum(
            int(entries[index, E_PAGES]) for pfn, index in seen.items() if blocks.spans(pfn)
        )
        counter = int(arrays.zones[blocks.zone, Z_ISOLATED])
        if pages != counter:
            message = f"the entries name {pages} pages, {counter} are isolated"
            found.append(Breach("scatterlist", message, blocks.zone))
    return found


def _check_entry(
    arrays: Arrays, zones: list[ZoneBlocks], index: int, seen: dict[int, int]
) -> list[Breach]:
    """An entry in use names an isolated block that knows it, and no other entry does."""
    at = R_ENTRIES + index * ENTRY_WORDS
    pfn = int(arrays.report[at + E_PFN])
    order = int(arrays.report[at + E_ORDER])
    pages = int(arrays.report[at + E_PAGES])
    blocks = next((zone for zone in zones if zone.spans(pfn)), None)
    if blocks is None:
        message = f"entry {index} is in use but names no page of a zone ({pfn})"
        return [Breach("scatterlist", message)]
    messages = []
    state = int(blocks.state[pfn - blocks.start_pfn])
    if not 0 <= order < MAX_ORDER or state & (KIND_MASK | ORDER_MASK) != KIND_ISOLATED | order:
        messages.append(f"entry {index} names no isolated block of order {order} at {pfn:#x}")
    elif pages != 1 << order:
        messages.append(f"entry {index} says {pages} pages of order {order}")
    if pfn in seen:
        messages.append(f"entries {seen[pfn]} and {index} both name page {pfn:#x}")
    elif int(arrays.pages[pfn, PREVIOUS]) != index:
        messages.append(f"the block at {pfn:#x} does not know that it is in entry {index}")
    return [Breach("scatterlist", message, blocks.zone, pfn) for message in messages]
