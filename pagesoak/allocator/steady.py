"""The steady load of a guest CPU: a random mix of allocations and frees around a target."""

from pagesoak.allocator.buddy import block_state
from pagesoak.allocator.gfp import ATOMIC, KERNEL, USER_MOVABLE
from pagesoak.allocator.guest import (
    DONE,
    OUT_OF_MEMORY,
    STOPPED,
    WAITS,
    acquire,
    begin,
    clock_looks,
    end_of,
    ends_now,
    finish,
)
from pagesoak.allocator.pace import next_slice
from pagesoak.allocator.page_alloc import ABORTED, KILLED, WAITING
from pagesoak.allocator.page_free import release
from pagesoak.base.generator import random_below
from pagesoak.base.layout import (
    L_ATOMIC_PERMILLE,
    L_CAPACITY,
    L_HELD,
    L_HELD_PAGES,
    L_OWNER,
    L_RANDOM,
    L_TABLE,
    L_TARGET_PAGES,
    L_WEIGHTS,
    LOAD_WORDS,
    MAX_ORDER,
    MOVABLE,
    ORDER_MASK,
    Core,
    open_core,
)
from pagesoak.base.layout_reclaim import L_VICTIM
from pagesoak.base.layout_virtual import L_SLICE_LEFT, L_SLICE_NS
from pagesoak.base.native import entry, inner

WEIGHT_UNIT = 1000
"""Cumulative weights of a steady load end here."""


@inner
def weighted(core: Core, at: int, first: int, choices: int) -> int:
    """A choice by the cumulative weights of a steady load."""
    value = random_below(core.loads, at + L_RANDOM, WEIGHT_UNIT)
    choice = 0
    while choice < choices - 1 and value >= core.loads[at + L_WEIGHTS + first + choice]:
        choice += 1
    return choice


@inner
def steady_take(core: Core, cpu: int, at: int) -> int:
    """One allocation of a steady load; what `alloc_pages` says."""
    order = weighted(core, at, 0, MAX_ORDER)
    migratetype = weighted(core, at, MAX_ORDER, 3)
    gfp = USER_MOVABLE if migratetype == MOVABLE else KERNEL
    if random_below(core.loads, at + L_RANDOM, WEIGHT_UNIT) < core.loads[at + L_ATOMIC_PERMILLE]:
        migratetype = 0
        gfp = ATOMIC
    pfn = acquire(core, cpu, order, migratetype, gfp, core.loads[at + L_OWNER])
    if pfn >= 0:
        core.tables[core.loads[at + L_TABLE] + core.loads[at + L_HELD]] = pfn
        core.loads[at + L_HELD] += 1
        core.loads[at + L_HELD_PAGES] += 1 << order
    return pfn


@inner
def steady_give(core: Core, cpu: int, at: int) -> int:
    """Give back one block chosen at random; 0 or ABORTED."""
    held = core.loads[at + L_HELD]
    table = core.loads[at + L_TABLE]
    chosen = random_below(core.loads, at + L_RANDOM, held)
    pfn = core.tables[table + chosen]
    order = block_state(core.pages, pfn) & ORDER_MASK
    if release(core, cpu, pfn, core.loads[at + L_OWNER]) == ABORTED:
        return ABORTED
    core.tables[table + chosen] = core.tables[table + held - 1]
    core.loads[at + L_HELD] = held - 1
    core.loads[at + L_HELD_PAGES] -= 1 << order
    return 0


@entry
def steady(base: int, cpu: int, load: int, operations_max: int, until_ns: int) -> int:
    """A random mix that takes three times of four while the load holds less than its target, and
    gives otherwise; at the load's pace: DONE when nothing more is due.
    """
    core = open_core(base)
    at = load * LOAD_WORDS
    if not begin(core, cpu, at):
        return finish(core, cpu, 0, WAITS)
    looks = clock_looks(core)
    paced = core.loads[at + L_SLICE_NS] != 0
    operations = 0
    while operations < operations_max and core.loads[at + L_VICTIM] == 0:
        slice_is_over = paced and core.loads[at + L_SLICE_LEFT] == 0
        if slice_is_over and not next_slice(core, cpu, at, until_ns):
            break
        end = ends_now(core, cpu, operations, looks, until_ns)
        if end != DONE:
            return end_of(core, cpu, at, operations, end)
        operations += 1
        core.loads[at + L_SLICE_LEFT] -= 1
        takes = random_below(core.loads, at + L_RANDOM, 4) != 0
        if core.loads[at + L_HELD_PAGES] >= core.loads[at + L_TARGET_PAGES]:
            takes = not takes
        full = core.loads[at + L_HELD] >= core.loads[at + L_CAPACITY]
        if (takes and not full) or core.loads[at + L_HELD] == 0:
            answer = steady_take(core, cpu, at)
        else:
            answer = steady_give(core, cpu, at)
        if answer == ABORTED:
            return end_of(core, cpu, at, operations, STOPPED)
        if answer == KILLED:
            return end_of(core, cpu, at, operations, OUT_OF_MEMORY)
        if answer == WAITING:
            return end_of(core, cpu, at, operations, WAITS)
    return end_of(core, cpu, at, operations, DONE)
