"""The exact free lists of a guest at one instant: the `.free` format, its data and its writer.

A snapshot is taken with interrupts off, so it is one state: every zone's free lists in list order
with the Reported flag, the per-CPU lists in order, the type of every page block, the watermarks.
The text explains itself in its `#` lines; a zone of a node other than 0 has the node's number
behind its name (`DMA32/1`). Reading and checking: `pagesoak.allocator.free_read`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

COSTLY_ORDER = 3
"""Largest order but the huge page's that per-CPU lists hold (PAGE_ALLOC_COSTLY_ORDER)."""

RECORDER_ENTRIES_MAX = 200_000
"""Entries the recorder of the committed snapshots has room for; it says so in the first line."""


class FreeBlock(NamedTuple):
    """A block on a buddy free list; `reported` is its PageReported flag."""

    pfn: int
    reported: bool = False


@dataclass(frozen=True)
class PagesetSnapshot:
    """One CPU's pageset of a zone: counts in pages, lists from head to tail.

    `lists`: by index (migratetype + pcptypes x order; beyond the costly orders, huge pages) to
    pfns; only lists that are not empty.
    """

    cpu: int
    count: int
    high: int
    batch: int
    free_factor: int
    lists: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ZoneSnapshot:
    """One populated zone; counts in pages.

    `nr_free` is the zone's NR_FREE_PAGES counter. The CPUs bring it up to date in steps, so it
    may differ from `listed_pages` by some pages.
    `free_lists`: by (order, migratetype) to blocks from head to tail; only lists that are not
    empty. `pageblock_types[i]` is the migratetype of the page block at
    `first_pageblock_pfn + (i << pageblock_order)`; the first begins at or before `start_pfn`.
    `lowmem_reserve[i]` is kept from requests whose highest zone index is i.
    """

    name: str
    start_pfn: int
    spanned: int
    managed: int
    wmark_min: int
    wmark_low: int
    wmark_high: int
    nr_free: int
    lowmem_reserve: tuple[int, ...]
    free_lists: Mapping[tuple[int, int], tuple[FreeBlock, ...]]
    pagesets: tuple[PagesetSnapshot, ...]
    first_pageblock_pfn: int
    pageblock_types: tuple[int, ...]
    node: int = 0

    @property
    def label(self) -> str:
        """The zone's name; of a node other than 0 with its number, as in `DMA32/1`."""
        return f"{self.name}/{self.node}" if self.node else self.name

    @property
    def end_pfn(self) -> int:
        """The first pfn behind the zone."""
        return self.start_pfn + self.spanned

    @property
    def listed_pages(self) -> int:
        """Pages on the buddy free lists."""
        return sum(len(blocks) << order for (order, _), blocks in self.free_lists.items())


@dataclass(frozen=True)
class FreeListSnapshot:
    """All zones at `t_ns` of the guest's monotonic clock, and the constants of its kernel.

    `max_order` is the largest block order, inclusive; `migratetypes` how many there are. The
    recorder had room for `entries_max` entries: one per block, and one per list, empty or not.
    """

    zones: tuple[ZoneSnapshot, ...]
    t_ns: int
    pageblock_order: int = 9
    max_order: int = 10
    pcptypes: int = 3
    nr_pcp_lists: int = 14
    migratetypes: int = 5
    entries_max: int = RECORDER_ENTRIES_MAX

    def pcp_order(self, index: int) -> int:
        """Block order of a per-CPU list (`pindex_to_order()`); huge pages are the last lists."""
        order = index // self.pcptypes
        return order if order <= COSTLY_ORDER else self.pageblock_order

    @property
    def list_count(self) -> int:
        """Buddy lists and per-CPU lists of all zones, empty or not."""
        buddy_lists = len(self.zones) * (self.max_order + 1) * self.migratetypes
        return buddy_lists + sum(len(zone.pagesets) for zone in self.zones) * self.nr_pcp_lists

    def zone_of(self, pfn: int) -> ZoneSnapshot | None:
        """The zone whose span holds a pfn."""
        for zone in self.zones:
            if zone.start_pfn <= pfn < zone.end_pfn:
                return zone
        return None

    def free_blocks(self) -> Iterator[tuple[int, int]]:
        """(pfn, order) of every block that is on a free list or in a pageset."""
        for zone in self.zones:
            for (order, _), blocks in zone.free_lists.items():
                yield from ((block.pfn, order) for block in blocks)
            for pageset in zone.pagesets:
                for index, pfns in pageset.lists.items():
                    order = self.pcp_order(index)
                    yield from ((pfn, order) for pfn in pfns)


# As the recorder writes it into every snapshot.
_EXPLANATION = """\
# z,zone,start_pfn,spanned,managed,wmark_min,wmark_low,wmark_high,nr_free,lowmem_reserve...
# f,zone,order,migratetype,pfns (hex) from list head to tail; r after a pfn = PageReported
# c,zone,cpu,count,high,batch,free_factor
# p,zone,cpu,pcp list index (pcptypes*order+migratetype; last = THP),pfns from head to tail
# b,zone,first pfn of first pageblock,one digit per pageblock = migratetype
""".splitlines()


def format_free_lists(snapshot: FreeListSnapshot) -> str:
    """The text of a `.free` file. A snapshot that was read gives the same bytes again."""
    entries = sum(1 for _ in snapshot.free_blocks()) + snapshot.list_count
    constants = (
        f"# t_ns={snapshot.t_ns} pageblock_order={snapshot.pageblock_order}"
        f" orders=0..{snapshot.max_order} pcptypes={snapshot.pcptypes}"
        f" nr_pcp_lists={snapshot.nr_pcp_lists} entries={entries} of {snapshot.entries_max}"
    )
    lines = [constants, *_EXPLANATION]
    for zone in snapshot.zones:
        lines += _zone_lines(zone)
    return "".join(f"{line}\n" for line in lines)


def _zone_lines(zone: ZoneSnapshot) -> Iterator[str]:
    numbers = (
        zone.spanned,
        zone.managed,
        zone.wmark_min,
        zone.wmark_low,
        zone.wmark_high,
        zone.nr_free,
        *zone.lowmem_reserve,
    )
    yield f"z,{zone.label},{zone.start_pfn:x},{','.join(map(str, numbers))}"
    for (order, migratetype), blocks in sorted(zone.free_lists.items()):
        if blocks:
            text = " ".join(f"{pfn:x}{'r' if reported else ''}" for pfn, reported in blocks)
            yield f"f,{zone.label},{order},{migratetype},{text}"
    for pageset in zone.pagesets:
        counts = (pageset.cpu, pageset.count, pageset.high, pageset.batch, pageset.free_factor)
        yield f"c,{zone.label},{','.join(map(str, counts))}"
        for index, pfns in sorted(pageset.lists.items()):
            if pfns:
                text = " ".join(f"{pfn:x}" for pfn in pfns)
                yield f"p,{zone.label},{pageset.cpu},{index},{text}"
    types = "".join(map(str, zone.pageblock_types))
    yield f"b,{zone.label},{zone.first_pageblock_pfn:x},{types}"
