"""Watermark and pageset arithmetic: WM-1 to WM-6 and PC-1 of docs/model.md, recorded guests."""

import gzip
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from pagesoak.allocator import watermark_setup as setup
from pagesoak.allocator.watermark_setup import ZoneWatermarks, zone_watermarks
from pagesoak.base.errors import InputError

RECORDINGS = Path(__file__).parents[1] / "recordings"

G512 = (3840, 118_784, 0, 0)
G1024 = (3840, 245_760, 0, 0)
WM5_MACHINE = (3840, 772_918, 2_293_760, 0)
EMPTY = (0, 0, 0)

Marks = tuple[int, int, int]


class Case(NamedTuple):
    """One row of the table of WM tests: zones and THP, then what must come out."""

    managed: tuple[int, ...]
    thp: bool
    min_free_kbytes: int
    dma: Marks
    dma32: Marks
    normal: Marks = EMPTY


WM_CASES = {
    "WM-1": Case(G512, False, 2801, (21, 26, 31), (678, 847, 1016)),
    "WM-2": Case(G512, True, 24_312, (190, 237, 284), (5887, 7358, 8829)),
    "WM-3": Case((0, 122_624, 0, 0), False, 2801, EMPTY, (700, 875, 1050)),
    "WM-4 without THP": Case(G1024, False, 3996, (15, 18, 21), (983, 1228, 1473)),
    "WM-4 with THP": Case(G1024, True, 45_056, (173, 216, 259), (11_090, 13_862, 16_634)),
    "WM-5": Case(
        WM5_MACHINE, True, 67_584, (21, 26, 31), (4253, 5316, 6379), (12_621, 15_776, 18_931)
    ),
}


@pytest.mark.parametrize("case", WM_CASES.values(), ids=WM_CASES.keys())
def test_watermarks(case: Case) -> None:
    result = zone_watermarks(case.managed, thp=case.thp)
    assert result.min_free_kbytes == case.min_free_kbytes
    assert [(zone.min, zone.low, zone.high) for zone in result.zones] == [
        case.dma,
        case.dma32,
        case.normal,
        EMPTY,
    ]


@pytest.mark.parametrize("managed", [WM5_MACHINE], ids=["WM-5"])
def test_lowmem_reserves(managed: tuple[int, ...]) -> None:
    rows = setup.lowmem_reserves(managed)
    assert rows[0] == (0, 3019, 11_979, 11_979, 11_979)
    assert rows[1] == (0, 0, 8960, 8960, 8960)
    assert rows[2:] == ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0))


def test_lowmem_reserves_of_g512() -> None:
    rows = setup.lowmem_reserves(G512)
    assert rows[0] == (0, 464, 464, 464, 464)
    assert rows[1] == (0, 0, 0, 0, 0)


def test_lowmem_reserve_of_normal_below_movable() -> None:
    rows = setup.lowmem_reserves((3840, 700_000, 64_000, 32_000, 0))
    assert len(rows) == 5
    assert rows[2] == (0, 0, 0, 1000, 1000)
    assert rows[3] == rows[4] == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("managed", [G512], ids=["WM-6"])
def test_boost(managed: tuple[int, ...]) -> None:
    """The boost climbs by page blocks to 1524; the reporter alone still goes by min, 678."""
    marks = zone_watermarks(managed, thp=False).zones[1]
    steps = [0]
    for _ in range(4):
        steps.append(
            setup.boost_step(
                steps[-1],
                managed_pages=managed[1],
                high_pages=marks.high,
                watermark_boost_factor=setup.WATERMARK_BOOST_FACTOR_DEFAULT,
            )
        )
    assert steps == [0, 512, 1024, 1524, 1524]
    assert marks.min + steps[-1] == 2202


@pytest.mark.parametrize(
    ("managed", "high", "factor"),
    [(118_784, 1016, 0), (2047, 1016, 15_000), (118_784, 0, 15_000), (118_784, 31, 300)],
    ids=["factor 0", "fewer than four page blocks", "high mark 0", "limit rounds to 0"],
)
def test_no_boost(managed: int, high: int, factor: int) -> None:
    for boost in (0, 512):
        stepped = setup.boost_step(
            boost, managed_pages=managed, high_pages=high, watermark_boost_factor=factor
        )
        assert stepped == boost


def test_boost_of_a_small_high_mark_is_one_page_block() -> None:
    assert setup.boost_max(31, 15_000) == 512
    assert setup.boost_max(31, 0) == 0


@pytest.mark.parametrize("managed", [G512], ids=["PC-1"])
def test_pagesets(managed: tuple[int, ...]) -> None:
    dma, dma32 = zone_watermarks(managed, thp=False).zones[:2]
    dma_batch, dma32_batch = (setup.pageset_batch(pages) for pages in managed[:2])
    assert (dma_batch, dma32_batch) == (1, 31)
    cpus = (1, 2, 4, 8)
    assert [setup.pageset_high(dma32.low, n, dma32_batch) for n in cpus] == [847, 423, 211, 124]
    assert [setup.pageset_high(dma.low, n, dma_batch) for n in cpus] == [26, 13, 6, 4]
    assert [setup.pageset_high_5_12(pages) for pages in managed[:2]] == [0, 186]


def test_pagesets_of_the_observed_machine() -> None:
    low = zone_watermarks(WM5_MACHINE, thp=True).zones[1].low
    assert setup.pageset_batch(WM5_MACHINE[1]) == 63
    assert setup.pageset_high(low, 2, 63) == 2658


class RecordedZone(NamedTuple):
    """What a /proc/zoneinfo says of one zone of a guest with one CPU."""

    managed: int
    marks: ZoneWatermarks
    protection: tuple[int, ...]
    pageset_high: int
    pageset_batch: int


def recorded_zone(run: str, name: str) -> RecordedZone:
    text = gzip.decompress((RECORDINGS / run / "before.zoneinfo.gz").read_bytes()).decode()
    part = next(
        p
        for p in re.split(r"^Node 0, zone +", text, flags=re.MULTILINE)
        if p.split()[:1] == [name]
    )

    def number(pattern: str) -> int:
        found = re.search(rf"^ +{pattern} +(\d+)$", part, flags=re.MULTILINE)
        assert found is not None, (run, name, pattern)
        return int(found[1])

    protection = re.search(r"protection: \(([\d, ]+)\)", part)
    assert protection is not None
    return RecordedZone(
        number("managed"),
        ZoneWatermarks(number("min"), number("low"), number("high")),
        tuple(int(column) for column in protection[1].split(",")),
        number("high:"),
        number("batch:"),
    )


def recorded_min_free_kbytes(run: str) -> int:
    meta = (RECORDINGS / run / "meta.txt").read_text()
    found = re.search(r"^== min_free_kbytes\n(\d+)$", meta, flags=re.MULTILINE)
    assert found is not None, run
    return int(found[1])


RECORDED_MARKS = {
    "w1": (False, (22, 27, 32), (652, 815, 978)),
    "w2": (False, (22, 27, 32), (652, 815, 978)),
    "idle_d0": (False, (22, 27, 32), (652, 815, 978)),
    "w2thp": (True, (190, 237, 284), (5588, 6985, 8382)),
    "w4p": (True, (190, 237, 284), (5588, 6985, 8382)),
}


@pytest.mark.parametrize("run", RECORDED_MARKS)
def test_recorded_guest(run: str) -> None:
    """A real 6.1 kernel's marks and pagesets, from its zone sizes and boot `min_free_kbytes`."""
    thp, dma_marks, dma32_marks = RECORDED_MARKS[run]
    zones = [recorded_zone(run, name) for name in ("DMA", "DMA32")]
    assert [zone.marks for zone in zones] == [
        ZoneWatermarks(*dma_marks),
        ZoneWatermarks(*dma32_marks),
    ]
    result = zone_watermarks(
        [zone.managed for zone in zones], thp=thp, min_free_kbytes=recorded_min_free_kbytes(run)
    )
    for zone, marks in zip(zones, result.zones, strict=True):
        assert marks == zone.marks
        assert setup.pageset_batch(zone.managed) == zone.pageset_batch
        assert setup.pageset_high(marks.low, 1, zone.pageset_batch) == zone.pageset_high


BOOT_DMA32_MANAGED = {"w1": (110_080, 110_150), "idle_m2048": (496_640, 496_895)}
"""Sizes of DMA32 at boot, initial RAM disk still held, that account for the recorded figures."""


@pytest.mark.parametrize("run", BOOT_DMA32_MANAGED)
def test_recorded_boot_figures(run: str) -> None:
    """Reserves and `min_free_kbytes` follow from the zone as it was at boot, not from now."""
    dma, dma32 = (recorded_zone(run, name) for name in ("DMA", "DMA32"))
    for boot_managed in BOOT_DMA32_MANAGED[run]:
        managed = (dma.managed, boot_managed)
        assert boot_managed < dma32.managed
        thp = setup.thp_by_default(sum(managed))
        result = zone_watermarks(managed, thp=thp)
        assert result.min_free_kbytes == recorded_min_free_kbytes(run)
        assert result.zones == (dma.marks, dma32.marks)
        assert setup.lowmem_reserves(managed)[0] == dma.protection
    later = (dma.managed, dma32.managed)
    assert setup.lowmem_reserves(later)[0] != dma.protection


def test_thp_default_needs_512_mib_managed() -> None:
    assert not setup.thp_by_default(131_071)
    assert setup.thp_by_default(131_072)


def test_computed_min_free_kbytes_is_clamped_and_a_written_one_is_not() -> None:
    assert setup.computed_min_free_kbytes((255, 0, 0)) == 128
    assert setup.computed_min_free_kbytes((3840, 1 << 30, 0)) == 262_144
    assert zone_watermarks(G512, thp=False, min_free_kbytes=64).min_free_kbytes == 64


def test_movable_counts_for_the_shares_but_not_for_the_sum() -> None:
    managed = (3840, 118_784, 0, 122_624)
    result = zone_watermarks(managed, thp=False)
    assert result.min_free_kbytes == 2801
    assert [zone.min for zone in result.zones] == [10, 339, 0, 350]


def test_thp_never_lowers_a_larger_written_value() -> None:
    assert zone_watermarks(G512, thp=True, min_free_kbytes=30_000).min_free_kbytes == 30_000


def test_scale_factor_widens_the_gaps() -> None:
    marks = zone_watermarks(G512, thp=False, watermark_scale_factor=3000).zones[1]
    assert marks == ZoneWatermarks(678, 678 + 35_635, 678 + 2 * 35_635)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match="min_free_kbytes: must not be negative"):
        zone_watermarks(G512, thp=False, min_free_kbytes=-1)
    for factor in (0, 3001):
        with pytest.raises(InputError, match="watermark_scale_factor: must be 1 to 3000"):
            zone_watermarks(G512, thp=False, watermark_scale_factor=factor)
    with pytest.raises(ValueError, match="by zone index"):
        zone_watermarks((1, 2, 3, 4, 5, 6), thp=False)
