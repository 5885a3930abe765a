"""The slow path of an allocation, from the min watermark up to the OOM killer.

Models Linux 6.1 `mm/page_alloc.c`: `__alloc_pages_slowpath`, `gfp_to_alloc_flags`,
`__gfp_pfmemalloc_flags`, `__alloc_pages_direct_reclaim`, `should_reclaim_retry`,
`__alloc_pages_may_oom`. The rounds of this path take no time where nothing can be reclaimed, in
the kernel as here: pages that are isolated for a report count nowhere, so the path runs through to
its end while the report lasts.

Where the kernel would go round until somebody else frees something (a process is dying on another
CPU, the request may kill nobody, it may not fail), the request comes back as WAITING and is made
again a tick later.
"""

from pagesoak.allocator.attribution import (
    EXHAUSTED,
    ISOLATED,
    cause_of_failure,
    note_request,
    note_stall,
)
from pagesoak.allocator.buddy import NO_PAGE
from pagesoak.allocator.compact_zone import DEFERRED, SKIPPED, compaction_defer_reset
from pagesoak.allocator.compaction import (
    NO_RETRY,
    PRIORITY_ASYNC,
    PRIORITY_SYNC_LIGHT,
    should_compact_retry,
    try_to_compact_pages,
)
from pagesoak.allocator.demand import note_cut_off
from pagesoak.allocator.gfp import (
    GFP_DIRECT_RECLAIM,
    GFP_KSWAPD_RECLAIM,
    GFP_MEMALLOC,
    GFP_NOFAIL,
    GFP_NOMEMALLOC,
    GFP_NORETRY,
    GFP_RETRY_MAYFAIL,
    GFP_THISNODE,
    GFP_ZONE_SHIFT,
    ZONE_NORMAL,
)
from pagesoak.allocator.highatomic import unreserve_highatomic
from pagesoak.allocator.kswapd import wake_all_kswapds
from pagesoak.allocator.oom import NOBODY, PROGRESS, WAIT, is_victim, out_of_memory
from pagesoak.allocator.oom_wait import waits_already, waits_for_report
from pagesoak.allocator.page_alloc import (
    ABORTED,
    FAILED,
    KILLED,
    WAITING,
    get_page_from_freelist,
    unusable_zones,
)
from pagesoak.allocator.page_free import zone_of
from pagesoak.allocator.pageset import drain_all_pagesets
from pagesoak.allocator.profile import RESERVE_BEFORE_OOM, kernel_has
from pagesoak.allocator.reclaim import direct_reclaim, zone_reclaimable_pages
from pagesoak.allocator.watermark import (
    ALLOC_KSWAPD,
    ALLOC_NO_WATERMARKS,
    ALLOC_OOM,
    WMARK_HIGH,
    WMARK_MIN,
    gfp_to_alloc_flags,
    pages_suffice,
    wmark_pages,
    zone_has_block,
)
from pagesoak.allocator.zonelist import zone_allowed
from pagesoak.base import recorder
from pagesoak.base.clock import now_ns
from pagesoak.base.layout import (
    H_CPUS,
    H_ZONES,
    MOVABLE,
    Z_FREE_PAGES,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.native import inner
from pagesoak.base.statistics import FAILURES_ISOLATED, FALLBACKS, STALL, count, observe

COSTLY_ORDER = 3
"""Larger requests never kill (PAGE_ALLOC_COSTLY_ORDER)."""
RECLAIM_RETRIES_MAX = 16
"""Fruitless rounds before the slow path gives up (MAX_RECLAIM_RETRIES)."""
CHANCES_MAX = 16
"""How often a request that failed is made again because it would be served now: a window has
closed between the attempt and the look at its cause. As many as there are other CPUs to free.
"""
NO_PROGRESS = -5
"""Of the last step: no page, and no kill for this request."""
AGAIN = -6
"""Of the last step: somebody was killed, begin again."""


@inner
def reserve_flags(core: Core, gfp: int, owner: int) -> int:
    """Rights of those on whose way memory comes back; 0 for everybody else
    (`__gfp_pfmemalloc_flags`).
    """
    if gfp & GFP_NOMEMALLOC:
        return 0
    if gfp & GFP_MEMALLOC:
        return ALLOC_NO_WATERMARKS
    return ALLOC_OOM if is_victim(core, owner) else 0


@inner
def attempt(
    core: Core, cpu: int, order: int, migratetype: int, gfp: int, alloc_flags: int, owner: int
) -> int:
    """One attempt of the slow path: a page, NO_PAGE, or ABORTED where NO_PAGE says nothing."""
    pfn = get_page_from_freelist(core, cpu, order, migratetype, gfp, alloc_flags, owner)
    if pfn == NO_PAGE and unusable_zones(core):
        return ABORTED
    return pfn


@inner
def compact_and_attempt(
    core: Core,
    cpu: int,
    order: int,
    migratetype: int,
    gfp: int,
    alloc_flags: int,
    owner: int,
    priority: int,
) -> tuple[int, int]:
    """Direct compaction, and an attempt if it did anything (`__alloc_pages_direct_compact`): a
    page or NO_PAGE, and how compaction ended.
    """
    result = try_to_compact_pages(core, cpu, order, migratetype, gfp, alloc_flags, priority)
    if result == SKIPPED:
        return NO_PAGE, result
    pfn = attempt(core, cpu, order, migratetype, gfp, alloc_flags, owner)
    if pfn >= 0:
        compaction_defer_reset(core, zone_of(core, pfn), order, True)
    return pfn, result


@inner
def attempt_after_reclaim(
    core: Core, cpu: int, order: int, migratetype: int, gfp: int, alloc_flags: int, owner: int
) -> int:
    """After reclaim made progress: an attempt, and another one once the HIGHATOMIC reserve gave
    way and all pagesets are empty, which may hold just what is missing.
    """
    pfn = attempt(core, cpu, order, migratetype, gfp, alloc_flags, owner)
    if pfn != NO_PAGE:
        return pfn
    unreserve_highatomic(core, cpu, migratetype, gfp, False)
    drain_all_pagesets(core, cpu, core.header[H_CPUS])
    return attempt(core, cpu, order, migratetype, gfp, alloc_flags, owner)


@inner
def should_reclaim_retry(
    core: Core,
    cpu: int,
    order: int,
    migratetype: int,
    gfp: int,
    alloc_flags: int,
    no_progress_loops: int,
) -> bool:
    """Whether another round is worth it: some zone would serve the request if all that is
    reclaimable in it were free, and the rounds are not used up. Isolated pages stand in no term of
    that sum.

    The HIGHATOMIC reserve is given up before this says no; in older releases only when the rounds
    are used up.
    """
    highest = gfp >> GFP_ZONE_SHIFT
    if no_progress_loops <= RECLAIM_RETRIES_MAX:
        for zone in range(core.header[H_ZONES]):
            if not zone_allowed(core, cpu, zone, gfp):
                continue
            available = core.zones[zone * ZONE_WORDS + Z_FREE_PAGES]
            available += zone_reclaimable_pages(core, zone)
            mark = wmark_pages(core, zone, WMARK_MIN)
            if pages_suffice(core, zone, order, mark, highest, alloc_flags, available) and (
                order == 0 or zone_has_block(core, zone, order, alloc_flags)
            ):
                return True
        if not kernel_has(core, RESERVE_BEFORE_OOM):
            return False
    return unreserve_highatomic(core, cpu, migratetype, gfp, True)


@inner
def may_oom(gfp: int, order: int) -> bool:
    """Whether the OOM killer is for this request (`__alloc_pages_may_oom`)."""
    if order > COSTLY_ORDER or gfp & (GFP_RETRY_MAYFAIL | GFP_THISNODE):
        return False
    return gfp >> GFP_ZONE_SHIFT >= ZONE_NORMAL


@inner
def may_wait(gfp: int, order: int) -> bool:
    """Whether a request whose rounds are over goes on to the last chance and the OOM killer."""
    if gfp & GFP_DIRECT_RECLAIM == 0 or gfp & GFP_NORETRY:
        return False
    return order <= COSTLY_ORDER or gfp & GFP_RETRY_MAYFAIL != 0


@inner
def alloc_pages_may_oom(
    core: Core, cpu: int, order: int, migratetype: int, gfp: int, owner: int, cause: int
) -> int:
    """The last chance, at the high mark (with boost), then the OOM killer: a page, AGAIN,
    NO_PROGRESS, KILLED, WAITING or ABORTED.
    """
    pfn = attempt(core, cpu, order, migratetype, gfp, WMARK_HIGH, owner)
    if pfn != NO_PAGE:
        return pfn
    if not may_oom(gfp, order):
        return NO_PROGRESS
    answer = WAIT
    if not waits_for_report(core, cpu, order, gfp, owner):
        answer = out_of_memory(core, cpu, order, gfp, owner, cause)
    if answer == ABORTED:
        return ABORTED
    if answer == WAIT:
        return WAITING
    if answer == NOBODY:
        return KILLED
    return AGAIN if answer == PROGRESS else NO_PROGRESS


@inner
def give_up(core: Core, cpu: int, order: int, gfp: int, cause: int) -> int:
    """Count a request that fails under what it is, a fallback or a failure; FAILED."""
    if gfp & GFP_NORETRY:
        count(core, cpu, FALLBACKS, 1)
        return FAILED
    count(core, cpu, FAILURES_ISOLATED + cause, 1)
    if cause == ISOLATED:
        note_cut_off(core, cpu)
    note_request(core, cpu, recorder.ALLOCATION_FAILED, order, gfp, cause)
    return FAILED


@inner
def attempts_of_round(
    core: Core,
    cpu: int,
    order: int,
    migratetype: int,
    gfp: int,
    alloc_flags: int,
    owner: int,
    priority: int,
    progress: int,
) -> tuple[int, int]:
    """What a round tries once it has reclaimed: a page, ABORTED or NO_PAGE, and how compaction
    ended.
    """
    pfn, compacted = NO_PAGE, SKIPPED
    if progress > 0:
        pfn = attempt_after_reclaim(core, cpu, order, migratetype, gfp, alloc_flags, owner)
    if pfn == NO_PAGE and order > 0:
        return compact_and_attempt(
            core, cpu, order, migratetype, gfp, alloc_flags, owner, priority
        )
    return pfn, compacted


@inner
def reclaim_rounds(
    core: Core, cpu: int, order: int, migratetype: int, gfp: int, alloc_flags: int, owner: int
) -> int:
    """Reclaim and try until it is no longer worth it: a page, ABORTED, or NO_PAGE."""
    no_progress_loops = 0
    retries = 0
    costly = order > COSTLY_ORDER
    priority = PRIORITY_SYNC_LIGHT
    if costly and gfp & GFP_NORETRY:
        priority = PRIORITY_ASYNC
    while True:
        progress = direct_reclaim(core, cpu, gfp, owner)
        pfn, compacted = attempts_of_round(
            core, cpu, order, migratetype, gfp, alloc_flags, owner, priority, progress
        )
        if pfn != NO_PAGE or gfp & GFP_NORETRY or (costly and gfp & GFP_RETRY_MAYFAIL == 0):
            return pfn
        no_progress_loops = 0 if progress > 0 and not costly else no_progress_loops + 1
        if not should_reclaim_retry(
            core, cpu, order, migratetype, gfp, alloc_flags, no_progress_loops
        ):
            if progress == 0:
                return NO_PAGE
            priority, retries = should_compact_retry(
                core, cpu, order, gfp, compacted, priority, retries
            )
            if retries == NO_RETRY:
                return NO_PAGE
        if gfp & GFP_KSWAPD_RECLAIM:
            wake_all_kswapds(core, cpu, order, gfp)
        pfn = attempt(core, cpu, order, migratetype, gfp, alloc_flags, owner)
        if pfn != NO_PAGE:
            return pfn


@inner
def last_step(
    core: Core,
    cpu: int,
    order: int,
    migratetype: int,
    gfp: int,
    alloc_flags: int,
    owner: int,
    times: int,
) -> int:
    """When no further round is worth it: AGAIN, or what the request comes to; done so often.

    Between the last attempt and the look at its cause a window may close: then the request would
    be served now, and is made again.
    """
    cause = cause_of_failure(core, cpu, order, gfp, alloc_flags)
    if cause < 0:
        if times < CHANCES_MAX:
            return AGAIN
        cause = EXHAUSTED
    if may_wait(gfp, order):
        answer = alloc_pages_may_oom(core, cpu, order, migratetype, gfp, owner, cause)
        if answer == AGAIN and is_victim(core, owner):
            spent = alloc_flags & (ALLOC_OOM | ALLOC_NO_WATERMARKS) or gfp & GFP_NOMEMALLOC
            return KILLED if spent else AGAIN
        if answer != NO_PROGRESS:
            return answer
        if gfp & GFP_NOFAIL:
            return WAITING
    return give_up(core, cpu, order, gfp, cause)


@inner
def rounds(
    core: Core, cpu: int, order: int, migratetype: int, gfp: int, alloc_flags: int, owner: int
) -> int:
    """Attempts, each after reclaim where that is allowed, until the request has come to an end."""
    flags = alloc_flags
    pfn = NO_PAGE
    answer = AGAIN
    times = 0
    while pfn == NO_PAGE and answer == AGAIN:
        reserve = reserve_flags(core, gfp, owner)
        if reserve != 0:
            flags = reserve | (flags & ALLOC_KSWAPD)
        pfn = attempt(core, cpu, order, migratetype, gfp, flags, owner)
        if pfn == NO_PAGE and gfp & GFP_DIRECT_RECLAIM != 0:
            pfn = reclaim_rounds(core, cpu, order, migratetype, gfp, flags, owner)
        if pfn == NO_PAGE:
            answer = last_step(core, cpu, order, migratetype, gfp, flags, owner, times)
            times += 1
    return pfn if pfn != NO_PAGE else answer


@inner
def compact_then_reclaim(
    core: Core, cpu: int, order: int, migratetype: int, gfp: int, alloc_flags: int, owner: int
) -> int:
    """What a request goes through that may reclaim by itself and has to."""
    if order > COSTLY_ORDER or (order > 0 and migratetype != MOVABLE):
        pfn, compacted = compact_and_attempt(
            core, cpu, order, migratetype, gfp, alloc_flags, owner, PRIORITY_ASYNC
        )
        if pfn != NO_PAGE:
            return pfn
        optional = order > COSTLY_ORDER and gfp & GFP_NORETRY != 0
        if optional and compacted in (SKIPPED, DEFERRED):
            return give_up(core, cpu, order, gfp, EXHAUSTED)
    return rounds(core, cpu, order, migratetype, gfp, alloc_flags, owner)


@inner
def alloc_pages_slowpath(
    core: Core, cpu: int, order: int, migratetype: int, gfp: int, owner: int
) -> int:
    """After the low watermark has refused: a page, or FAILED, KILLED, ABORTED, WAITING."""
    flags = gfp_to_alloc_flags(gfp, order)
    if gfp & GFP_KSWAPD_RECLAIM:
        wake_all_kswapds(core, cpu, order, gfp)
    pfn = attempt(core, cpu, order, migratetype, gfp, flags, owner)
    if pfn != NO_PAGE:
        return pfn
    if gfp & GFP_DIRECT_RECLAIM == 0:
        return rounds(core, cpu, order, migratetype, gfp, flags, owner)
    if waits_already(core, owner):
        return WAITING
    note_stall(core, cpu, order, gfp, flags)
    began_ns = now_ns(core, cpu)
    answer = compact_then_reclaim(core, cpu, order, migratetype, gfp, flags, owner)
    observe(core, cpu, STALL, now_ns(core, cpu) - began_ns)
    return answer
