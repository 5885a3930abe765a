"""The synthetic memory map: known guests exactly, and what must hold for every size."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagesoak.allocator import geometry
from pagesoak.allocator.geometry import ZoneGeometry, guest_zones, managed_by_index
from pagesoak.base.errors import InputError

MIB = 1 << 20
GIB = 1 << 30
NEVER_PRESENT_PAGES = 98
"""pfn 0 and the legacy hole, 159 to 255."""

guest_sizes = st.integers(4, 16 * 1024).map(lambda granules: granules * 4 * MIB)


def test_g512() -> None:
    assert guest_zones(512 * MIB) == (
        ZoneGeometry("DMA", 0, 1, 4095, 3998, ((256, 4096),)),
        ZoneGeometry("DMA32", 1, 4096, 126_976, 126_976, ((12_288, 131_072),)),
    )
    assert managed_by_index(guest_zones(512 * MIB)) == (3840, 118_784, 0, 0)


def test_1_gib() -> None:
    assert managed_by_index(guest_zones(GIB)) == (3840, 245_760, 0, 0)


def test_3_gib_lies_below_the_pci_hole() -> None:
    dma32 = guest_zones(3 * GIB)[-1]
    assert (dma32.name, dma32.end_pfn) == ("DMA32", 786_432)
    assert dma32.spanned_pages == dma32.present_pages


def test_memory_above_3_gib_is_normal() -> None:
    _, dma32, normal = guest_zones(8 * GIB)
    assert (dma32.end_pfn, dma32.spanned_pages) == (1 << 20, (1 << 20) - 4096)
    assert dma32.managed_ranges[0][1] == 786_432
    assert normal == ZoneGeometry(
        "Normal", 2, 1 << 20, 5 << 18, 5 << 18, (((1 << 20), (1 << 20) + (5 << 18)),)
    )


@pytest.mark.parametrize(
    ("mebibytes", "managed"),
    [
        (16, (3072, 0, 0, 0)),
        (20, (3840, 512, 0, 0)),
        (24, (3840, 1024, 0, 0)),
        (32, (3840, 2048, 0, 0)),
        (76, (3840, 11_264, 0, 0)),
        (80, (3840, 11_264, 0, 0)),
        (84, (3840, 12_288, 0, 0)),
    ],
)
def test_small_guests(mebibytes: int, managed: tuple[int, int, int, int]) -> None:
    assert managed_by_index(guest_zones(mebibytes * MIB)) == managed


def check_zones(zones: tuple[ZoneGeometry, ...], memory_bytes: int) -> None:
    assert [zone.index for zone in zones] == sorted({zone.index for zone in zones})
    for below, above in pairwise(zones):
        assert below.end_pfn <= above.start_pfn
    ranges = [edges for zone in zones for edges in zone.managed_ranges]
    assert ranges == sorted(ranges)
    for (_, below_end), (above_first, _) in pairwise(ranges):
        assert below_end <= above_first
    for zone in zones:
        assert zone.name == geometry.ZONE_NAMES[zone.index]
        assert 0 < zone.managed_pages <= zone.present_pages <= zone.spanned_pages
        for first, end in zone.managed_ranges:
            assert zone.start_pfn <= first < end <= zone.end_pfn
            assert end % geometry.MAX_BLOCK_PAGES == 0
    present = sum(zone.present_pages for zone in zones)
    assert present + NEVER_PRESENT_PAGES == memory_bytes // geometry.PAGE_BYTES


@given(guest_sizes)
def test_every_size(memory_bytes: int) -> None:
    zones = guest_zones(memory_bytes)
    check_zones(zones, memory_bytes)
    total_pages = memory_bytes // geometry.PAGE_BYTES
    assert sum(managed_by_index(zones)) >= total_pages * 2 // 3
    if memory_bytes != 20 * MIB:
        for zone in zones[1:]:
            assert zone.managed_ranges[0][0] % geometry.MAX_BLOCK_PAGES == 0


@given(st.data(), guest_sizes.filter(lambda size: size >= 32 * MIB))
def test_movable_is_the_top_of_the_highest_zone(data: st.DataObject, memory_bytes: int) -> None:
    plain = guest_zones(memory_bytes)
    granules = plain[-1].managed_pages // geometry.MAX_BLOCK_PAGES - 1
    if granules < 1:
        with pytest.raises(InputError, match="too small for a Movable zone"):
            guest_zones(memory_bytes, geometry.GUEST_GRANULE_BYTES)
        return
    movable_bytes = data.draw(st.integers(1, granules)) * geometry.GUEST_GRANULE_BYTES
    zones = guest_zones(memory_bytes, movable_bytes)
    check_zones(zones, memory_bytes)
    assert zones[:-2] == plain[:-1]
    movable = zones[-1]
    assert movable.index == geometry.ZONE_MOVABLE
    assert movable.end_pfn == plain[-1].end_pfn
    assert movable.managed_pages * geometry.PAGE_BYTES == movable_bytes
    assert sum(managed_by_index(zones)) == sum(managed_by_index(plain))
    with pytest.raises(InputError, match="movable_bytes: "):
        guest_zones(memory_bytes, (granules + 1) * geometry.GUEST_GRANULE_BYTES)


@pytest.mark.parametrize(
    ("memory_bytes", "movable_bytes", "message"),
    [
        (12 * MIB, 0, r"memory_bytes: .* outside 16 MiB to 65536 MiB"),
        (64 * GIB + 4 * MIB, 0, r"memory_bytes: .* outside"),
        (18 * MIB, 0, r"memory_bytes: .* not a multiple of 4 MiB"),
        (512 * MIB, 6 * MIB, r"movable_bytes: .* not a multiple of 4 MiB"),
        (512 * MIB, -4 * MIB, r"movable_bytes: .* outside 4 MiB to 460 MiB"),
        (16 * MIB, 4 * MIB, r"movable_bytes: this guest is too small"),
        (20 * MIB, 4 * MIB, r"movable_bytes: this guest is too small"),
    ],
)
def test_bad_sizes_are_refused(memory_bytes: int, movable_bytes: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        guest_zones(memory_bytes, movable_bytes)
