"""What is to be done with a guest's state after the death of workers, while nobody is at work.

Two ways, and the audit says which. *Giving back*: the zone's own lists are in order. What the dead
had, what lay in their pagesets and what was on its way is found from the claims (`claims`) and
freed into the lists; nobody else notices. *Rebuilding*: a lock's holder died in the middle of a
change. Then no list is believed: all lists are emptied, and every page that nobody claims is
freed. Pages that are claimed stay where they are, with their contents, in either case.

Both work in place. Only who has the segment mapped could do harm meanwhile, and those are dead, or
at rest outside of every operation; a copy would be no safer, and every process, the daemon's
reader among them, would have to find the new one.

A process may die between the two words of a stamp, or before its page's record says that it is
there. One page for each of the dead may be torn so; its contents are made what its record says,
because it belongs to nobody. More than that is a breach.
"""

from array import array
from collections.abc import Collection
from typing import NamedTuple, Protocol

import numpy as np

from pagesoak.allocator.claims import (
    Claims,
    Mask,
    Pfns,
    covered_pages,
    find_claims,
    load_words,
    table_span,
)
from pagesoak.allocator.given_up import KIND_GIVEN_UP, NOT_FREED, free_given_up
from pagesoak.allocator.populate_parts import start_figures
from pagesoak.allocator.stamp import STAMP_MAGIC
from pagesoak.allocator.state_arrays import (
    Arrays,
    Words,
    arrays_of,
    free_lists_of,
    pageset_lists_of,
    walk_list,
)
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout import (
    BLOCK_MASK,
    H_FREE_PAGES_MIN,
    H_ISOLATED_PAGES_MAX,
    H_TOUCH,
    HIGHATOMIC,
    KIND_ALLOCATED,
    KIND_FREE,
    KIND_ISOLATED,
    KIND_MASK,
    KIND_RESERVED,
    L_CURSOR,
    L_EVENT_COUNT,
    L_HELD,
    L_HELD_PAGES,
    L_OWNER,
    LOAD_WORDS,
    MAX_ORDER,
    NEXT,
    ORDER_MASK,
    OWNER_MASK,
    OWNER_SHIFT,
    P_ALLOCATED,
    P_COUNT,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    PREVIOUS,
    SEQUENCE,
    STAMPED,
    STATE,
    Z_ALLOCATED_DIRECT,
    Z_BOOT_PAGES,
    Z_COUNTER_DRIFT,
    Z_END_PFN,
    Z_FREE_PAGES,
    Z_ISOLATED,
    Z_ISOLATED_MAX,
    Z_NR_FREE,
    Z_REPORTED,
    Z_RESERVED_HIGHATOMIC,
    Z_START_PFN,
)
from pagesoak.base.layout_kernel import Z_FREE_HIGHATOMIC, Z_RESERVE_OVERWRITTEN
from pagesoak.base.segment import Segment
from pagesoak.base.units import PAGE_SHIFT

STAMP_BYTES = 16
TORN_PAGES_EACH = 1
"""A worker stamps one page at a time."""


class Contents(Protocol):
    """The bytes of guest RAM."""

    def read(self, first_byte: int, length_bytes: int) -> bytes:
        """What is there."""

    def write(self, first_byte: int, contents: bytes) -> None:
        """Put something there."""


class Salvaged(NamedTuple):
    """Pages that came back, and those of them whose contents were torn."""

    pages: int
    torn: int


def give_back(
    segment: Segment, dead_cpus: Collection[int], claims: Claims, ram: Contents | None
) -> Salvaged:
    """Free what nobody has, into lists that are in order; the dead CPUs' pagesets are empty then.

    `ram` is None where nothing is touched. Raises HarnessError when more was lost than the
    dead can have torn.
    """
    arrays = arrays_of(segment)
    covered = claims.claimed | _of_kinds(segment, KIND_FREE, KIND_ISOLATED, KIND_RESERVED)
    for cpu in range(segment.plan.cpus):
        for zone in range(segment.plan.zones):
            if cpu in dead_cpus:
                _empty_pageset(arrays, cpu, zone)
            else:
                covered |= _in_pageset(segment, arrays, cpu, zone)
    spans = _spanned(segment, arrays)
    return _free_all(segment, spans & ~covered, ram, len(dead_cpus))


def rebuild(
    segment: Segment,
    claims: Claims,
    isolated: Collection[int],
    dead: int,
    ram: Contents | None,
) -> Salvaged:
    """Make all lists and counters anew; the blocks `isolated` stay with the host. The run's lowest
    figures begin anew as well. `dead` workers may each have torn a page.
    """
    arrays = arrays_of(segment)
    pages = arrays.pages[: segment.plan.max_pfn]
    away = np.array(sorted(isolated), dtype=np.int64)
    kept = claims.claimed | _of_kinds(segment, KIND_RESERVED) | covered_pages(pages, away)
    spans = _spanned(segment, arrays)
    free = _of_kinds(segment, KIND_FREE, KIND_ISOLATED)
    for zone, record in enumerate(arrays.zones):
        for place in free_lists_of(arrays, zone):
            _empty_list(arrays, place.head)
        record[Z_NR_FREE : Z_NR_FREE + MAX_ORDER] = 0
        for word in (Z_FREE_PAGES, Z_REPORTED, Z_FREE_HIGHATOMIC, Z_COUNTER_DRIFT):
            record[word] = 0
        inside = away[(away >= record[Z_START_PFN]) & (away < record[Z_END_PFN])]
        record[Z_ISOLATED] = int((1 << (pages[inside, STATE] & ORDER_MASK)).sum())
        record[Z_RESERVED_HIGHATOMIC] = _reserved(arrays, record)
        for cpu in range(segment.plan.cpus):
            _empty_pageset(arrays, cpu, zone)
    salvaged = _free_all(segment, spans & ~kept, ram, dead, trusted=free)
    for record in arrays.zones:
        record[Z_ISOLATED_MAX] = record[Z_ISOLATED]
        start_figures(record)
    segment.header[H_FREE_PAGES_MIN] = int(arrays.zones[:, Z_FREE_PAGES].sum())
    segment.header[H_ISOLATED_PAGES_MAX] = int(arrays.zones[:, Z_ISOLATED].sum())
    return salvaged


def mended_claims(segment: Segment, dead_loads: Collection[int]) -> Claims:
    """The claims of those that live, once their tables name their own blocks alone.

    A page of a load may have been moved when the compactor died, and its table not yet told; or
    given back by a reaper that died. The first takes the place of the old one, the other is left
    out.
    """
    claims = find_claims(segment, dead_loads)
    for load, places in claims.stale.items():
        _mend_table(segment, claims, load, places)
    return find_claims(segment, dead_loads) if claims.stale else claims


def _mend_table(segment: Segment, claims: Claims, load: int, places: list[int]) -> None:
    words = load_words(segment, load)
    pages = arrays_of(segment).pages[: segment.plan.max_pfn]
    own = (pages[:, STATE] & KIND_MASK == KIND_ALLOCATED) & (pages[:, PREVIOUS] == words[L_OWNER])
    moved = np.flatnonzero(own & ~claims.claimed).tolist()
    for place in places:
        segment.tables[place] = moved.pop() if moved else -1
    if words[L_EVENT_COUNT]:
        return
    first, end = table_span(words)
    left = [pfn for pfn in segment.tables[first:end].tolist() if pfn >= 0]
    segment.tables[first : first + len(left)] = memoryview(array("i", left))
    at = load * LOAD_WORDS
    segment.loads[at + L_HELD] = words[L_CURSOR] + len(left)
    if words[L_CURSOR] == 0:
        orders = pages[np.array(left, dtype=np.int64), STATE] & ORDER_MASK
        segment.loads[at + L_HELD_PAGES] = int((1 << orders).sum())


def _of_kinds(segment: Segment, *kinds: int) -> Mask:
    pages = arrays_of(segment).pages[: segment.plan.max_pfn]
    heads = np.flatnonzero(np.isin(pages[:, STATE] & KIND_MASK, kinds))
    return covered_pages(pages, heads)


def _spanned(segment: Segment, arrays: Arrays) -> Mask:
    spans = np.zeros(segment.plan.max_pfn, dtype=np.bool_)
    for record in arrays.zones:
        spans[record[Z_START_PFN] : record[Z_END_PFN]] = True
    return spans


def _in_pageset(segment: Segment, arrays: Arrays, cpu: int, zone: int) -> Mask:
    members: list[int] = []
    for place in pageset_lists_of(arrays, cpu, zone):
        members += walk_list(segment, place.head, segment.plan.max_pfn).members
    pages = arrays.pages[: segment.plan.max_pfn]
    return covered_pages(pages, np.array(members, dtype=np.int64))


def _empty_list(arrays: Arrays, head: int) -> None:
    arrays.pages[head, NEXT] = arrays.pages[head, PREVIOUS] = head


def _empty_pageset(arrays: Arrays, cpu: int, zone: int) -> None:
    for place in pageset_lists_of(arrays, cpu, zone):
        _empty_list(arrays, place.head)
    arrays.pagesets[cpu, zone, P_COUNT] = 0


def _reserved(arrays: Arrays, record: Words) -> int:
    first = int(record[Z_START_PFN]) >> PAGEBLOCK_ORDER
    end = ((int(record[Z_END_PFN]) - 1) >> PAGEBLOCK_ORDER) + 1
    blocks = int(np.count_nonzero(arrays.blocks[first:end] == HIGHATOMIC))
    return blocks * PAGEBLOCK_PAGES + int(record[Z_RESERVE_OVERWRITTEN])


def _free_all(
    segment: Segment,
    given_up: Mask,
    ram: Contents | None,
    dead: int,
    trusted: Mask | None = None,
) -> Salvaged:
    """Free these pages and make the counters of what is taken agree with the records; pages that
    are `trusted` to be as their records say are not looked at.
    """
    arrays = arrays_of(segment)
    looked_at = given_up if trusted is None else given_up & ~trusted
    torn = _mend_pages(segment, np.flatnonzero(looked_at), ram)
    if torn > dead * TORN_PAGES_EACH:
        raise HarnessError(f"{torn} pages of the dead do not hold what their records say")
    states = arrays.pages[: segment.plan.max_pfn, STATE]
    states[given_up] = (states[given_up] & ~BLOCK_MASK) | KIND_GIVEN_UP
    freed = 0
    for zone, record in enumerate(arrays.zones):
        pages = free_given_up(segment.base, segment.plan.cpus + 2, zone)
        if pages == NOT_FREED:
            raise HarnessError(f"zone {zone} cannot be had, although nobody is at work")
        freed += pages
        span = arrays.pages[record[Z_START_PFN] : record[Z_END_PFN], STATE]
        heads = span[span & KIND_MASK == KIND_ALLOCATED] & ORDER_MASK
        taken = int(np.left_shift(1, heads, dtype=np.int64).sum())
        through_pagesets = int(arrays.pagesets[:, zone, P_ALLOCATED].sum())
        record[Z_ALLOCATED_DIRECT] = taken - through_pagesets - int(record[Z_BOOT_PAGES])
    return Salvaged(freed, torn)


def _mend_pages(segment: Segment, pfns: Pfns, ram: Contents | None) -> int:
    """Make pages hold what their records say; how many did not."""
    if ram is None or not segment.header[H_TOUCH]:
        return 0
    torn = 0
    pages = arrays_of(segment).pages
    for pfn, state, sequence in zip(
        pfns.tolist(), pages[pfns, STATE].tolist(), pages[pfns, SEQUENCE].tolist(), strict=True
    ):
        expected = bytes(STAMP_BYTES)
        if state & STAMPED:
            owner = (state & OWNER_MASK) >> OWNER_SHIFT
            words = np.array([STAMP_MAGIC << 32 | pfn, owner << 32 | sequence], dtype=np.int64)
            expected = words.tobytes()
        place = pfn << PAGE_SHIFT
        if ram.read(place, STAMP_BYTES) != expected:
            ram.write(place, expected)
            torn += 1
    return torn
