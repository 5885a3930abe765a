"""The replay of recorded requests: each is made again, whatever page it gets this time.

A free names the recorded allocation, so the load's table maps allocation numbers to the pages that
this guest gave. Pages in use since the start are freed by page frame. A free that finds no such
page is counted, never a violation: the kernel leaves no event for some of what it takes.
"""

from pagesoak.allocator.buddy import block_state, set_block
from pagesoak.allocator.guest import (
    AGAIN,
    DONE,
    NO_BLOCK,
    NOT_DUE,
    acquire,
    clock_looks,
    ends_before,
    ends_now,
    finish,
    why_not,
)
from pagesoak.allocator.oom_wait import waits_already
from pagesoak.allocator.pace import due_ns, recorded_by_now, replay_speed_ppm
from pagesoak.allocator.page_alloc import ABORTED, WAITING
from pagesoak.allocator.page_free import free_pages, release, zone_of
from pagesoak.allocator.pageset_lock import enter_pageset, leave_pageset, pageset_at
from pagesoak.allocator.replay_word import (
    ALLOC,
    FREE_BOOT,
    request_detail,
    request_identity,
    request_opcode,
    request_order,
    request_type,
)
from pagesoak.allocator.stamp import verify_block
from pagesoak.base.layout import (
    H_STOP,
    KIND_ALLOCATED,
    KIND_MASK,
    L_CURSOR,
    L_DROPPED,
    L_EVENT_COUNT,
    L_EVENTS,
    L_HELD_PAGES,
    L_OWNER,
    L_TABLE,
    L_UNMATCHED_FREES,
    LOAD_WORDS,
    NEXT,
    ORDER_MASK,
    OWNER_BOOT,
    PAGE_WORDS,
    PREVIOUS,
    REPLAY_EVENT_WORDS,
    WORKER_WORDS,
    Core,
    open_core,
)
from pagesoak.base.layout_virtual import H_VIRTUAL, L_DUE_NS, W_CLOCK_NS
from pagesoak.base.native import entry, hot, inner
from pagesoak.base.statistics import REQUESTS_DROPPED, UNMATCHED_FREES, count

SPLIT_BLOCK = -2
"""In a replay's table, less the first pfn: a block that is being given back in parts."""


NONE_LEFT = -1
"""In place of the time of a replay's next request: all are made."""


@inner
def release_boot(core: Core, cpu: int, pfn: int, order: int) -> int:
    """Give back a block that was in use at the start: 2**order pages recorded one by one; 0,
    ABORTED or NO_BLOCK.

    NO_BLOCK: some of it is not in use since the start (any more); nothing was changed.
    """
    for page in range(pfn, pfn + (1 << order)):
        if (
            block_state(core.pages, page) & (KIND_MASK | ORDER_MASK) != KIND_ALLOCATED
            or core.pages[page * PAGE_WORDS + PREVIOUS] != OWNER_BOOT
        ):
            return NO_BLOCK
    verify_block(core, cpu, pfn, order)
    pageset = hold_still(core, cpu, pfn)
    if pageset < 0:
        return ABORTED
    for page in range(pfn + 1, pfn + (1 << order)):
        set_block(core.pages, page, 0)
    set_block(core.pages, pfn, KIND_ALLOCATED | order)
    leave_pageset(core, pageset)
    return free_pages(core, cpu, pfn, order)


@inner
def hold_still(core: Core, cpu: int, pfn: int) -> int:
    """Enter the CPU's pageset of a page's zone, so that nobody copies the state while taken blocks
    are reshaped; the pageset, or -1 when the run ends instead.
    """
    p = pageset_at(core, cpu, zone_of(core, pfn))
    while not enter_pageset(core, p):
        if core.header[H_STOP] != 0:
            return -1
    return p


@inner
def split_block(core: Core, cpu: int, pfn: int, order: int, into: int) -> bool:
    """Make a taken block several of a smaller order, each with the same owner and sequence
    (`split_page`).
    """
    pageset = hold_still(core, cpu, pfn)
    if pageset < 0:
        return False
    state = block_state(core.pages, pfn) & ~ORDER_MASK
    for part in range(1 << (order - into)):
        place = pfn + (part << into)
        set_block(core.pages, place, state | into)
        core.pages[place * PAGE_WORDS + NEXT] = core.pages[pfn * PAGE_WORDS + NEXT]
        core.pages[place * PAGE_WORDS + PREVIOUS] = core.pages[pfn * PAGE_WORDS + PREVIOUS]
    leave_pageset(core, pageset)
    return True


@inner
def replay_free_part(core: Core, cpu: int, at: int, slot: int, order: int, offset: int) -> int:
    """Free a part of a recorded allocation; 0, or ABORTED and it is to be made again.

    What the kernel frees in parts is split before the first.
    """
    start = core.tables[slot]
    if start > NO_BLOCK:
        held = block_state(core.pages, start) & ORDER_MASK
        if held > order:
            if not split_block(core, cpu, start, held, order):
                return ABORTED
            core.tables[slot] = SPLIT_BLOCK - start
    else:
        start = SPLIT_BLOCK - start
    pfn = start + offset
    if block_state(core.pages, pfn) & (KIND_MASK | ORDER_MASK) != KIND_ALLOCATED | order:
        core.loads[at + L_UNMATCHED_FREES] += 1
        count(core, cpu, UNMATCHED_FREES, 1)
        return 0
    if release(core, cpu, pfn, core.loads[at + L_OWNER]) == ABORTED:
        return ABORTED
    core.loads[at + L_HELD_PAGES] -= 1 << order
    return 0


@hot
def replay_free(
    core: Core, cpu: int, at: int, owner: int, slot: int, order: int, offset: int
) -> int:
    """Free a recorded allocation, or a part of it; 0, or ABORTED and it is to be made again.

    A request that got nothing has nothing to give back.
    """
    pfn = core.tables[slot]
    if pfn == NO_BLOCK:
        return 0
    if (
        offset != 0
        or pfn < NO_BLOCK
        or block_state(core.pages, pfn) & (KIND_MASK | ORDER_MASK) != KIND_ALLOCATED | order
    ):
        return replay_free_part(core, cpu, at, slot, order, offset)
    if release(core, cpu, pfn, owner) == ABORTED:
        return ABORTED
    core.tables[slot] = NO_BLOCK
    core.loads[at + L_HELD_PAGES] -= 1 << order
    return 0


@hot
def replay_one(core: Core, cpu: int, at: int, owner: int, table: int, word: int) -> int:
    """One recorded request; 0, or ABORTED or WAITING and it is to be made again."""
    opcode = request_opcode(word)
    identity = request_identity(word)
    order = request_order(word)
    if opcode == ALLOC:
        pfn = acquire(core, cpu, order, request_type(word), request_detail(word), owner)
        if pfn == ABORTED or (pfn == WAITING and waits_already(core, owner)):
            return pfn
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
    return replay_free(core, cpu, at, owner, table + identity, order, request_detail(word))


@entry
def replay(
    base: int, cpu: int, load: int, recorded_until_ns: int, idles: int, until_ns: int
) -> tuple[int, int]:
    """Make the recorded requests up to a time of the recording, or as they come to be due by the
    replay's speed; how it ended (DONE when nothing more is due), and when the next is due or -1.

    `idles`: the CPU has nothing else to do. Its virtual clock goes on to the next request by
    itself then, and the burst ends with AGAIN.
    """
    core = open_core(base)
    at = load * LOAD_WORDS
    owner = core.loads[at + L_OWNER]
    table = core.loads[at + L_TABLE]
    first = core.loads[at + L_CURSOR]
    left = core.loads[at + L_EVENT_COUNT] - first
    event = (core.loads[at + L_EVENTS] + first) * REPLAY_EVENT_WORDS
    began_ns = core.loads[at + L_DUE_NS]
    speed_ppm = replay_speed_ppm(core, at)
    waits = core.header[H_VIRTUAL] != 0 and speed_ppm != 0
    looks = clock_looks(core)
    operations = 0
    end = DONE
    while operations < left:
        recorded_ns = core.replay[event]
        if recorded_ns <= recorded_until_ns:
            end = ends_now(core, cpu, operations, looks, until_ns)
        elif waits:
            end = ends_before(core, cpu, due_ns(began_ns, speed_ppm, recorded_ns), until_ns)
        else:
            recorded_until_ns = recorded_by_now(core, cpu, at)
            if recorded_ns <= recorded_until_ns:
                continue
            end = NOT_DUE
        if end != DONE:
            break
        answer = replay_one(core, cpu, at, owner, table, core.replay[event + 1])
        if answer != 0:
            end = why_not(answer)
            break
        operations += 1
        event += REPLAY_EVENT_WORDS
    core.loads[at + L_CURSOR] = first + operations
    next_ns = NONE_LEFT
    if operations < left:
        next_ns = due_ns(began_ns, speed_ppm, core.replay[event])
    finish(core, cpu, operations, end)
    if end == NOT_DUE:
        end = DONE
        if idles != 0 and waits:
            core.workers[cpu * WORKER_WORDS + W_CLOCK_NS] = next_ns
            end = AGAIN
    return end, next_ns
