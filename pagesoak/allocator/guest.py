"""What a guest CPU does in one go: bursts of operations that stay in compiled code.

A load keeps the blocks it holds in a table of its own. A burst runs until its goal is reached, its
time is up, or something needs a decision outside: a request that got nothing, the end of the run.
Every operation stamps, checks and counts as `stamp`, `page_alloc` and `statistics` say; nothing
here is decided by a clock but when to come back.
"""

from pagesoak.allocator.allocate import alloc_pages
from pagesoak.allocator.gfp import THP, USER_MOVABLE
from pagesoak.allocator.kswapd import run_kswapd
from pagesoak.allocator.pace import paced
from pagesoak.allocator.page_alloc import ABORTED, WAITING, total_pages
from pagesoak.allocator.page_free import release
from pagesoak.allocator.pageset import decay_pagesets
from pagesoak.allocator.stamp import touch_block
from pagesoak.allocator.vmstat import refresh_remote_pagesets
from pagesoak.base.clock import now_ns, time_is_up
from pagesoak.base.external import compare_exchange, store_release
from pagesoak.base.generator import exponential, random_below
from pagesoak.base.layout import (
    H_KSWAPD_WAKE,
    H_STARTED_AT_NS,
    H_STOP,
    H_TOUCH,
    L_CAPACITY,
    L_CURSOR,
    L_HELD,
    L_HELD_PAGES,
    L_ORDER,
    L_OWNER,
    L_RANDOM,
    L_TABLE,
    LOAD_WORDS,
    MOVABLE,
    NEXT,
    PAGE_WORDS,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    W_HEARTBEAT_NS,
    W_OPERATIONS,
    WORKER_WORDS,
    Z_FREE_PAGES,
    Z_ISOLATED,
    Core,
    open_core,
)
from pagesoak.base.layout_reclaim import L_BUSY, L_VICTIM
from pagesoak.base.layout_virtual import C_OPERATION, H_VIRTUAL, H_YIELD, W_CLOCK_NS
from pagesoak.base.native import entry, hot, inner
from pagesoak.base.recorder import BURST_END, record
from pagesoak.base.statistics import (
    BURSTS,
    BURSTS_KILLED,
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
WAITS = 5
"""A request waits for somebody else's pages: go on in a tick."""

NOT_DUE = 6
"""The next operation is not due within the burst."""

CLOCK_LOOKS_TOUCHING = 16
"""Operations between two looks at the clock when pages are touched: some microseconds each."""
CLOCK_LOOKS = 256
"""The same on metadata alone: some ten nanoseconds each."""
CLOCK_LOOKS_VIRTUAL = 1
"""A virtual clock is moved by each look, and costs next to nothing."""
NO_BLOCK = -1
"""In a table: nothing."""


@hot
def acquire(core: Core, cpu: int, order: int, migratetype: int, gfp: int, owner: int) -> int:
    """Take a block and touch every page of it; a pfn, or what `alloc_pages` says instead."""
    pfn = alloc_pages(core, cpu, order, migratetype, gfp, owner)
    if pfn >= 0:
        sequence = core.pages[pfn * PAGE_WORDS + NEXT]
        touch_block(core, cpu, pfn, order, owner, sequence)
    return pfn


@inner
def finish(core: Core, cpu: int, operations: int, reason: int) -> int:
    """End a burst: let kswapd run if it was woken, look at pagesets of other nodes, count the
    operations, beat, publish; returns the reason.
    """
    run_kswapd(core, cpu)
    now = now_ns(core, cpu)
    decay_pagesets(core, cpu, now)
    refresh_remote_pagesets(core, cpu, now)
    w = cpu * WORKER_WORDS
    core.workers[w + W_OPERATIONS] += operations
    core.workers[w + W_HEARTBEAT_NS] = now
    publish(core, cpu)
    return reason


@inner
def begin(core: Core, cpu: int, at: int) -> bool:
    """Take a load's table for a burst; False while somebody else reaps it."""
    return compare_exchange(core.loads, at + L_BUSY, 0, cpu + 1) == 0


@inner
def end_of(core: Core, cpu: int, at: int, operations: int, reason: int) -> int:
    """End a burst of a load: let go of its table, and say if its process has been killed."""
    if reason != STOPPED and core.loads[at + L_VICTIM] != 0:
        reason = OUT_OF_MEMORY
    store_release(core.loads, at + L_BUSY, 0)
    return finish(core, cpu, operations, reason)


@inner
def why_not(answer: int) -> int:
    """How a burst ends whose request got nothing: STOPPED, WAITS or OUT_OF_MEMORY."""
    if answer == ABORTED:
        return STOPPED
    return WAITS if answer == WAITING else OUT_OF_MEMORY


@inner
def clock_looks(core: Core) -> int:
    """Operations between two looks at the clock; a power of two."""
    if core.header[H_VIRTUAL] != 0:
        return CLOCK_LOOKS_VIRTUAL
    return CLOCK_LOOKS_TOUCHING if core.header[H_TOUCH] else CLOCK_LOOKS


@hot
def ends_now(core: Core, cpu: int, operations: int, looks: int, until_ns: int) -> int:
    """STOPPED, AGAIN, or DONE when the burst may go on; looks at the clock every so often. kswapd,
    once woken, has the CPU soon.
    """
    if core.header[H_STOP] | core.header[H_KSWAPD_WAKE] != 0:
        return STOPPED if core.header[H_STOP] != 0 else AGAIN
    if operations & (looks - 1) == looks - 1 and time_is_up(core, cpu, until_ns):
        return AGAIN
    return DONE


@hot
def ends_before(core: Core, cpu: int, due_ns: int, until_ns: int) -> int:
    """`ends_now` before an operation that has a time of its own, on a virtual clock: if that lies
    within the burst the clock is moved to it first, else NOT_DUE.

    One look at the clock does for `wait_within` and `time_is_up`: a replay asks for each request.
    """
    place = cpu * WORKER_WORDS + W_CLOCK_NS
    clock_ns = core.workers[place]
    yields = core.header[H_YIELD] != 0
    if clock_ns < due_ns:
        if due_ns >= until_ns or yields:
            return NOT_DUE
        clock_ns = due_ns
    if core.header[H_STOP] | core.header[H_KSWAPD_WAKE] != 0:
        core.workers[place] = clock_ns
        return STOPPED if core.header[H_STOP] != 0 else AGAIN
    if clock_ns >= until_ns or yields:
        return AGAIN
    core.workers[place] = clock_ns + core.header[C_OPERATION]
    return DONE


@entry
def take(base: int, cpu: int, load: int, pages: int, until_ns: int) -> int:
    """Take movable user pages until the load holds `pages`; with order 9, whole page blocks where
    it gets them.
    """
    core = open_core(base)
    at = load * LOAD_WORDS
    if not begin(core, cpu, at):
        return finish(core, cpu, 0, WAITS)
    owner = core.loads[at + L_OWNER]
    table = core.loads[at + L_TABLE]
    huge = core.loads[at + L_ORDER] == PAGEBLOCK_ORDER
    looks = clock_looks(core)
    operations = 0
    while core.loads[at + L_HELD_PAGES] < pages and core.loads[at + L_VICTIM] == 0:
        end = ends_now(core, cpu, operations, looks, until_ns)
        if end != DONE:
            return end_of(core, cpu, at, operations, end)
        if core.loads[at + L_HELD] >= core.loads[at + L_CAPACITY]:
            return end_of(core, cpu, at, operations, TABLE_FULL)
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
            return end_of(core, cpu, at, operations, why_not(pfn))
        core.tables[table + core.loads[at + L_HELD]] = pfn
        core.loads[at + L_HELD] += 1
        core.loads[at + L_HELD_PAGES] += 1 << order
    return end_of(core, cpu, at, operations, DONE)


@entry
def give_back(base: int, cpu: int, load: int, until_ns: int) -> int:
    """Give back all the load holds, in the order it was taken, as an unmapping does.

    OUT_OF_MEMORY instead of DONE says that its process had been killed: with nothing left it is
    over, and the load may start a new one.
    """
    core = open_core(base)
    at = load * LOAD_WORDS
    if not begin(core, cpu, at):
        return finish(core, cpu, 0, WAITS)
    owner = core.loads[at + L_OWNER]
    table = core.loads[at + L_TABLE]
    looks = clock_looks(core)
    operations = 0
    while core.loads[at + L_CURSOR] < core.loads[at + L_HELD]:
        end = ends_now(core, cpu, operations, looks, until_ns)
        if end != DONE:
            store_release(core.loads, at + L_BUSY, 0)
            return finish(core, cpu, operations, end)
        operations += 1
        pfn = core.tables[table + core.loads[at + L_CURSOR]]
        if release(core, cpu, pfn, owner) == ABORTED:
            return end_of(core, cpu, at, operations, STOPPED)
        core.loads[at + L_CURSOR] += 1
    core.loads[at + L_CURSOR] = 0
    core.loads[at + L_HELD] = 0
    core.loads[at + L_HELD_PAGES] = 0
    reason = DONE if core.loads[at + L_VICTIM] == 0 else OUT_OF_MEMORY
    core.loads[at + L_VICTIM] = 0
    store_release(core.loads, at + L_BUSY, 0)
    return finish(core, cpu, operations, reason)


@entry
def think_time(base: int, load: int, mean_ns: int, _until_ns: int) -> int:
    """An exponentially distributed pause, from the load's own generator, at its present pace."""
    core = open_core(base)
    at = load * LOAD_WORDS
    return paced(core, at, exponential(core.loads, at + L_RANDOM, mean_ns))


@entry
def vary(base: int, load: int, pages: int, percent: int, _until_ns: int) -> int:
    """`pages`, varied evenly by up to `percent` either way; at least 1."""
    core = open_core(base)
    span = 2 * percent + 1
    share = 100 - percent + random_below(core.loads, load * LOAD_WORDS + L_RANDOM, span)
    return max(pages * share // 100, 1)


@entry
def choose(base: int, load: int, choices: int, _until_ns: int) -> int:
    """One of so many choices, each as likely as any, from the load's own generator."""
    core = open_core(base)
    return random_below(core.loads, load * LOAD_WORDS + L_RANDOM, choices)


@entry
def free_pages_beyond(base: int, leave_pages: int, _until_ns: int) -> int:
    """Free pages of all zones above `leave_pages`; 0 when there are no more than that."""
    return max(total_pages(open_core(base), Z_FREE_PAGES) - leave_pages, 0)


@entry
def has_started(base: int, _until_ns: int) -> int:
    """1 when the soak's clock runs, 0 while the guest is brought into its starting state."""
    return int(open_core(base).header[H_STARTED_AT_NS] != 0)


@entry
def note_burst(base: int, cpu: int, load: int, kind: int, amount: int, _until_ns: int) -> int:
    """Put a burst's begin, full size or end on record, with the free and isolated pages of that
    moment; free pages.
    """
    core = open_core(base)
    free = total_pages(core, Z_FREE_PAGES)
    record(core, cpu, kind, load, amount, free, total_pages(core, Z_ISOLATED), 0)
    if kind == BURST_END:
        count(core, cpu, BURSTS, 1)
        count(core, cpu, BURSTS_KILLED, amount)
    publish(core, cpu)
    return free
