"""What a guest CPU does in one go: bursts of operations that stay in compiled code.

A load keeps the blocks it holds in a table of its own. A burst runs until its goal is reached, its time is up, or
something needs a decision outside: a request that got nothing, the end of the run. Every operation stamps, checks and
counts as `stamp`, `page_alloc` and `statistics` say; nothing here is decided by a clock but when to come back.
"""

from pagesoak.allocator.buddy import block_state, set_block
from pagesoak.allocator.gfp import ATOMIC, KERNEL, THP, USER_MOVABLE
from pagesoak.allocator.page_alloc import (
    ABORTED,
    KILLED,
    alloc_pages,
    free_pages,
    run_kswapd,
    total_pages,
)
from pagesoak.allocator.replay_word import (
    ALLOC,
    FREE_BOOT,
    request_gfp,
    request_identity,
    request_opcode,
    request_order,
    request_type,
)
from pagesoak.allocator.stamp import FREED_NOT_TAKEN, breach, touch_block, verify_block
from pagesoak.base.external import monotonic_ns
from pagesoak.base.generator import exponential, random_below
from pagesoak.base.layout import (
    H_STOP,
    H_TOUCH,
    KIND_ALLOCATED,
    KIND_MASK,
    L_ATOMIC_PERMILLE,
    L_CAPACITY,
    L_CURSOR,
    L_DROPPED,
    L_EVENT_COUNT,
    L_EVENTS,
    L_HELD,
    L_HELD_PAGES,
    L_ORDER,
    L_OWNER,
    L_RANDOM,
    L_TABLE,
    L_TARGET_PAGES,
    L_UNMATCHED_FREES,
    L_WEIGHTS,
    LOAD_WORDS,
    MAX_ORDER,
    MOVABLE,
    NEXT,
    ORDER_MASK,
    OWNER_BOOT,
    PAGE_WORDS,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    PREVIOUS,
    REPLAY_EVENT_WORDS,
    W_HEARTBEAT_NS,
    W_OPERATIONS,
    WORKER_WORDS,
    Z_FREE_PAGES,
    Z_ISOLATED,
    Core,
    open_core,
)
from pagesoak.base.native import entry, inner
from pagesoak.base.recorder import BURST_END, record
from pagesoak.base.statistics import (
    BURSTS,
    BURSTS_KILLED,
    REQUESTS_DROPPED,
    UNMATCHED_FREES,
    count,
    publish,
)

DONE = 0
AGAIN = 1
"""Time is up and there is more to do."""
OUT_OF_MEMORY = 2
"""A request got nothing and the OOM killer takes the load's process."""
STOPPED = 3
"""The run is ending, or a zone is dead."""
TABLE_FULL = 4

CLOCK_LOOKS_TOUCHING = 16
"""Operations between two looks at the clock when pages are touched: some microseconds each."""
CLOCK_LOOKS = 256
"""The same on metadata alone: some ten nanoseconds each."""
NO_BLOCK = -1
WEIGHT_UNIT = 1000
"""Cumulative weights of a steady load end here."""


@inner
def acquire(core: Core, cpu: int, order: int, migratetype: int, gfp: int, owner: int) -> int:
    """Take a block and touch every page of it; a pfn, or what `alloc_pages` says instead."""
    pfn = alloc_pages(core, cpu, order, migratetype, gfp, owner)
    if pfn >= 0:
        sequence = core.pages[pfn * PAGE_WORDS + NEXT]
        touch_block(core, cpu, pfn, order, owner, sequence)
    return pfn


@inner
def release(core: Core, cpu: int, pfn: int, owner: int) -> int:
    """Check that the owner has the block and that its pages are as they were left, then give it back; 0 or ABORTED."""
    state = block_state(core.pages, pfn)
    order = state & ORDER_MASK
    holder = core.pages[pfn * PAGE_WORDS + PREVIOUS]
    if state & KIND_MASK != KIND_ALLOCATED or holder != owner:
        breach(core, cpu, pfn, FREED_NOT_TAKEN, owner, state, holder)
        return 0
    verify_block(core, cpu, pfn, order)
    return free_pages(core, cpu, pfn, order)


@inner
def finish(core: Core, cpu: int, operations: int, reason: int) -> int:
    """End a burst: let kswapd run if it was woken, count the operations, beat, publish; returns the reason."""
    run_kswapd(core, cpu)
    w = cpu * WORKER_WORDS
    core.workers[w + W_OPERATIONS] += operations
    core.workers[w + W_HEARTBEAT_NS] = monotonic_ns()
    publish(core, cpu)
    return reason


@inner
def clock_looks(core: Core) -> int:
    """Operations between two looks at the clock; a power of two."""
    return CLOCK_LOOKS_TOUCHING if core.header[H_TOUCH] else CLOCK_LOOKS


@inner
def ends_now(core: Core, cpu: int, operations: int, looks: int, until_ns: int) -> int:
    """STOPPED, AGAIN, or DONE when the burst may go on; looks at the clock every so often."""
    if core.header[H_STOP] != 0:
        return STOPPED
    if operations & (looks - 1) == looks - 1 and monotonic_ns() >= until_ns:
        return AGAIN
    return DONE


@entry
def take(base: int, cpu: int, load: int, pages: int, until_ns: int) -> int:
    """Take movable user pages until the load holds `pages`; with order 9, whole page blocks where it gets them."""
    core = open_core(base)
    at = load * LOAD_WORDS
    owner = core.loads[at + L_OWNER]
    table = core.loads[at + L_TABLE]
    huge = core.loads[at + L_ORDER] == PAGEBLOCK_ORDER
    looks = clock_looks(core)
    operations = 0
    while core.loads[at + L_HELD_PAGES] < pages:
        end = ends_now(core, cpu, operations, looks, until_ns)
        if end != DONE:
            return finish(core, cpu, operations, end)
        if core.loads[at + L_HELD] >= core.loads[at + L_CAPACITY]:
            return finish(core, cpu, operations, TABLE_FULL)
        operations += 1
        missing = pages - core.loads[at + L_HELD_PAGES]
        order = 0
        pfn = NO_BLOCK
        if huge and missing >= PAGEBLOCK_PAGES and missing & (PAGEBLOCK_PAGES - 1) == 0:
            order = PAGEBLOCK_ORDER
            pfn = acquire(core, cpu, order, MOVABLE, THP, owner)
        if pfn == NO_BLOCK:
            order = 0
            pfn = acquire(core, cpu, order, MOVABLE, USER_MOVABLE, owner)
        if pfn < 0:
            return finish(core, cpu, operations, STOPPED if pfn == ABORTED else OUT_OF_MEMORY)
        core.tables[table + core.loads[at + L_HELD]] = pfn
        core.loads[at + L_HELD] += 1
        core.loads[at + L_HELD_PAGES] += 1 << order
    return finish(core, cpu, operations, DONE)


@entry
def give_back(base: int, cpu: int, load: int, until_ns: int) -> int:
    """Give back all the load holds, in the order it was taken, as an unmapping does."""
    core = open_core(base)
    at = load * LOAD_WORDS
    owner = core.loads[at + L_OWNER]
    table = core.loads[at + L_TABLE]
    looks = clock_looks(core)
    operations = 0
    while core.loads[at + L_CURSOR] < core.loads[at + L_HELD]:
        end = ends_now(core, cpu, operations, looks, until_ns)
        if end != DONE:
            return finish(core, cpu, operations, end)
        operations += 1
        pfn = core.tables[table + core.loads[at + L_CURSOR]]
        if release(core, cpu, pfn, owner) == ABORTED:
            return finish(core, cpu, operations, STOPPED)
        core.loads[at + L_CURSOR] += 1
    core.loads[at + L_CURSOR] = 0
    core.loads[at + L_HELD] = 0
    core.loads[at + L_HELD_PAGES] = 0
    return finish(core, cpu, operations, DONE)


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
    """A random mix that takes three times of four while the load holds less than its target, and gives otherwise."""
    core = open_core(base)
    at = load * LOAD_WORDS
    looks = clock_looks(core)
    operations = 0
    while operations < operations_max:
        end = ends_now(core, cpu, operations, looks, until_ns)
        if end != DONE:
            return finish(core, cpu, operations, end)
        operations += 1
        takes = random_below(core.loads, at + L_RANDOM, 4) != 0
        if core.loads[at + L_HELD_PAGES] >= core.loads[at + L_TARGET_PAGES]:
            takes = not takes
        full = core.loads[at + L_HELD] >= core.loads[at + L_CAPACITY]
        if (takes and not full) or core.loads[at + L_HELD] == 0:
            answer = steady_take(core, cpu, at)
        else:
            answer = steady_give(core, cpu, at)
        if answer == ABORTED:
            return finish(core, cpu, operations, STOPPED)
        if answer == KILLED:
            return finish(core, cpu, operations, OUT_OF_MEMORY)
    return finish(core, cpu, operations, DONE)


@inner
def release_boot(core: Core, cpu: int, pfn: int, order: int) -> int:
    """Give back a block that was in use at the start: 2**order pages recorded one by one; 0, ABORTED or NO_BLOCK.

    NO_BLOCK: some of it is not in use since the start (any more); nothing was changed.
    """
    for page in range(pfn, pfn + (1 << order)):
        if (
            block_state(core.pages, page) & (KIND_MASK | ORDER_MASK) != KIND_ALLOCATED
            or core.pages[page * PAGE_WORDS + PREVIOUS] != OWNER_BOOT
        ):
            return NO_BLOCK
    verify_block(core, cpu, pfn, order)
    for page in range(pfn, pfn + (1 << order)):
        set_block(core.pages, page, 0)
    set_block(core.pages, pfn, KIND_ALLOCATED | order)
    return free_pages(core, cpu, pfn, order)


@inner
def replay_one(core: Core, cpu: int, at: int, word: int) -> int:
    """One recorded request; 0, or ABORTED and it is to be made again."""
    owner = core.loads[at + L_OWNER]
    table = core.loads[at + L_TABLE]
    opcode = request_opcode(word)
    identity = request_identity(word)
    order = request_order(word)
    if opcode == ALLOC:
        pfn = acquire(core, cpu, order, request_type(word), request_gfp(word), owner)
        if pfn == ABORTED:
            return ABORTED
        core.tables[table + identity] = pfn if pfn >= 0 else NO_BLOCK
        if pfn >= 0:
            core.loads[at + L_HELD_PAGES] += 1 << order
        else:
            core.loads[at + L_DROPPED] += 1
            count(core, cpu, REQUESTS_DROPPED, 1)
        return 0
    if opcode == FREE_BOOT:
        answer = release_boot(core, cpu, identity, order)
        if answer == NO_BLOCK:
            core.loads[at + L_UNMATCHED_FREES] += 1
            count(core, cpu, UNMATCHED_FREES, 1)
            return 0
        return answer
    pfn = core.tables[table + identity]
    if pfn == NO_BLOCK:
        return 0
    held = 1 << (block_state(core.pages, pfn) & ORDER_MASK)
    if release(core, cpu, pfn, owner) == ABORTED:
        return ABORTED
    core.tables[table + identity] = NO_BLOCK
    core.loads[at + L_HELD_PAGES] -= held
    return 0


@entry
def replay(base: int, cpu: int, load: int, recorded_until_ns: int, until_ns: int) -> int:
    """Make the recorded requests up to a time of the recording; DONE when there are none left up to then."""
    core = open_core(base)
    at = load * LOAD_WORDS
    looks = clock_looks(core)
    operations = 0
    events = core.loads[at + L_EVENTS]
    while core.loads[at + L_CURSOR] < core.loads[at + L_EVENT_COUNT]:
        event = (events + core.loads[at + L_CURSOR]) * REPLAY_EVENT_WORDS
        if core.replay[event] > recorded_until_ns:
            break
        end = ends_now(core, cpu, operations, looks, until_ns)
        if end != DONE:
            return finish(core, cpu, operations, end)
        if replay_one(core, cpu, at, core.replay[event + 1]) == ABORTED:
            return finish(core, cpu, operations, STOPPED)
        core.loads[at + L_CURSOR] += 1
        operations += 1
    return finish(core, cpu, operations, DONE)


@entry
def think_time(base: int, load: int, mean_ns: int, until_ns: int) -> int:
    """An exponentially distributed pause, from the load's own generator."""
    core = open_core(base)
    return exponential(core.loads, load * LOAD_WORDS + L_RANDOM, mean_ns)


@entry
def vary(base: int, load: int, pages: int, percent: int, until_ns: int) -> int:
    """`pages`, varied evenly by up to `percent` either way; at least 1."""
    core = open_core(base)
    span = 2 * percent + 1
    share = 100 - percent + random_below(core.loads, load * LOAD_WORDS + L_RANDOM, span)
    return max(pages * share // 100, 1)


@entry
def free_pages_beyond(base: int, leave_pages: int, until_ns: int) -> int:
    """Free pages of all zones above `leave_pages`; 0 when there are no more than that."""
    return max(total_pages(open_core(base), Z_FREE_PAGES) - leave_pages, 0)


@entry
def next_request_ns(base: int, load: int, until_ns: int) -> int:
    """Recorded time of a replay's next request; -1 when all are made."""
    core = open_core(base)
    at = load * LOAD_WORDS
    if core.loads[at + L_CURSOR] >= core.loads[at + L_EVENT_COUNT]:
        return -1
    event = core.loads[at + L_EVENTS] + core.loads[at + L_CURSOR]
    return core.replay[event * REPLAY_EVENT_WORDS]


@entry
def note_burst(base: int, cpu: int, load: int, kind: int, amount: int, until_ns: int) -> int:
    """Put a burst's begin, full size or end on record, with the free and isolated pages of that moment; free pages."""
    core = open_core(base)
    free = total_pages(core, Z_FREE_PAGES)
    record(core, cpu, kind, load, amount, free, total_pages(core, Z_ISOLATED), 0)
    if kind == BURST_END:
        count(core, cpu, BURSTS, 1)
        count(core, cpu, BURSTS_KILLED, amount)
    publish(core, cpu)
    return free
