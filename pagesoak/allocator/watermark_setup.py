"""How the kernel derives watermarks, reserves, boost limits and pageset sizes from zone sizes.

This is the arithmetic done at boot and when a sysctl is written, not the test at allocation time.
It models K6.1 (`mm/page_alloc.c`, `mm/khugepaged.c`, `mm/huge_memory.c`); the short names of
sources and the tests WM-1 to WM-6 and PC-1 are explained in `docs/model.md`. Everything is in 4
KiB pages unless the name says otherwise.

`managed_pages` arguments are sequences indexed by zone index (DMA, DMA32, Normal, Movable, and
optionally Device), 0 for an empty zone; those of several nodes are five figures for each in turn.

Two things a reader of a booted guest should know. The kernel takes `managed` as it is *at that
moment*: at boot the initial RAM disk is still held, so the recorded guests show reserves (430, not
440) and a default `min_free_kbytes` (2700, not 2731) of a zone about 2600 pages smaller than
`/proc/zoneinfo` says later. And the zone Movable takes part in the distribution of
`min_free_kbytes` in K5.12 and K6.1, but not in K6.6 and K6.12, where it gets a small minimum of
its own.

Every division rounds down, as in C. The kernel's `mult_frac`, which scales quotient and remainder
apart so that no product overflows, is one floor division here: for non-negative integers both give
the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

from pagesoak.base.errors import InputError

ZONE_COLUMNS = 5
"""DMA, DMA32, Normal, Movable, Device: the columns of a `protection:` line."""
LAST_KERNEL_ZONE = 2
"""Normal: the highest zone GFP_USER may use, so the last that counts for `min_free_kbytes`."""

MOVABLE_ZONE = 3

KBYTES_PER_PAGE = 4
MIN_FREE_KBYTES_MIN = 128
MIN_FREE_KBYTES_MAX = 262_144
"""Clamp of the *computed* `min_free_kbytes`; a written value is taken as it is."""
MIN_FREE_ROOT_FACTOR = 16
WATERMARK_SCALE_FACTOR_DEFAULT = 10
WATERMARK_SCALE_FACTOR_MAX = 3000
"""What the sysctl accepts in K6.1, from 1; in units of 1/10000 of the zone."""
WATERMARK_BOOST_FACTOR_DEFAULT = 15_000
TEN_THOUSANDTHS = 10_000
MOVABLE_MIN_DIVISOR = 1024
MOVABLE_MIN_PAGES_MIN = 32
MOVABLE_MIN_PAGES_MAX = 128
"""Min of a Movable zone that takes no share: a 1024th of it, SWAP_CLUSTER_MAX to 128."""
LOWMEM_RESERVE_RATIO = (256, 256, 32, 0, 0)
"""Divisor per zone; 0 means the zone keeps no reserve."""

PAGEBLOCK_PAGES = 512
BOOST_ZONE_PAGEBLOCKS_MIN = 4
"""A zone of fewer page blocks than this is never boosted."""
THP_PAGEBLOCKS_PER_ZONE = 2 + 3 * 3
"""Page blocks khugepaged wants free per zone: two, and one per pair of the three pcp types."""
THP_SHARE_OF_LOWMEM = 20
"""khugepaged asks for at most this share of low memory above the high marks (5 %)."""
THP_DEFAULT_TOTAL_PAGES_MIN = 131_072
"""512 MiB: with less managed memory than this THP is off unless asked for."""

PAGESET_ZONE_SHIFT = 10
PAGESET_PAGES_CAP = 256
"""1 MiB: the most a batch is derived from."""
PAGESET_BATCH_DIVISOR = 4
PAGESET_HIGH_BATCHES_MIN = 4
PAGESET_HIGH_BATCHES_5_12 = 6
PAGESET_HIGH_FRACTION_MIN = 8
"""MIN_PERCPU_PAGELIST_HIGH_FRACTION."""


@dataclass(frozen=True, slots=True)
class ZoneWatermarks:
    """Raw watermarks of one zone in pages, without boost."""

    min: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class WatermarkSetup:
    """`min_free_kbytes` as the sysctl would show it, and watermarks by zone index."""

    min_free_kbytes: int
    zones: tuple[ZoneWatermarks, ...]


def zone_watermarks(
    managed_pages: Sequence[int],
    *,
    thp: bool,
    min_free_kbytes: int | None = None,
    watermark_scale_factor: int = WATERMARK_SCALE_FACTOR_DEFAULT,
    movable_apart: bool = False,
) -> WatermarkSetup:
    """The set-up of a guest (tests WM-1 to WM-5).

    `min_free_kbytes` is a value written to the sysctl, used as it is; None takes the kernel's
    formula. With `thp` khugepaged starts afterwards and raises it if its own recommendation is
    larger. Use `thp_by_default` for what a kernel would choose. `movable_apart` is the rule
    MOVABLE_ZONE_APART of `profile`.

    Raises InputError for a negative `min_free_kbytes` or a scale factor outside 1 to 3000.
    """
    setup = guest_watermarks(
        (managed_pages,),
        thp=thp,
        min_free_kbytes=min_free_kbytes,
        watermark_scale_factor=watermark_scale_factor,
        movable_apart=movable_apart,
    )[0]
    return WatermarkSetup(setup.min_free_kbytes, setup.zones[: len(managed_pages)])


def guest_watermarks(
    nodes: Sequence[Sequence[int]],
    *,
    thp: bool,
    min_free_kbytes: int | None = None,
    watermark_scale_factor: int = WATERMARK_SCALE_FACTOR_DEFAULT,
    movable_apart: bool = False,
) -> tuple[WatermarkSetup, ...]:
    """The same for a guest of several nodes, each given by its managed pages by zone index.

    `min_free_kbytes` is one figure of the whole guest, shared out over the zones of all nodes.
    """
    managed = tuple(pages for node in nodes for pages in _by_index(node))
    if min_free_kbytes is not None and min_free_kbytes < 0:
        raise InputError("must not be negative", key="min_free_kbytes")
    if not 1 <= watermark_scale_factor <= WATERMARK_SCALE_FACTOR_MAX:
        raise InputError(
            f"must be 1 to {WATERMARK_SCALE_FACTOR_MAX}", key="watermark_scale_factor"
        )
    if min_free_kbytes is None:
        min_free_kbytes = computed_min_free_kbytes(managed)
    zones = _distribute(managed, min_free_kbytes, watermark_scale_factor, movable_apart)
    if thp:
        recommended = thp_recommended_kbytes(managed, [zone.high for zone in zones])
        if recommended > min_free_kbytes:
            min_free_kbytes = recommended
            zones = _distribute(managed, min_free_kbytes, watermark_scale_factor, movable_apart)
    return tuple(
        WatermarkSetup(min_free_kbytes, zones[first : first + ZONE_COLUMNS])
        for first in range(0, len(zones), ZONE_COLUMNS)
    )


def computed_min_free_kbytes(managed_pages: Sequence[int]) -> int:
    """The kernel's own `min_free_kbytes` at boot, when no watermark is set yet.

    The root of 16 times the low memory in KiB, within 128 and 262144 (K6.1
    `calculate_min_free_kbytes`).
    """
    lowmem_kbytes = KBYTES_PER_PAGE * sum(_of_lowmem(managed_pages))
    root = isqrt(MIN_FREE_ROOT_FACTOR * lowmem_kbytes)
    return min(max(root, MIN_FREE_KBYTES_MIN), MIN_FREE_KBYTES_MAX)


def thp_recommended_kbytes(managed_pages: Sequence[int], high_pages: Sequence[int]) -> int:
    """What khugepaged wants `min_free_kbytes` to be, given the high marks before it starts.

    K6.1 `set_recommended_min_free_kbytes`: eleven page blocks per populated zone up to Normal, at
    most 5 % of the low memory above the high marks. Also the reason why a 1 GiB guest with THP
    keeps 44 MiB free.
    """
    lowmem = list(zip(_of_lowmem(managed_pages), _of_lowmem(high_pages), strict=True))
    populated = sum(1 for managed, _ in lowmem if managed)
    wanted = PAGEBLOCK_PAGES * THP_PAGEBLOCKS_PER_ZONE * populated
    above_high = sum(max(0, managed - high) for managed, high in lowmem)
    return KBYTES_PER_PAGE * min(wanted, above_high // THP_SHARE_OF_LOWMEM)


def thp_by_default(total_managed_pages: int) -> bool:
    """Whether a kernel configured for THP leaves it on by itself.

    Not with less than 512 MiB managed (K6.1 `hugepage_init`). Part of every "512 MiB" guest is
    reserved, so it is off in all of them.
    """
    return total_managed_pages >= THP_DEFAULT_TOTAL_PAGES_MIN


def lowmem_reserves(managed_pages: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Pages each zone withholds from requests for a higher zone.

    Row i, column j > i: the managed pages of zones i+1 to j over the ratio of i; 0 elsewhere, and
    in the whole row of an empty zone (K6.1 `setup_per_zone_lowmem_reserve`). Five columns, as a
    `protection:` line has; one row per zone given.
    """
    managed = _by_index(managed_pages)
    return tuple(
        tuple(_reserve(managed, zone, requested) for requested in range(ZONE_COLUMNS))
        for zone in range(len(managed_pages))
    )


def boost_max(high_pages: int, watermark_boost_factor: int) -> int:
    """The most a zone's watermark boost can reach in pages; 0 when the zone can never be boosted.

    K6.1 `boost_watermark`; at least one page block unless the factor or the raw high mark makes it
    0 (WM-6).
    """
    most = high_pages * watermark_boost_factor // TEN_THOUSANDTHS
    return max(PAGEBLOCK_PAGES, most) if most else 0


def boost_step(
    boost_pages: int, *, managed_pages: int, high_pages: int, watermark_boost_factor: int
) -> int:
    """The boost after one more fallback has stolen from a page block.

    One page block more, up to `boost_max`. Unchanged when the zone is too small or can never be
    boosted (K6.1 `boost_watermark`).
    """
    most = boost_max(high_pages, watermark_boost_factor)
    if not most or managed_pages < BOOST_ZONE_PAGEBLOCKS_MIN * PAGEBLOCK_PAGES:
        return boost_pages
    return min(boost_pages + PAGEBLOCK_PAGES, most)


def pageset_batch(managed_pages: int) -> int:
    """Pages moved between pageset and buddy at once (K6.1 and K5.12 `zone_batchsize`; PC-1)."""
    return max(1, _unclamped_batch(managed_pages))


def pageset_high(low_pages: int, cpus: int, batch: int) -> int:
    """Pages a pageset holds before it gives some back, in K6.1 (`zone_highsize`); PC-1.

    `low_pages` is the zone's low mark with its boost; `cpus` those of the zone's node, or all of
    the guest where the node has none.
    """
    return max(low_pages // cpus, PAGESET_HIGH_BATCHES_MIN * batch)


def pageset_high_max(managed_pages: int, cpus: int, batch: int) -> int:
    """The most `high` grows to in K6.12: the CPU's share of an eighth of the zone; PC-1."""
    share = managed_pages // PAGESET_HIGH_FRACTION_MIN // cpus
    return max(share, PAGESET_HIGH_BATCHES_MIN * batch)


def pageset_high_5_12(managed_pages: int) -> int:
    """The same in K5.12: six batches, so 0 (nothing is kept) in a tiny zone; PC-1."""
    return PAGESET_HIGH_BATCHES_5_12 * _unclamped_batch(managed_pages)


def _by_index(managed_pages: Sequence[int]) -> tuple[int, ...]:
    """All five zones' managed pages; absent ones are empty."""
    if not 1 <= len(managed_pages) <= ZONE_COLUMNS or min(managed_pages) < 0:
        raise ValueError(f"one to {ZONE_COLUMNS} page counts by zone index, got {managed_pages}")
    return (*managed_pages, *[0] * (ZONE_COLUMNS - len(managed_pages)))


def _of_lowmem(pages: Sequence[int]) -> list[int]:
    """The figures of zones up to Normal, of all nodes."""
    return [of for at, of in enumerate(pages) if at % ZONE_COLUMNS <= LAST_KERNEL_ZONE]


def _distribute(
    managed: tuple[int, ...], min_free_kbytes: int, scale_factor: int, movable_apart: bool
) -> tuple[ZoneWatermarks, ...]:
    """Each zone's share of `min_free_kbytes` and its marks (K6.1, K6.12
    `__setup_per_zone_wmarks`). The gap follows from the share also where min is set apart.
    """
    pages_min = min_free_kbytes // KBYTES_PER_PAGE
    total = sum(managed)
    if movable_apart:
        total -= sum(managed[MOVABLE_ZONE::ZONE_COLUMNS])
    total = total or 1
    marks = []
    for zone, zone_managed in enumerate(managed):
        share = pages_min * zone_managed // total
        gap = max(share // 4, zone_managed * scale_factor // TEN_THOUSANDTHS)
        mark_min = share
        if movable_apart and zone % ZONE_COLUMNS == MOVABLE_ZONE:
            mark_min = zone_managed // MOVABLE_MIN_DIVISOR
            mark_min = min(max(mark_min, MOVABLE_MIN_PAGES_MIN), MOVABLE_MIN_PAGES_MAX)
        marks.append(ZoneWatermarks(mark_min, mark_min + gap, mark_min + 2 * gap))
    return tuple(marks)


def _reserve(managed: tuple[int, ...], zone: int, requested: int) -> int:
    ratio = LOWMEM_RESERVE_RATIO[zone]
    if not ratio or not managed[zone]:
        return 0
    return sum(managed[zone + 1 : requested + 1]) // ratio


def _unclamped_batch(managed_pages: int) -> int:
    """One less than a power of two near 3/8 of a 1024th of the zone; 0 for a tiny zone."""
    quarter = min(managed_pages >> PAGESET_ZONE_SHIFT, PAGESET_PAGES_CAP) // PAGESET_BATCH_DIVISOR
    quarter = max(1, quarter)
    power_of_two = 1 << ((quarter + quarter // 2).bit_length() - 1)
    return power_of_two - 1
