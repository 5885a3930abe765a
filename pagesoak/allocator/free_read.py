"""Reading the exact `.free` lists, and finding what contradicts itself in them.

Every line is taken by itself first, then the whole is checked: a block lies in its zone, is
aligned to its order, overlaps no other; the sums are the counts the same text names. A model that
starts from a wrong snapshot would be wrong in every result, so nothing is repaired here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from pagesoak.allocator.free_lists import (
    FreeBlock,
    FreeListSnapshot,
    PagesetSnapshot,
    ZoneSnapshot,
)
from pagesoak.base.errors import InputError
from pagesoak.base.textfile import TextFile, excerpt, hex_number, whole_number

MAX_ORDER_LIMIT = 10
"""Largest block order of the modelled kernels (MAX_ORDER 11, exclusive)."""

MAX_MIGRATETYPE = 5
"""Unmovable, movable, reclaimable, highatomic, CMA, isolate."""

MIGRATETYPES = (4, 5, 6)
"""How many a kernel can have: CMA and isolate depend on its configuration."""

STAT_THRESHOLD_MAX = 125
"""Pages each CPU may have changed NR_FREE_PAGES by without yet telling the zone's counter.

`calculate_normal_threshold()` in `mm/vmstat.c` has this upper bound (6 in a 512 MiB guest). So the
counter, which watermarks are tested against, may differ from what the lists hold.
"""

MAX_PFN = 1 << 40
"""Behind every page of a 52-bit physical address."""

MAX_CPUS = 8192
"""The most CPUs Linux can be built for on x86-64."""

MAX_PAGESET_LISTS = 64
"""More per-CPU lists than any kernel has (6.1: 14)."""


def read_free_lists(path: str | Path) -> FreeListSnapshot:
    """The snapshot of a `.free` file, plain or gzip. Raises `InputError` with file and line."""
    text = TextFile(path)
    reader = FreeListReader(text.name)
    for number, line in text:
        reader.feed(number, line)
    return reader.finish()


@dataclass
class _Pageset:
    line: int
    counts: tuple[int, int, int, int]
    lists: dict[int, tuple[int, ...]] = field(default_factory=dict)


@dataclass
class _Zone:
    line: int
    name: str
    start_pfn: int
    numbers: tuple[int, ...]
    free_lists: dict[tuple[int, int], tuple[FreeBlock, ...]] = field(default_factory=dict)
    pagesets: dict[int, _Pageset] = field(default_factory=dict)
    blocks_line: int = 0
    first_pageblock_pfn: int = 0
    pageblock_types: tuple[int, ...] = ()

    @property
    def end_pfn(self) -> int:
        return self.start_pfn + self.numbers[0]


_HEADER = re.compile(
    r"# t_ns=([0-9]{1,18}) pageblock_order=([0-9]{1,2}) orders=0\.\.([0-9]{1,2})"
    r" pcptypes=([0-9]) nr_pcp_lists=([0-9]{1,2}) entries=([0-9]{1,12}) of ([0-9]{1,12})"
)
_LABEL = re.compile(r"[^/]*(?:/[1-9][0-9]{0,2})?")
"""A zone's name, and in another node than 0 that node's number."""
# spanned, managed, min, low, high, nr_free, and at least one lowmem_reserve
_ZONE_NUMBERS_MIN = 7
_NR_FREE = 5


class FreeListReader:
    """Takes the lines of one snapshot and gives the snapshot; `InputError` at the first fault."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._header = FreeListSnapshot((), 0)
        self._header_line = 0  # not seen yet
        self._entries = 0
        self._zones: dict[str, _Zone] = {}
        self._blocks: list[tuple[int, int, int]] = []  # first pfn, end pfn, line
        self._takers: dict[str, Callable[[int, list[str]], None]] = {
            "z": self._take_zone,
            "f": self._take_free_list,
            "c": self._take_pageset,
            "p": self._take_pageset_list,
            "b": self._take_pageblocks,
        }

    def feed(self, line: int, text: str) -> None:
        """One line with its number in the file."""
        if not self._header_line:
            self._take_header(line, text)
        elif text and not text.startswith("#"):
            kind, *parts = text.split(",")
            taker = self._takers.get(kind)
            if taker is None:
                raise self._error(line, f"unknown kind of line: {excerpt(text)}")
            taker(line, parts)

    def finish(self) -> FreeListSnapshot:
        """The snapshot, after all lines; checks what only the whole can show."""
        if not self._header_line:
            raise InputError("no `# t_ns=…` line: not a free-list snapshot", file=self._file)
        if not self._zones:
            raise self._error(self._header_line, "a snapshot without zones")
        for zone in self._zones.values():
            self._check_zone(zone)
        self._check_overlaps()
        zones = tuple(_zone_snapshot(zone) for zone in self._zones.values())
        return self._with_migratetypes(replace(self._header, zones=zones))

    def _error(self, line: int, message: str) -> InputError:
        return InputError(message, file=self._file, line=line)

    def _number(self, line: int, text: str, what: str, limit: int = MAX_PFN) -> int:
        value = whole_number(text, what, file=self._file, line=line)
        if value > limit:
            raise self._error(line, f"{what} {value} is above {limit}")
        return value

    def _pfn(self, line: int, text: str) -> int:
        pfn = hex_number(text, "pfn", file=self._file, line=line)
        if pfn > MAX_PFN:
            raise self._error(line, f"pfn {pfn:#x} is above {MAX_PFN:#x}")
        return pfn

    def _parts(self, line: int, parts: list[str], names: str) -> list[str]:
        if len(parts) != len(names.split()):
            raise self._error(line, f"expected the fields {names}, found {len(parts)}")
        return parts

    def _zone(self, line: int, name: str) -> _Zone:
        zone = self._zones.get(name)
        if zone is None:
            raise self._error(line, f"zone {excerpt(name)} has no z, line before this one")
        return zone

    # ---- lines ----

    def _take_header(self, line: int, text: str) -> None:
        match = _HEADER.fullmatch(text)
        if match is None:
            raise self._error(line, f"expected `# t_ns=… entries=N of M`, found {excerpt(text)}")
        t_ns, pageblock_order, max_order, pcptypes, lists, entries, most = map(int, match.groups())
        if max_order > MAX_ORDER_LIMIT or pageblock_order > max_order:
            raise self._error(line, f"orders 0..{max_order}: at most 0..{MAX_ORDER_LIMIT} are")
        if not pcptypes or lists > MAX_PAGESET_LISTS:
            raise self._error(line, "pcptypes or nr_pcp_lists is out of range")
        if entries >= most:
            raise self._error(line, f"{entries} of {most} entries: the recorder ran out of room")
        self._header = FreeListSnapshot(
            (), t_ns, pageblock_order, max_order, pcptypes, lists, entries_max=most
        )
        self._header_line = line
        self._entries = entries

    def _take_zone(self, line: int, parts: list[str]) -> None:
        if len(parts) < _ZONE_NUMBERS_MIN + 2:
            raise self._error(line, "the zone's line is too short")
        name = parts[0]
        if _LABEL.fullmatch(name) is None:
            raise self._error(
                line, f"{excerpt(name)} is no zone: NAME, or NAME/NODE from node 1 on"
            )
        if name in self._zones:
            raise self._error(line, f"zone {excerpt(name)} for the second time")
        numbers = tuple(self._number(line, text, "a number of the zone") for text in parts[2:])
        spanned, managed, wmark_min, wmark_low, wmark_high, _, *_ = numbers
        if managed > spanned:
            raise self._error(line, f"{managed} managed pages in a span of {spanned}")
        if not wmark_min <= wmark_low <= wmark_high:
            raise self._error(line, f"watermarks {wmark_min}, {wmark_low}, {wmark_high} fall")
        self._zones[name] = _Zone(line, name, self._pfn(line, parts[1]), numbers)

    def _take_free_list(self, line: int, parts: list[str]) -> None:
        zone_name, order_text, type_text, pfns = self._parts(
            line, parts, "zone order migratetype pfns"
        )
        zone = self._zone(line, zone_name)
        order = self._number(line, order_text, "order", self._header.max_order)
        migratetype = self._number(line, type_text, "migratetype", MAX_MIGRATETYPE)
        if (order, migratetype) in zone.free_lists:
            again = f"the list of order {order}, migratetype {migratetype} of {zone.name}"
            raise self._error(line, f"{again} for the second time")
        blocks = []
        for text in pfns.split(" "):
            reported = text.endswith("r")
            pfn = self._pfn(line, text[:-1] if reported else text)
            self._take_block(line, zone, pfn, order)
            blocks.append(FreeBlock(pfn, reported))
        zone.free_lists[order, migratetype] = tuple(blocks)

    def _take_pageset(self, line: int, parts: list[str]) -> None:
        zone_name, cpu_text, *counts = self._parts(
            line, parts, "zone cpu count high batch free_factor"
        )
        zone = self._zone(line, zone_name)
        cpu = self._number(line, cpu_text, "cpu", MAX_CPUS)
        if cpu in zone.pagesets:
            raise self._error(line, f"the pageset of cpu {cpu} of {zone.name} for the second time")
        count, high, batch, free_factor = (
            self._number(line, text, "a number of the pageset") for text in counts
        )
        zone.pagesets[cpu] = _Pageset(line, (count, high, batch, free_factor))

    def _take_pageset_list(self, line: int, parts: list[str]) -> None:
        zone_name, cpu_text, index_text, pfns = self._parts(line, parts, "zone cpu index pfns")
        zone = self._zone(line, zone_name)
        cpu = self._number(line, cpu_text, "cpu", MAX_CPUS)
        pageset = zone.pagesets.get(cpu)
        if pageset is None:
            raise self._error(line, f"cpu {cpu} of {zone.name} has no c, line before this one")
        index = self._number(line, index_text, "index", self._header.nr_pcp_lists - 1)
        if index in pageset.lists:
            raise self._error(line, f"list {index} of cpu {cpu}, {zone.name} for the second time")
        order = self._header.pcp_order(index)
        blocks = tuple(self._pfn(line, text) for text in pfns.split(" "))
        for pfn in blocks:
            self._take_block(line, zone, pfn, order)
        pageset.lists[index] = blocks

    def _take_pageblocks(self, line: int, parts: list[str]) -> None:
        zone_name, pfn_text, digits = self._parts(line, parts, "zone pfn digits")
        zone = self._zone(line, zone_name)
        if zone.blocks_line:
            raise self._error(line, f"the page blocks of {zone.name} for the second time")
        types = tuple(self._number(line, digit, "type", MAX_MIGRATETYPE) for digit in digits)
        size = 1 << self._header.pageblock_order
        first_pfn = self._pfn(line, pfn_text)
        if first_pfn != zone.start_pfn // size * size:
            raise self._error(line, f"page blocks from {first_pfn:#x}, not from the zone's start")
        wanted = -(-(zone.end_pfn - first_pfn) // size)
        if len(types) != wanted:
            raise self._error(line, f"{len(types)} page blocks; the zone's span has {wanted}")
        zone.blocks_line = line
        zone.first_pageblock_pfn = first_pfn
        zone.pageblock_types = types

    def _take_block(self, line: int, zone: _Zone, pfn: int, order: int) -> None:
        end = pfn + (1 << order)
        if pfn & ((1 << order) - 1):
            raise self._error(line, f"pfn {pfn:#x} is not aligned to order {order}")
        if pfn < zone.start_pfn or end > zone.end_pfn:
            raise self._error(line, f"the block at {pfn:#x} is not within zone {zone.name}")
        self._blocks.append((pfn, end, line))

    # ---- the whole ----

    def _with_migratetypes(self, snapshot: FreeListSnapshot) -> FreeListSnapshot:
        """How many migratetypes there are follows from the number of entries promised."""
        for migratetypes in MIGRATETYPES:
            candidate = replace(snapshot, migratetypes=migratetypes)
            if len(self._blocks) + candidate.list_count == self._entries:
                return candidate
        message = f"{self._entries} entries promised, {len(self._blocks)} blocks found"
        raise self._error(self._header_line, f"{message}: that fits no number of lists")

    def _check_zone(self, zone: _Zone) -> None:
        nr_free = zone.numbers[_NR_FREE]
        listed = sum(len(blocks) << order for (order, _), blocks in zone.free_lists.items())
        if abs(listed - nr_free) > STAT_THRESHOLD_MAX * max(len(zone.pagesets), 1):
            raise self._error(zone.line, f"nr_free is {nr_free}, its lists hold {listed} pages")
        for cpu, pageset in zone.pagesets.items():
            lists = pageset.lists.items()
            held = sum(len(pfns) << self._header.pcp_order(index) for index, pfns in lists)
            if held != pageset.counts[0]:
                message = f"cpu {cpu} counts {pageset.counts[0]} pages, its lists hold {held}"
                raise self._error(pageset.line, message)
        if not zone.blocks_line:
            raise self._error(zone.line, f"zone {zone.name} has no b, line")

    def _check_overlaps(self) -> None:
        zones = sorted(self._zones.values(), key=lambda zone: zone.start_pfn)
        for below, above in pairwise(zones):
            if above.start_pfn < below.end_pfn:
                raise self._error(above.line, f"zones {below.name} and {above.name} overlap")
        blocks = sorted(self._blocks)
        for (pfn, end, line), (other, _, other_line) in pairwise(blocks):
            if other < end:
                first, second = sorted((line, other_line))
                message = f"the block at {other:#x} overlaps the one at {pfn:#x} (line {first})"
                raise self._error(second, message)


def _zone_snapshot(zone: _Zone) -> ZoneSnapshot:
    name, _, node = zone.name.partition("/")
    spanned, managed, wmark_min, wmark_low, wmark_high, nr_free, *reserve = zone.numbers
    return ZoneSnapshot(
        name,
        zone.start_pfn,
        spanned,
        managed,
        wmark_min,
        wmark_low,
        wmark_high,
        nr_free,
        tuple(reserve),
        zone.free_lists,
        tuple(
            PagesetSnapshot(cpu, *pageset.counts, pageset.lists)
            for cpu, pageset in zone.pagesets.items()
        ),
        zone.first_pageblock_pfn,
        zone.pageblock_types,
        int(node or 0),
    )
