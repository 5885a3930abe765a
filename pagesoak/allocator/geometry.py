"""The memory map of a synthetic x86-64 guest: its zones, and which page frames are managed.

A guest read from a recording brings its own zones; this module invents them for a guest of which
only the size is known, on one node or two. It models the zone limits of x86-64 with ZONE_DMA and
ZONE_DMA32 (K5.12 and K6.1, `arch/x86/mm/init.c`, `mm/page_alloc.c`), the memory map of a PC
machine with its hole below 4 GiB, and the Movable zone as `movablecore=` makes it. The sources'
short names are explained in `docs/model.md`.

What is reserved for good (kernel image, memory map, hash tables) differs from kernel to kernel and
boot to boot. Here it is one simple figure, one run at the start of DMA32: `RESERVED_BASE_PAGES`
plus a `RESERVED_SHARE`-th of all pages, in whole blocks of order 10. It gives the reference guest
G512 of the model document exactly (managed from pfn 12288 on), and 245 760 managed pages in DMA32
for 1 GiB. Of a guest with two nodes, node 0 is like a guest of half the size, and node 1 reserves
the share of its own pages (their page structures lie in their node) at the start of its first
zone. Small guests:

- below 80 MiB the figure is capped at a quarter of the guest, in whole order-10 blocks;
- it never takes more than half of DMA32, which matters for a guest of 20 MiB, and from 47 GiB on,
  where the page structures would fill it;
- a guest of 16 MiB has no DMA32: the reserved quarter is then the first 1024 page frames of DMA.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pagesoak.allocator.geometry_movable import movable_starts
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
PFN_END = 1 << 40
"""Behind every page of a 52-bit physical address."""
ZONE_LIMITS = ((DMA_FIRST_PFN, DMA32_PFN), (DMA32_PFN, NORMAL_PFN), (NORMAL_PFN, PFN_END))
"""Lowest page frame of DMA, DMA32 and Normal, and the one behind the highest."""
NODES_MAX = 2
"""What the segment has room for: two nodes of four zones."""

RESERVED_BASE_PAGES = 4096
RESERVED_SHARE = 32
RESERVED_GUEST_DIVISOR = 4
RESERVED_ZONE_DIVISOR = 2


@dataclass(frozen=True, slots=True)
class ZoneGeometry:
    """One populated zone.

    `index` is the kernel's zone index (0 to 3) in `node`. `spanned_pages` covers holes,
    `present_pages` does not; `managed_ranges` holds ascending, disjoint, half-open `(first_pfn,
    end_pfn)` of what the buddy gets.
    """

    name: str
    index: int
    start_pfn: int
    spanned_pages: int
    present_pages: int
    managed_ranges: tuple[tuple[int, int], ...]
    node: int = 0

    @property
    def end_pfn(self) -> int:
        """First page frame behind the zone."""
        return self.start_pfn + self.spanned_pages

    @property
    def managed_pages(self) -> int:
        """Pages the buddy allocator manages."""
        return sum(end - first for first, end in self.managed_ranges)


def guest_zones(
    memory_bytes: int, movable_bytes: int = 0, nodes: int = 1
) -> tuple[ZoneGeometry, ...]:
    """The populated zones of a guest of `memory_bytes`, node after node, ascending by index.

    Memory is dealt to the nodes in equal parts, from the lowest page frames up. `movable_bytes`
    become zone Movable: they come out of the highest zone there is only, and leave it at least one
    order-10 block in each node that has it (our limit, so that no zone is emptied). Where they lie
    in several nodes, `geometry_movable` says.

    Raises InputError (key `memory_bytes`, `movable_bytes` or `nodes`) for a size out of range or
    no multiple of 4 MiB, in total and per node.
    """
    _check_size("memory_bytes", memory_bytes, GUEST_BYTES_MIN, GUEST_BYTES_MAX)
    check_nodes(memory_bytes, nodes)
    memory = _memory_of_nodes(memory_bytes // PAGE_BYTES, nodes)
    zones = [zone for node, ranges in enumerate(memory) for zone in _zones_of_node(node, ranges)]
    if movable_bytes:
        zones = _with_movable(zones, movable_bytes)
    return tuple(zones)


def check_nodes(memory_bytes: int, nodes: int) -> None:
    """Raise InputError (key `nodes`) unless the guest can be dealt to so many nodes."""
    if not 1 <= nodes <= NODES_MAX:
        raise InputError(f"must be 1 to {NODES_MAX}", key="nodes")
    if memory_bytes < nodes * GUEST_BYTES_MIN or memory_bytes % (nodes * GUEST_GRANULE_BYTES):
        least, granule = nodes * GUEST_BYTES_MIN >> 20, nodes * GUEST_GRANULE_BYTES >> 20
        message = f"{nodes} nodes need memory of at least {least} MiB, a multiple of {granule} MiB"
        raise InputError(message, key="nodes")


def managed_by_index(zones: Iterable[ZoneGeometry], node: int = 0) -> tuple[int, int, int, int]:
    """Managed pages of a node's DMA, DMA32, Normal, Movable; 0 for a zone that it has not."""
    managed = {zone.index: zone.managed_pages for zone in zones if zone.node == node}
    return (
        managed.get(ZONE_DMA, 0),
        managed.get(ZONE_DMA32, 0),
        managed.get(ZONE_NORMAL, 0),
        managed.get(ZONE_MOVABLE, 0),
    )


def _memory_of_nodes(total_pages: int, nodes: int) -> list[list[tuple[int, int]]]:
    """Each node's memory as half-open pfn ranges: its part of low memory, and of high memory."""
    low_end = min(total_pages, LOW_MEMORY_END_PFN)
    hole_pages = NORMAL_PFN - LOW_MEMORY_END_PFN
    share = total_pages // nodes
    found = []
    for node in range(nodes):
        first, end = node * share, (node + 1) * share
        low = (min(first, low_end), min(end, low_end))
        high = (max(first, low_end) + hole_pages, max(end, low_end) + hole_pages)
        found.append([(start, stop) for start, stop in (low, high) if start < stop])
    return found


def _zones_of_node(node: int, memory: list[tuple[int, int]]) -> Iterator[ZoneGeometry]:
    """A node's zones; one reserved run at the start of its first zone above DMA."""
    pages = sum(end - start for start, end in memory)
    node_start, node_end = memory[0][0], memory[-1][1]
    reserved = None
    for index, (lowest, limit) in enumerate(ZONE_LIMITS):
        present = [
            (max(start, lowest), min(end, limit))
            for start, end in memory
            if start < limit and end > lowest
        ]
        if not present:
            continue
        ((first, end),) = present  # the hole of a PC ends where a zone does
        if index == ZONE_DMA:
            yield _dma_zone(pages)
            continue
        if reserved is None:
            reserved = _reserved_pages(node, pages, end - first)
            first += reserved
        spanned = (max(node_start, lowest), min(node_end, limit))
        present_pages = sum(stop - start for start, stop in present)
        yield _zone(node, index, *spanned, present_pages, (first, end))


def _zone(
    node: int,
    index: int,
    start_pfn: int,
    end_pfn: int,
    present_pages: int,
    managed: tuple[int, int],
) -> ZoneGeometry:
    spanned_pages = end_pfn - start_pfn
    name = ZONE_NAMES[index]
    return ZoneGeometry(name, index, start_pfn, spanned_pages, present_pages, (managed,), node)


def _dma_zone(node_pages: int) -> ZoneGeometry:
    """DMA; in a node without DMA32 the reserved quarter lies at its start (pfn 0 to 1023)."""
    first = DMA_MANAGED_PFN if node_pages > DMA32_PFN else node_pages // RESERVED_GUEST_DIVISOR
    present_pages = DMA_CONVENTIONAL_PAGES + DMA32_PFN - DMA_MANAGED_PFN
    return _zone(0, ZONE_DMA, DMA_FIRST_PFN, DMA32_PFN, present_pages, (first, DMA32_PFN))


def _reserved_pages(node: int, node_pages: int, zone_present_pages: int) -> int:
    """Length of a node's reserved run, by the rule of the module's docstring."""
    wanted = node_pages // RESERVED_SHARE + (RESERVED_BASE_PAGES if node == 0 else 0)
    whole_blocks = -(-wanted // MAX_BLOCK_PAGES) * MAX_BLOCK_PAGES
    quarter = node_pages // RESERVED_GUEST_DIVISOR // MAX_BLOCK_PAGES * MAX_BLOCK_PAGES
    return min(whole_blocks, quarter, zone_present_pages // RESERVED_ZONE_DIVISOR)


def _with_movable(zones: list[ZoneGeometry], movable_bytes: int) -> list[ZoneGeometry]:
    """The zones with their Movable zones made out of the highest index there is."""
    highest = max(zone.index for zone in zones)
    spare_blocks = 0
    if highest != ZONE_DMA:
        blocks = [zone.managed_pages // MAX_BLOCK_PAGES for zone in zones if zone.index == highest]
        spare_blocks = sum(max(0, count - 1) for count in blocks)
    if not spare_blocks:
        raise InputError("this guest is too small for a Movable zone", key="movable_bytes")
    most_bytes = spare_blocks * MAX_BLOCK_PAGES * PAGE_BYTES
    _check_size("movable_bytes", movable_bytes, GUEST_GRANULE_BYTES, most_bytes)
    starts = movable_starts(
        [_present(zones, node) for node in range(zones[-1].node + 1)],
        ZONE_LIMITS[highest][0],
        movable_bytes // PAGE_BYTES,
        MAX_BLOCK_PAGES,
    )
    found = []
    for zone in zones:
        start = starts[zone.node]
        if zone.index == highest and start is not None:
            found += _split(zone, start)
        else:
            found.append(zone)
    return found


def _present(zones: list[ZoneGeometry], node: int) -> list[tuple[int, int]]:
    """A node's present page frames, as the kernel counts them when it shares out Movable."""
    found = []
    for zone in zones:
        if zone.node != node:
            continue
        if zone.index == ZONE_DMA:
            found.append((DMA_FIRST_PFN, DMA_FIRST_PFN + DMA_CONVENTIONAL_PAGES))
            found.append((DMA_MANAGED_PFN, zone.end_pfn))
        else:
            end = zone.managed_ranges[-1][1]
            found.append((end - zone.present_pages, end))
    return found


def _split(zone: ZoneGeometry, start_pfn: int) -> list[ZoneGeometry]:
    """`zone` up to `start_pfn`, and zone Movable from there on."""
    first, end = zone.managed_ranges[0]
    if start_pfn - first < MAX_BLOCK_PAGES:
        message = f"zone {zone.name} of node {zone.node} would keep no block of 4 MiB"
        raise InputError(message, key="movable_bytes")
    pages = end - start_pfn
    present_pages = zone.present_pages - pages
    return [
        _zone(zone.node, zone.index, zone.start_pfn, start_pfn, present_pages, (first, start_pfn)),
        _zone(zone.node, ZONE_MOVABLE, start_pfn, zone.end_pfn, pages, (start_pfn, end)),
    ]


def _check_size(key: str, value_bytes: int, low_bytes: int, high_bytes: int) -> None:
    if not low_bytes <= value_bytes <= high_bytes:
        raise InputError(
            f"{value_bytes} bytes is outside {low_bytes >> 20} MiB to {high_bytes >> 20} MiB",
            key=key,
        )
    if value_bytes % GUEST_GRANULE_BYTES:
        raise InputError(f"{value_bytes} bytes is not a multiple of 4 MiB", key=key)
