"""The memory map of a synthetic x86-64 guest: its zones, and which page frames are managed.

A guest read from a recording brings its own zones; this module invents them for a guest of which
only the size is known. It models the zone limits of x86-64 with ZONE_DMA and ZONE_DMA32 (K5.12 and
K6.1, `arch/x86/mm/init.c`, `mm/page_alloc.c`), the memory map of a PC machine with its hole below
4 GiB, and the Movable zone as `movablecore=` makes it. The sources' short names are explained in
`docs/model.md`.

What is reserved for good (kernel image, memory map, hash tables) differs from kernel to kernel and
boot to boot. Here it is one simple figure, one run at the start of DMA32: `RESERVED_BASE_PAGES`
plus a `RESERVED_SHARE`-th of all pages, in whole blocks of order 10. It gives the reference guest
G512 of the model document exactly (managed from pfn 12288 on), and 245 760 managed pages in DMA32
for 1 GiB. Small guests:

- below 80 MiB the figure is capped at a quarter of the guest, in whole order-10 blocks;
- it never takes more than half of DMA32, which only matters for a guest of 20 MiB;
- a guest of 16 MiB has no DMA32: the reserved quarter is then the first 1024 page frames of DMA.
"""

from dataclasses import dataclass

from pagesoak.base.errors import InputError

ZONE_DMA = 0
ZONE_DMA32 = 1
ZONE_NORMAL = 2
ZONE_MOVABLE = 3
ZONE_NAMES = ("DMA", "DMA32", "Normal", "Movable")

PAGE_BYTES = 4096
MAX_BLOCK_PAGES = 1024
"""Pages of the largest buddy block, order 10; zones end on a multiple of it."""

GUEST_GRANULE_BYTES = MAX_BLOCK_PAGES * PAGE_BYTES
"""Sizes are multiples of this (4 MiB), so that no zone ends inside a largest block."""
GUEST_BYTES_MIN = 16 << 20
"""One full zone DMA; a smaller guest has no place for a kernel."""
GUEST_BYTES_MAX = 64 << 30
"""The largest guest supported (at 16 bytes a page, 256 MiB of page records)."""

DMA_FIRST_PFN = 1
"""Page frame 0 is never handed to the allocator."""
DMA_CONVENTIONAL_PAGES = 158
"""Present but reserved page frames below the legacy hole of a PC (pfn 1 to 158, as in the
recordings)."""
DMA_MANAGED_PFN = 256
"""First page frame behind the legacy hole (1 MiB); 3840 managed pages from here, test WM-5."""
DMA32_PFN = 4096
"""16 MiB, what 24 address lines reach: the end of DMA."""
NORMAL_PFN = 1 << 20
"""4 GiB: the end of DMA32."""
LOW_MEMORY_END_PFN = 3 << 18
"""3 GiB: the PCI hole begins; the rest of a larger guest's memory continues at 4 GiB."""

RESERVED_BASE_PAGES = 4096
RESERVED_SHARE = 32
RESERVED_GUEST_DIVISOR = 4
RESERVED_ZONE_DIVISOR = 2


@dataclass(frozen=True, slots=True)
class ZoneGeometry:
    """One populated zone.

    `index` is the kernel's zone index (0 to 3). `spanned_pages` covers holes, `present_pages` does
    not; `managed_ranges` holds ascending, disjoint, half-open `(first_pfn, end_pfn)` of what the
    buddy gets.
    """

    name: str
    index: int
    start_pfn: int
    spanned_pages: int
    present_pages: int
    managed_ranges: tuple[tuple[int, int], ...]

    @property
    def end_pfn(self) -> int:
        """First page frame behind the zone."""
        return self.start_pfn + self.spanned_pages

    @property
    def managed_pages(self) -> int:
        """Pages the buddy allocator manages."""
        return sum(end - first for first, end in self.managed_ranges)


def guest_zones(memory_bytes: int, movable_bytes: int = 0) -> tuple[ZoneGeometry, ...]:
    """The populated zones of a guest of `memory_bytes`, ascending by index.

    `movable_bytes` at the top of memory become zone Movable. They come out of the highest other
    zone only, as the kernel takes them (K6.1 `find_zone_movable_pfns_for_nodes`), and leave it at
    least one order-10 block (our limit, so that no zone is emptied).

    Raises InputError (key `memory_bytes` or `movable_bytes`) for a size out of range or no
    multiple of 4 MiB.
    """
    _check_size("memory_bytes", memory_bytes, GUEST_BYTES_MIN, GUEST_BYTES_MAX)
    total_pages = memory_bytes // PAGE_BYTES
    low_end = min(total_pages, LOW_MEMORY_END_PFN)
    high_pages = total_pages - low_end

    zones = [_dma_zone(total_pages)]
    if low_end > DMA32_PFN:
        first = DMA32_PFN + _reserved_pages(total_pages, low_end - DMA32_PFN)
        end = NORMAL_PFN if high_pages else low_end
        zones.append(_zone(ZONE_DMA32, DMA32_PFN, end, low_end - DMA32_PFN, (first, low_end)))
    if high_pages:
        end = NORMAL_PFN + high_pages
        zones.append(_zone(ZONE_NORMAL, NORMAL_PFN, end, high_pages, (NORMAL_PFN, end)))
    if movable_bytes:
        zones[-1:] = _split_movable(zones[-1], movable_bytes)
    return tuple(zones)


def managed_by_index(zones: tuple[ZoneGeometry, ...]) -> tuple[int, int, int, int]:
    """Managed pages of DMA, DMA32, Normal, Movable; 0 for a zone that is not in `zones`."""
    managed = {zone.index: zone.managed_pages for zone in zones}
    return (
        managed.get(ZONE_DMA, 0),
        managed.get(ZONE_DMA32, 0),
        managed.get(ZONE_NORMAL, 0),
        managed.get(ZONE_MOVABLE, 0),
    )


def _zone(
    index: int, start_pfn: int, end_pfn: int, present_pages: int, managed: tuple[int, int]
) -> ZoneGeometry:
    return ZoneGeometry(
        ZONE_NAMES[index], index, start_pfn, end_pfn - start_pfn, present_pages, (managed,)
    )


def _dma_zone(total_pages: int) -> ZoneGeometry:
    """DMA; in a guest without DMA32 the reserved quarter lies at its start (pfn 0 to 1023)."""
    first = DMA_MANAGED_PFN if total_pages > DMA32_PFN else total_pages // RESERVED_GUEST_DIVISOR
    present_pages = DMA_CONVENTIONAL_PAGES + DMA32_PFN - DMA_MANAGED_PFN
    return _zone(ZONE_DMA, DMA_FIRST_PFN, DMA32_PFN, present_pages, (first, DMA32_PFN))


def _reserved_pages(total_pages: int, dma32_present_pages: int) -> int:
    """Length of the reserved run at the start of DMA32, by the rule of the module's docstring."""
    wanted = RESERVED_BASE_PAGES + total_pages // RESERVED_SHARE
    whole_blocks = -(-wanted // MAX_BLOCK_PAGES) * MAX_BLOCK_PAGES
    quarter = total_pages // RESERVED_GUEST_DIVISOR // MAX_BLOCK_PAGES * MAX_BLOCK_PAGES
    return min(whole_blocks, quarter, dma32_present_pages // RESERVED_ZONE_DIVISOR)


def _split_movable(highest: ZoneGeometry, movable_bytes: int) -> list[ZoneGeometry]:
    """`highest` without its top `movable_bytes`, and zone Movable made of them."""
    spare_pages = 0
    if highest.index != ZONE_DMA:
        spare_pages = max(0, highest.managed_pages // MAX_BLOCK_PAGES - 1) * MAX_BLOCK_PAGES
    if not spare_pages:
        raise InputError("this guest is too small for a Movable zone", key="movable_bytes")
    _check_size("movable_bytes", movable_bytes, GUEST_GRANULE_BYTES, spare_pages * PAGE_BYTES)
    movable_pages = movable_bytes // PAGE_BYTES
    end_pfn = highest.end_pfn
    start_pfn = end_pfn - movable_pages
    lower = _zone(
        highest.index,
        highest.start_pfn,
        start_pfn,
        highest.present_pages - movable_pages,
        (highest.managed_ranges[0][0], start_pfn),
    )
    return [lower, _zone(ZONE_MOVABLE, start_pfn, end_pfn, movable_pages, (start_pfn, end_pfn))]


def _check_size(key: str, value_bytes: int, low_bytes: int, high_bytes: int) -> None:
    if not low_bytes <= value_bytes <= high_bytes:
        raise InputError(
            f"{value_bytes} bytes is outside {low_bytes >> 20} MiB to {high_bytes >> 20} MiB",
            key=key,
        )
    if value_bytes % GUEST_GRANULE_BYTES:
        raise InputError(f"{value_bytes} bytes is not a multiple of 4 MiB", key=key)
