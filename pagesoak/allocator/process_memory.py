"""A process's anonymous memory: a region that is mapped, touched page by page, and unmapped.

What a process takes and gives back is more than its pages. Every 2 MiB of addresses that it
touches need a page table, an unmovable page of the kernel's. With huge pages on, 2 MiB that lie
whole in the region come as one block where there is one; its page table is put by until the block
goes. Where in its first 2 MiB the region begins is the address space layout's choice, drawn anew
for each process: so a region of 100 MiB has 49 huge pages and 512 small ones, or 50 and none.

Unmapping gathers pages before it frees any: 8 in a bundle on the stack, then batches of 510, each
in a page allocated for it (GFP_NOWAIT), 19 at most; when there is no room for more, all are freed,
batch after batch, and gathering goes on; before 6.9 each batch from its last page to its first.
Page tables go last, then the pages of the batches. The recordings show these runs
(tests/recordings/FACTS.md, 8).

Tables hold what a load has: the region's blocks in the order of their addresses from the front,
page tables and batches from the back.

Models Linux 6.1 `mm/memory.c` (`do_anonymous_page`, `zap_pte_range`), `mm/huge_memory.c`
(`do_huge_pmd_anonymous_page`, `zap_huge_pmd`), `mm/mmu_gather.c` (`tlb_next_batch`,
`tlb_batch_pages_flush`) and `mm/swap.c` (`release_pages`: its list is a stack).
"""

from pagesoak.allocator.gfp import KERNEL, NOWAIT, THP, USER_MOVABLE
from pagesoak.allocator.guest import (
    DONE,
    NO_BLOCK,
    OUT_OF_MEMORY,
    STOPPED,
    TABLE_FULL,
    WAITS,
    acquire,
    clock_looks,
    end_of,
    ends_now,
    finish,
    why_not,
)
from pagesoak.allocator.page_alloc import ABORTED
from pagesoak.allocator.page_free import release
from pagesoak.allocator.profile import FREED_IN_ORDER, kernel_has
from pagesoak.base.clock import spend
from pagesoak.base.external import compare_exchange, store_release
from pagesoak.base.generator import random_below
from pagesoak.base.layout import (
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
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    UNMOVABLE,
    Core,
    open_core,
)
from pagesoak.base.layout_process import (
    L_BATCHES,
    L_FREED,
    L_GATHER_END,
    L_OFFSET,
    L_PAGE_TABLES,
)
from pagesoak.base.layout_reclaim import L_BUSY, L_VICTIM
from pagesoak.base.layout_virtual import C_PAGE_TOUCH
from pagesoak.base.native import entry, inner

BUNDLE_BLOCKS = 8
"""Room in the gather itself (MMU_GATHER_BUNDLE)."""
BATCH_BLOCKS = 510
"""Pointers in a page beside two words of its own (MAX_GATHER_BATCH)."""
BATCHES_MAX = 19
"""Batches of one gather (MAX_GATHER_BATCH_COUNT: 10 000 pages over the room of one)."""
PAGE_TABLES_SPARE = 2
"""A region that does not begin at a 2 MiB boundary touches one page table more than fit in it."""


def table_words(pages: int) -> int:
    """Words of a table for a region of so many pages, its page tables and its batches."""
    return pages + pages // PAGEBLOCK_PAGES + PAGE_TABLES_SPARE + BATCHES_MAX


@entry
def place_region(base: int, load: int, aligned: int, _until_ns: int) -> int:
    """Choose where a new process's regions begin: the page within 2 MiB, 0 if `aligned`."""
    core = open_core(base)
    at = load * LOAD_WORDS
    offset = 0
    if aligned == 0:
        offset = random_below(core.loads, at + L_RANDOM, PAGEBLOCK_PAGES)
    core.loads[at + L_OFFSET] = offset
    return offset


@inner
def touched(core: Core, cpu: int, pages: int) -> None:
    """The time of touching pages, where their contents are not kept (`stamp` counts it where they
    are): a page fault is what makes a process take a page.
    """
    if core.header[H_TOUCH] == 0:
        spend(core, cpu, C_PAGE_TOUCH, pages)


@inner
def take_kernel_page(core: Core, cpu: int, at: int, gfp: int) -> int:
    """A page for the kernel on behalf of a load, kept at the back of its table; its pfn, or what
    `alloc_pages` says instead.
    """
    pfn = acquire(core, cpu, 0, UNMOVABLE, gfp, core.loads[at + L_OWNER])
    if pfn >= 0:
        kept = core.loads[at + L_PAGE_TABLES] + core.loads[at + L_BATCHES]
        core.tables[core.loads[at + L_TABLE] + core.loads[at + L_CAPACITY] - 1 - kept] = pfn
    return pfn


@inner
def enter(core: Core, cpu: int, at: int) -> bool:
    """Take a load's table, or go on with it; False while somebody else reaps it.

    Unlike `guest.begin`: who unmaps keeps the table until all is freed, as an unmapping keeps the
    address space, because what is gathered is in nobody's order but its own.
    """
    holder = compare_exchange(core.loads, at + L_BUSY, 0, cpu + 1)
    return holder in (0, cpu + 1)


@inner
def take_next(core: Core, cpu: int, at: int, pages: int) -> int:
    """Take the next block of a region, with the page table it needs; its order, or what
    `alloc_pages` says instead.
    """
    words = core.loads
    order = 0
    pfn = NO_BLOCK
    place = words[at + L_OFFSET] + words[at + L_HELD_PAGES]
    missing = pages - words[at + L_HELD_PAGES]
    whole = place & (PAGEBLOCK_PAGES - 1) == 0 and missing >= PAGEBLOCK_PAGES
    if whole and words[at + L_ORDER] == PAGEBLOCK_ORDER:
        pfn = acquire(core, cpu, PAGEBLOCK_ORDER, MOVABLE, THP, words[at + L_OWNER])
        if pfn >= 0:
            order = PAGEBLOCK_ORDER
    if (place >> PAGEBLOCK_ORDER) >= words[at + L_PAGE_TABLES] and pfn != ABORTED:
        got = take_kernel_page(core, cpu, at, KERNEL)
        if got < 0:
            if pfn >= 0:
                release(core, cpu, pfn, words[at + L_OWNER])
            return got
        words[at + L_PAGE_TABLES] += 1
    if pfn == NO_BLOCK:
        pfn = acquire(core, cpu, 0, MOVABLE, USER_MOVABLE, words[at + L_OWNER])
    if pfn < 0:
        return pfn
    core.tables[words[at + L_TABLE] + words[at + L_HELD]] = pfn
    words[at + L_HELD] += 1
    words[at + L_HELD_PAGES] += 1 << order
    touched(core, cpu, 1 << order)
    return order


@entry
def touch_region(base: int, cpu: int, load: int, pages: int, until_ns: int) -> int:
    """Touch a region of `pages` pages from its first on, as far as it is not yet; DONE, or why
    not.
    """
    core = open_core(base)
    at = load * LOAD_WORDS
    words = core.loads
    if not enter(core, cpu, at):
        return finish(core, cpu, 0, WAITS)
    looks = clock_looks(core)
    operations = 0
    while words[at + L_HELD_PAGES] < pages and words[at + L_VICTIM] == 0:
        end = ends_now(core, cpu, operations, looks, until_ns)
        if end != DONE:
            return end_of(core, cpu, at, operations, end)
        if words[at + L_HELD] + words[at + L_PAGE_TABLES] + 1 >= words[at + L_CAPACITY]:
            return end_of(core, cpu, at, operations, TABLE_FULL)
        operations += 1
        got = take_next(core, cpu, at, pages)
        if got < 0:
            return end_of(core, cpu, at, operations, why_not(got))
    return end_of(core, cpu, at, operations, DONE)


@inner
def gather(core: Core, cpu: int, at: int) -> bool:
    """Gather blocks from `L_CURSOR` on, up to `L_GATHER_END`, where the region ends or there is no
    room for more; False when the run ends.
    """
    words = core.loads
    start = words[at + L_CURSOR]
    room = BUNDLE_BLOCKS + words[at + L_BATCHES] * BATCH_BLOCKS
    while start + room < words[at + L_HELD] and words[at + L_BATCHES] < BATCHES_MAX:
        got = take_kernel_page(core, cpu, at, NOWAIT)
        if got == ABORTED:
            return False
        if got < 0:
            break
        words[at + L_BATCHES] += 1
        room += BATCH_BLOCKS
    words[at + L_GATHER_END] = min(start + room, words[at + L_HELD])
    return True


@inner
def gathered_place(start: int, end: int, number: int) -> int:
    """Which block is freed as number `number` of those gathered from `start` to `end`."""
    first = start
    size = BUNDLE_BLOCKS
    if number >= BUNDLE_BLOCKS:
        batch = (number - BUNDLE_BLOCKS) // BATCH_BLOCKS
        first = start + BUNDLE_BLOCKS + batch * BATCH_BLOCKS
        size = BATCH_BLOCKS
    last = min(first + size, end) - 1
    return last - (start + number - first)


@inner
def free_next(core: Core, cpu: int, at: int) -> bool:
    """Free the next block of the gather, or the next page of the kernel's once all of them are;
    False when the run ends.
    """
    words = core.loads
    number = words[at + L_FREED]
    place = words[at + L_TABLE]
    begin = words[at + L_CURSOR]
    if begin == words[at + L_HELD]:
        place += words[at + L_CAPACITY] - 1 - number
    elif kernel_has(core, FREED_IN_ORDER):
        place += begin + number
    else:
        place += gathered_place(begin, words[at + L_GATHER_END], number)
    words[at + L_FREED] += 1
    return release(core, cpu, core.tables[place], words[at + L_OWNER]) != ABORTED


@entry
def unmap_region(base: int, cpu: int, load: int, until_ns: int) -> int:
    """Unmap all of a load's region, page tables included; DONE, or why not yet.

    OUT_OF_MEMORY instead of DONE says that its process had been killed: with nothing left it is
    over, and the load may start a new one. `L_CURSOR` is where the present gather begins.
    """
    core = open_core(base)
    at = load * LOAD_WORDS
    words = core.loads
    if not enter(core, cpu, at):
        return finish(core, cpu, 0, WAITS)
    looks = clock_looks(core)
    operations = 0
    while True:
        begin = words[at + L_CURSOR]
        if words[at + L_GATHER_END] == 0 and not gather(core, cpu, at):
            return end_of(core, cpu, at, operations, STOPPED)
        gathered = words[at + L_GATHER_END] - begin
        if begin == words[at + L_HELD]:
            gathered = words[at + L_PAGE_TABLES] + words[at + L_BATCHES]
        while words[at + L_FREED] < gathered:
            reason = ends_now(core, cpu, operations, looks, until_ns)
            if reason != DONE:
                return finish(core, cpu, operations, reason)
            operations += 1
            if not free_next(core, cpu, at):
                return end_of(core, cpu, at, operations, STOPPED)
        words[at + L_FREED] = 0
        words[at + L_CURSOR] = words[at + L_GATHER_END]
        words[at + L_GATHER_END] = 0
        if begin == words[at + L_HELD]:
            break
    for word in (L_CURSOR, L_HELD, L_HELD_PAGES, L_PAGE_TABLES, L_BATCHES):
        words[at + word] = 0
    reason = DONE if words[at + L_VICTIM] == 0 else OUT_OF_MEMORY
    words[at + L_VICTIM] = 0
    store_release(words, at + L_BUSY, 0)
    return finish(core, cpu, operations, reason)
