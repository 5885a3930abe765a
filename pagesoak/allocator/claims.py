"""Who has which page, by what the loads themselves hold: their tables, and the page cache's slots.

A page's record says who took it, but a process that is killed between two stores leaves records
that nobody stands behind. So a block counts as *claimed* only when its record says that it is in
use and its holder knows of it: a load that lives has it in its table, the page cache has it in a
slot, or it is in use since boot. What is marked as in use and claimed by nobody is lost; what a
table names and the records do not is *stale*.

To be asked while no worker is at work: in the middle of an operation tables and records differ.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pagesoak.allocator.replay import SPLIT_BLOCK
from pagesoak.allocator.state_arrays import Records, arrays_of
from pagesoak.base.layout import (
    KIND_ALLOCATED,
    KIND_MASK,
    L_CAPACITY,
    L_CPU,
    L_CURSOR,
    L_EVENT_COUNT,
    L_HELD,
    L_OWNER,
    L_TABLE,
    LOAD_WORDS,
    MAX_ORDER,
    ORDER_MASK,
    OWNER_BOOT,
    OWNER_FIRST_LOAD,
    PREVIOUS,
    STATE,
)
from pagesoak.base.layout_reclaim import CACHE_FIRST_SLOT, S_PFN, SLOT_WORDS
from pagesoak.base.segment import Segment

Mask = npt.NDArray[np.bool_]
Pfns = npt.NDArray[np.int64]


class Claims(NamedTuple):
    """`claimed`: for each page whether it lies in a claimed block. `stale`: by load, the places of
    its table that name no block of its own.
    """

    claimed: Mask
    stale: dict[int, list[int]]


def load_words(segment: Segment, load: int) -> list[int]:
    """The record of a load."""
    return segment.loads[load * LOAD_WORDS : (load + 1) * LOAD_WORDS].tolist()


def loads_of(segment: Segment, cpus: Collection[int]) -> list[int]:
    """The loads that run on these CPUs."""
    return [load for load in range(segment.plan.loads) if load_words(segment, load)[L_CPU] in cpus]


def table_span(words: list[int]) -> tuple[int, int]:
    """Where in the tables a load's present blocks lie: the first place, and the one behind the
    last.
    """
    table = words[L_TABLE]
    if words[L_EVENT_COUNT]:
        return table, table + words[L_CAPACITY]
    return table + words[L_CURSOR], table + words[L_HELD]


def find_claims(segment: Segment, dead_loads: Collection[int] = ()) -> Claims:
    """The claims of all but the `dead_loads`."""
    arrays = arrays_of(segment)
    max_pfn = segment.plan.max_pfn
    pages = arrays.pages[:max_pfn]
    taken = pages[:, STATE] & KIND_MASK == KIND_ALLOCATED
    heads = [np.flatnonzero(taken & (pages[:, PREVIOUS] == OWNER_BOOT))]
    tables = np.frombuffer(segment.tables, dtype=np.int32)
    stale = {}
    for load in range(segment.plan.loads):
        words = load_words(segment, load)
        first, end = table_span(words)
        if load in dead_loads or end <= first:
            continue
        own = taken & (pages[:, PREVIOUS] == words[L_OWNER])
        named = tables[first:end].astype(np.int64)
        whole = named >= 0
        places = np.flatnonzero(whole)
        inside = named[whole] < max_pfn
        good = np.zeros(len(places), dtype=np.bool_)
        good[inside] = own[named[whole][inside]]
        heads.append(named[places[good]])
        if not good.all():
            stale[load] = [int(place) + first for place in places[~good]]
        for start in SPLIT_BLOCK - named[named <= SPLIT_BLOCK]:
            part = own[start : start + (1 << (MAX_ORDER - 1))]
            heads.append(np.flatnonzero(part) + start)
    heads.append(_cached(segment, pages, taken))
    return Claims(covered_pages(pages, np.concatenate(heads)), stale)


def _cached(segment: Segment, pages: Records, taken: Mask) -> Pfns:
    """Pages in the page cache: they outlive the process that brought them in."""
    if segment.plan.cache_slots == 0:
        return np.empty(0, dtype=np.int64)
    slots = np.frombuffer(segment.cache, dtype=np.int32).reshape(-1, SLOT_WORDS)
    pfns = slots[CACHE_FIRST_SLOT:, S_PFN].astype(np.int64)
    pfns = pfns[(pfns >= 0) & (pfns < segment.plan.max_pfn)]
    own = taken[pfns] & (pages[pfns, PREVIOUS] >= OWNER_FIRST_LOAD)
    return np.asarray(pfns[own], dtype=np.int64)


def covered_pages(pages: Records, heads: Pfns) -> Mask:
    """For each page whether it lies in one of the blocks that begin at `heads`."""
    edges = np.zeros(len(pages) + 1, dtype=np.int64)
    ends = heads + np.left_shift(1, pages[heads, STATE] & ORDER_MASK, dtype=np.int64)
    np.add.at(edges, heads, 1)
    np.add.at(edges, np.minimum(ends, len(pages)), -1)
    return np.cumsum(edges[:-1]) > 0


def lost_pages(segment: Segment) -> int:
    """Pages that are marked as in use and have nobody who knows of them."""
    pages = arrays_of(segment).pages[: segment.plan.max_pfn]
    heads = np.flatnonzero(pages[:, STATE] & KIND_MASK == KIND_ALLOCATED)
    return int(np.count_nonzero(covered_pages(pages, heads) & ~find_claims(segment).claimed))
