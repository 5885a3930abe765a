"""Pagesets that tune themselves: how much a refill takes, how much stays, how much goes back.

`high` moves between high_min (what 6.1 has) and high_max (an eighth of the zone): up with every
refill while the zone stands above its high mark, down with every free below it and with time. A
refill doubles with every one that follows without a free between them. Frees give back as many
pages as were freed in a row.

Models Linux 6.12 `mm/page_alloc.c`: `nr_pcp_alloc`, `nr_pcp_free`, `nr_pcp_high`,
`free_unref_page_commit`, `decay_pcp_high`; CONFIG_PCP_BATCH_SCALE_MAX 5. PCPF_FREE_HIGH_BATCH is
taken as set: it is wherever a CPU's share of the data caches holds more than three batches
(`zone_pcp_update_cacheinfo`). Expected values: docs/model.md, 5 (PC-1).
"""

from pagesoak.base.layout import (
    P_BATCH,
    P_COUNT,
    P_HIGH,
    PCP_ORDERS,
    Z_RECLAIM_ACTIVE,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_kernel import (
    P_ALLOC_FACTOR,
    P_FREE_COUNT,
    P_HIGH_MAX,
    P_HIGH_MIN,
    P_TUNED_FLAGS,
    Z_BELOW_HIGH,
)
from pagesoak.base.native import inner

BATCH_SCALE_MAX = 5
"""At most 32 batches at once, either way (CONFIG_PCP_BATCH_SCALE_MAX)."""
REFILL_BLOCKS_MIN = 2
"""A refill takes at least so many blocks, whatever their order."""
RECLAIM_HIGH_BATCHES = 4
"""While kswapd runs a pageset keeps at most so many batches."""
DECAY_SHIFT = 3
"""`high` loses an eighth of itself each time."""
NOTHING = 0
PREVIOUS_FREE_LARGE = 1


@inner
def clamped_high(core: Core, p: int) -> int:
    """The present `high`, brought within its bounds."""
    pagesets = core.pagesets
    high = max(pagesets[p + P_HIGH], pagesets[p + P_HIGH_MIN])
    high = min(high, pagesets[p + P_HIGH_MAX])
    pagesets[p + P_HIGH] = high
    return high


@inner
def tuned_refill_blocks(core: Core, p: int, zone: int, order: int) -> int:
    """How many blocks an empty list is filled with (`nr_pcp_alloc`)."""
    pagesets = core.pagesets
    base_batch = pagesets[p + P_BATCH]
    high = clamped_high(core, p)
    if high < base_batch:
        return 1
    batch = base_batch << pagesets[p + P_ALLOC_FACTOR] if order == 0 else base_batch
    high_max = pagesets[p + P_HIGH_MAX]
    if pagesets[p + P_HIGH_MIN] != high_max and (
        core.zones[zone * ZONE_WORDS + Z_BELOW_HIGH] == 0
    ):
        high = min(high + batch, high_max)
        pagesets[p + P_HIGH] = high
    if order == 0:
        most = max(high - pagesets[p + P_COUNT] - base_batch, base_batch)
        if batch <= most and pagesets[p + P_ALLOC_FACTOR] < BATCH_SCALE_MAX:
            pagesets[p + P_ALLOC_FACTOR] += 1
        batch = min(batch, most)
    if batch > 1:
        return max(batch >> order, REFILL_BLOCKS_MIN)
    return batch


@inner
def tuned_high(core: Core, p: int, zone: int, free_high: bool) -> int:
    """From which count on pages go back, after a free (`nr_pcp_high`)."""
    pagesets = core.pagesets
    batch = pagesets[p + P_BATCH]
    high_min = pagesets[p + P_HIGH_MIN]
    high_max = pagesets[p + P_HIGH_MAX]
    high = clamped_high(core, p)
    if high == 0:
        return 0
    if free_high:
        pagesets[p + P_HIGH] = max(high - (batch << BATCH_SCALE_MAX), high_min)
        return 0
    free_count = max(pagesets[p + P_FREE_COUNT], batch)
    if core.zones[zone * ZONE_WORDS + Z_RECLAIM_ACTIVE] != 0:
        pagesets[p + P_HIGH] = max(high - free_count, high_min)
        return min(batch * RECLAIM_HIGH_BATCHES, pagesets[p + P_HIGH])
    if high_min == high_max:
        return high
    if core.zones[zone * ZONE_WORDS + Z_BELOW_HIGH] != 0:
        pagesets[p + P_HIGH] = max(high - free_count, high_min)
        return max(pagesets[p + P_COUNT], high_min)
    if pagesets[p + P_COUNT] >= high:
        needed = pagesets[p + P_FREE_COUNT] + batch
        if high < needed:
            pagesets[p + P_HIGH] = min(max(needed, high_min), high_max)
    return high


@inner
def tuned_free_pages(core: Core, p: int, high: int, free_high: bool) -> int:
    """How many pages go back (`nr_pcp_free`)."""
    pagesets = core.pagesets
    batch = pagesets[p + P_BATCH]
    if free_high:
        return min(pagesets[p + P_COUNT], batch << BATCH_SCALE_MAX)
    if high < batch:
        return 1
    most = high - batch
    if pagesets[p + P_FREE_COUNT] > most:
        return most
    return max(pagesets[p + P_FREE_COUNT], batch)


@inner
def tuned_pages_to_drain(core: Core, p: int, zone: int, order: int) -> int:
    """After a block of `order` went in: how many pages go back, NOTHING if none
    (`free_unref_page_commit`).

    Blocks of order 1 to 3 freed in a row, a batch of pages and more, empty the pageset up to 32
    batches.
    """
    pagesets = core.pagesets
    batch = pagesets[p + P_BATCH]
    pagesets[p + P_ALLOC_FACTOR] >>= 1
    free_high = False
    if 0 < order < PCP_ORDERS:
        free_high = (
            pagesets[p + P_FREE_COUNT] >= batch
            and pagesets[p + P_TUNED_FLAGS] != 0
            and pagesets[p + P_COUNT] >= batch
        )
        pagesets[p + P_TUNED_FLAGS] = PREVIOUS_FREE_LARGE
    else:
        pagesets[p + P_TUNED_FLAGS] = 0
    most = batch << BATCH_SCALE_MAX
    if pagesets[p + P_FREE_COUNT] < most:
        pagesets[p + P_FREE_COUNT] = min(pagesets[p + P_FREE_COUNT] + (1 << order), most)
    high = tuned_high(core, p, zone, free_high)
    if pagesets[p + P_COUNT] < high:
        return NOTHING
    return tuned_free_pages(core, p, high, free_high)


@inner
def decayed_pages(core: Core, p: int) -> int:
    """Lower `high` for the time that has passed; how many pages are above it now
    (`decay_pcp_high`).
    """
    pagesets = core.pagesets
    high = pagesets[p + P_HIGH]
    high_min = pagesets[p + P_HIGH_MIN]
    if high > high_min:
        least = pagesets[p + P_COUNT] - (pagesets[p + P_BATCH] << BATCH_SCALE_MAX)
        high = max(least, high - (high >> DECAY_SHIFT))
        high = max(high, high_min)
        pagesets[p + P_HIGH] = high
    return max(pagesets[p + P_COUNT] - high, NOTHING)
