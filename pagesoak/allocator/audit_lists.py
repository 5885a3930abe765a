"""The audit's checks of linked lists: links, members, lengths, nobody left out."""

from typing import NamedTuple

import numpy as np

from pagesoak.allocator.audit_blocks import Breach, Mask, ZoneBlocks, breaches_at
from pagesoak.allocator.state_arrays import (
    NOT_MOVABLE,
    Arrays,
    GuestState,
    ListOf,
    Records,
    arrays_of,
    free_lists_of,
    pageset_lists_of,
    walk_list,
)
from pagesoak.base.layout import (
    HIGHATOMIC,
    KIND_FREE,
    KIND_MASK,
    KIND_PAGESET,
    MAX_ORDER,
    MOVABLE,
    ORDER_MASK,
    P_COUNT,
    PREVIOUS,
    TYPE_MASK,
    TYPE_SHIFT,
    Z_NR_FREE,
)


class _Listed(NamedTuple):
    """Blocks reached on one list, and what is wrong with it."""

    pfns: Records
    breaches: list[Breach]


def check_lists(state: GuestState, blocks: ZoneBlocks) -> list[Breach]:
    """`list-links` and `list-length` of a zone: its free lists and its pagesets."""
    arrays = arrays_of(state)
    listed: Mask = np.zeros(len(blocks.state), dtype=np.bool_)
    found = _check_free_lists(state, arrays, blocks, listed)
    for cpu in range(state.plan.cpus):
        found += _check_pageset(state, arrays, blocks, cpu, listed)
    for kind, name in ((KIND_FREE, "free list"), (KIND_PAGESET, "pageset")):
        heads = blocks.heads[blocks.of_kind(kind)]
        lost = heads[~listed[heads - blocks.start_pfn]]
        found += breaches_at(
            "list-links",
            blocks.zone,
            lost,
            f"the block at {{pfn}} is of a {name} but on none of its lists",
        )
    return found


def _check_free_lists(
    state: GuestState, arrays: Arrays, blocks: ZoneBlocks, listed: Mask
) -> list[Breach]:
    found = []
    lengths = [0] * MAX_ORDER
    for place in free_lists_of(arrays, blocks.zone):
        name = f"the free list of order {place.order}, type {place.migratetype},"
        walked = _check_list(state, arrays, blocks, place, KIND_FREE, name)
        lengths[place.order] += len(walked.pfns)
        found += walked.breaches
        _mark(listed, blocks, walked.pfns)
    for order, length in enumerate(lengths):
        counter = int(arrays.zones[blocks.zone, Z_NR_FREE + order])
        if counter != length:
            message = f"nr_free of order {order} is {counter}, its lists hold {length} blocks"
            found.append(Breach("list-length", message, blocks.zone))
    return found


def _check_pageset(
    state: GuestState, arrays: Arrays, blocks: ZoneBlocks, cpu: int, listed: Mask
) -> list[Breach]:
    found = []
    pages = 0
    for number, place in enumerate(pageset_lists_of(arrays, cpu, blocks.zone)):
        name = f"list {number} of CPU {cpu}'s pageset"
        walked = _check_list(state, arrays, blocks, place, KIND_PAGESET, name)
        pages += len(walked.pfns) << place.order
        found += walked.breaches
        _mark(listed, blocks, walked.pfns)
    counter = int(arrays.pagesets[cpu, blocks.zone, P_COUNT])
    if counter != pages:
        message = f"the count of CPU {cpu}'s pageset is {counter}, its lists hold {pages} pages"
        found.append(Breach("list-length", message, blocks.zone))
    return found


def _mark(listed: Mask, blocks: ZoneBlocks, pfns: Records) -> None:
    inside = pfns[(pfns >= blocks.start_pfn) & (pfns < blocks.end_pfn)]
    listed[inside - blocks.start_pfn] = True


def _check_list(
    state: GuestState,
    arrays: Arrays,
    blocks: ZoneBlocks,
    place: ListOf,
    kind: int,
    name: str,
) -> _Listed:
    """Walk one list; it always ends: no list is longer than its kind has blocks."""
    zone = blocks.zone
    walk = walk_list(state, place.head, int(np.count_nonzero(blocks.of_kind(kind))))
    if not walk.members and walk.fault is None:
        if arrays.pages[place.head, PREVIOUS] == place.head:
            return _Listed(np.empty(0, dtype=np.int32), [])
        message = f"{name} is empty from its head, but not from its tail"
        return _Listed(np.empty(0, dtype=np.int32), [Breach("list-links", message, zone)])
    pfns = np.array(walk.members, dtype=np.int32)
    found = []
    if walk.fault is not None:
        found.append(Breach("list-links", f"{name} {walk.fault}", zone))
    before = np.concatenate([np.array([place.head], dtype=np.int32), pfns[:-1]])
    found += breaches_at(
        "list-links",
        zone,
        pfns[arrays.pages[pfns, PREVIOUS] != before],
        f"in {name} the block at {{pfn}} does not link back to the one before it",
    )
    if walk.fault is None and arrays.pages[place.head, PREVIOUS] != pfns[-1]:
        found.append(Breach("list-links", f"{name} has another tail than its last block", zone))
    found += breaches_at(
        "list-links",
        zone,
        pfns[~_belongs(blocks, place, kind, pfns)],
        f"the block at {{pfn}} does not belong in {name} where it is",
    )
    return _Listed(pfns, found)


def _belongs(blocks: ZoneBlocks, place: ListOf, kind: int, pfns: Records) -> Mask:
    """Which blocks are of the list's zone, kind, order and type."""
    inside = (pfns >= blocks.start_pfn) & (pfns < blocks.end_pfn)
    places = np.where(inside, pfns - blocks.start_pfn, 0)
    state = blocks.state[places]
    types = (state & TYPE_MASK) >> TYPE_SHIFT
    fits = types != MOVABLE if place.migratetype == NOT_MOVABLE else types == place.migratetype
    if kind == KIND_PAGESET and place.migratetype == MOVABLE:
        fits |= types == HIGHATOMIC
    return np.asarray(
        inside & fits & (state & (KIND_MASK | ORDER_MASK) == kind | place.order), dtype=np.bool_
    )
