"""The load that reads and writes files: each access finds its page in the page cache, or brings it
there.

Pages come with `GFP_HIGHUSER_MOVABLE`; for a write without `__GFP_FS`, as a file system asks that
must not come back to itself. What reclaim took is read again. A page found in memory must hold
what was written when it came. The file system and the disk take no time of their own.
"""

from pagesoak.allocator.gfp import USER_MOVABLE, parse_packed_gfp
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
from pagesoak.allocator.lru_lock import lock_cache, unlock_cache
from pagesoak.allocator.pace import next_slice
from pagesoak.allocator.page_alloc import ABORTED, FAILED, KILLED, WAITING
from pagesoak.allocator.page_cache import ABSENT, cache_add, mark_accessed, slots_of
from pagesoak.allocator.stamp import verify_block
from pagesoak.allocator.writeback import mark_dirty, run_flusher, writer_is_held_up
from pagesoak.base.generator import random_below
from pagesoak.base.layout import (
    L_OWNER,
    L_RANDOM,
    LOAD_WORDS,
    MOVABLE,
    Core,
    open_core,
)
from pagesoak.base.layout_reclaim import (
    L_FILE_PAGES,
    L_FILE_POSITION,
    L_FIRST_SLOT,
    L_MLOCKED_PAGES,
    L_SEQUENTIAL,
    L_TMPFS_PAGES,
    L_VICTIM,
    L_WRITE_PERMILLE,
    LRU_INACTIVE,
    LRU_NONE,
    LRU_UNEVICTABLE,
    S_PFN,
    SLOT_WORDS,
)
from pagesoak.base.layout_virtual import L_SLICE_LEFT, L_SLICE_NS
from pagesoak.base.native import entry, inner
from pagesoak.base.statistics import CACHE_HITS, CACHE_MISSES, count

FILE_READ = USER_MOVABLE
FILE_WRITE = parse_packed_gfp("GFP_NOFS|__GFP_HIGHMEM|__GFP_MOVABLE")
PERMILLE = 1000
FLUSHER_LOOKS = 64
"""Accesses between two looks at what the flusher has to do."""
FOUND = 0


@inner
def bring_in(core: Core, cpu: int, slot: int, gfp: int, owner: int, lru: int) -> int:
    """Take a page for a slot that has none and enter it; FOUND, or what the request came to."""
    pfn = acquire(core, cpu, 0, MOVABLE, gfp, owner)
    if pfn < 0:
        return pfn
    if not lock_cache(core, cpu):
        return ABORTED
    cache_add(core, slots_of(core), slot, pfn, lru)
    unlock_cache(core)
    return FOUND


@inner
def find(core: Core, cpu: int, slot: int, writes: bool) -> int:
    """Use a page if it is in memory: FOUND, NO page (FAILED), WAITING for a writer that is held
    up, or ABORTED.
    """
    if not lock_cache(core, cpu):
        return ABORTED
    slots = slots_of(core)
    answer = FAILED
    if writes and writer_is_held_up(core, slots):
        run_flusher(core, cpu, slots)
        answer = WAITING
    elif slots[slot * SLOT_WORDS + S_PFN] != ABSENT:
        verify_block(core, cpu, slots[slot * SLOT_WORDS + S_PFN], 0)
        mark_accessed(core, slots, slot)
        if writes:
            mark_dirty(core, cpu, slots, slot)
        answer = FOUND
    unlock_cache(core)
    return answer


@inner
def access(core: Core, cpu: int, at: int, slot: int, writes: bool) -> int:
    """One access to a page of a file: FOUND, or what the request for its page came to."""
    answer = find(core, cpu, slot, writes)
    if answer == FOUND:
        count(core, cpu, CACHE_HITS, 1)
    if answer != FAILED:
        return answer
    gfp = FILE_WRITE if writes else FILE_READ
    answer = bring_in(core, cpu, slot, gfp, core.loads[at + L_OWNER], LRU_INACTIVE)
    if answer != FOUND:
        return answer
    count(core, cpu, CACHE_MISSES, 1)
    answer = find(core, cpu, slot, writes)
    return FOUND if answer == FAILED else answer


@inner
def next_page(core: Core, at: int) -> int:
    """The slot of the page that the load uses next."""
    pages = core.loads[at + L_FILE_PAGES]
    if core.loads[at + L_SEQUENTIAL] == 0:
        return core.loads[at + L_FIRST_SLOT] + random_below(core.loads, at + L_RANDOM, pages)
    position = core.loads[at + L_FILE_POSITION]
    core.loads[at + L_FILE_POSITION] = position + 1 if position + 1 < pages else 0
    return core.loads[at + L_FIRST_SLOT] + position


@inner
def look_after_writing(core: Core, cpu: int, operations: int) -> None:
    """Every so many accesses, what the flusher and the device have done."""
    if operations & (FLUSHER_LOOKS - 1) == 0 and lock_cache(core, cpu):
        run_flusher(core, cpu, slots_of(core))
        unlock_cache(core)


@entry
def files(base: int, cpu: int, load: int, operations_max: int, until_ns: int) -> int:
    """Read and write pages at the load's pace: DONE when nothing more is due, OUT_OF_MEMORY when
    the OOM killer takes the process (its files stay in memory).
    """
    core = open_core(base)
    at = load * LOAD_WORDS
    if not begin(core, cpu, at):
        return finish(core, cpu, 0, WAITS)
    looks = clock_looks(core)
    paced = core.loads[at + L_SLICE_NS] != 0
    operations = 0
    end = DONE
    while end == DONE and operations < operations_max and core.loads[at + L_VICTIM] == 0:
        slice_is_over = paced and core.loads[at + L_SLICE_LEFT] == 0
        if slice_is_over and not next_slice(core, cpu, at, until_ns):
            break
        end = ends_now(core, cpu, operations, looks, until_ns)
        if end != DONE:
            break
        look_after_writing(core, cpu, operations)
        operations += 1
        core.loads[at + L_SLICE_LEFT] -= 1
        writes = random_below(core.loads, at + L_RANDOM, PERMILLE)
        answer = access(
            core, cpu, at, next_page(core, at), writes < core.loads[at + L_WRITE_PERMILLE]
        )
        end = ended(answer)
    reason = end_of(core, cpu, at, operations, end)
    if reason == OUT_OF_MEMORY:
        core.loads[at + L_VICTIM] = 0
    return reason


@inner
def ended(answer: int) -> int:
    """How an access ends the burst, if it does."""
    if answer == ABORTED:
        return STOPPED
    if answer == KILLED:
        return OUT_OF_MEMORY
    return WAITS if answer == WAITING else DONE


@entry
def fill_files(base: int, cpu: int, load: int, until_ns: int) -> int:
    """Bring in what stays: the pages locked in memory, then those of tmpfs; DONE when they are."""
    core = open_core(base)
    at = load * LOAD_WORDS
    if not begin(core, cpu, at):
        return finish(core, cpu, 0, WAITS)
    slots = slots_of(core)
    mlocked = core.loads[at + L_MLOCKED_PAGES]
    pages = core.loads[at + L_FILE_PAGES]
    wanted = mlocked + core.loads[at + L_TMPFS_PAGES]
    looks = clock_looks(core)
    operations = 0
    end = DONE
    while end == DONE and core.loads[at + L_FILE_POSITION] < wanted:
        end = ends_now(core, cpu, operations, looks, until_ns)
        if end != DONE:
            break
        operations += 1
        position = core.loads[at + L_FILE_POSITION]
        lru = LRU_UNEVICTABLE if position < mlocked else LRU_NONE
        slot = core.loads[at + L_FIRST_SLOT] + position
        if position >= mlocked:
            slot += pages - mlocked
        if slots[slot * SLOT_WORDS + S_PFN] == ABSENT:
            answer = bring_in(core, cpu, slot, FILE_READ, core.loads[at + L_OWNER], lru)
            end = OUT_OF_MEMORY if answer == FAILED else ended(answer)
        if end == DONE:
            core.loads[at + L_FILE_POSITION] += 1
    if end == DONE:
        core.loads[at + L_FILE_POSITION] = 0
    return end_of(core, cpu, at, operations, end)
