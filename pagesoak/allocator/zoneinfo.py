"""/proc/zoneinfo: reading it, and writing it as the kernel does.

Formats as of Linux 5.x to 6.12 and a little beyond (`zoneinfo_show_print()` in `mm/vmstat.c`).
Versions differ in which lines there are: a field of a line that was not printed is None (or an
empty tuple), and the writer leaves that line out. Statistics are kept as (name, value) in their
order, so what a kernel printed comes back byte for byte.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pagesoak.allocator.procfs import MAX_PROC_BYTES, Cursor
from pagesoak.base.textfile import NumberedLines, TextFile

Counters = tuple[tuple[str, int], ...]
"""Names and values in the order of their lines."""


@dataclass(frozen=True)
class PagesetInfo:
    """One CPU's pageset of a zone, pages; `high_min` and `high_max` since 6.7."""

    cpu: int
    count: int
    high: int
    batch: int
    high_min: int | None = None
    high_max: int | None = None
    stat_threshold: int | None = None


@dataclass(frozen=True)
class ZoneInfo:
    """One zone, pages. Of an unpopulated zone the kernel prints nothing after `protection`.

    `node_stats` is there at the first populated zone of a node. `boost` is printed since 5.14,
    `promo` and `cma` by some versions; `wmark_*` include the boost. `protection` is
    lowmem_reserve by zone index. `more_pages` and `tail` hold counts of lines that are newer than
    this reader, printed after `cma` and after `start_pfn`.
    """

    node: int
    zone: str
    free: int
    wmark_min: int
    wmark_low: int
    wmark_high: int
    spanned: int
    present: int
    managed: int
    protection: tuple[int, ...]
    boost: int | None = None
    promo: int | None = None
    cma: int | None = None
    more_pages: Counters = ()
    node_stats: Counters = ()
    zone_stats: Counters = ()
    pagesets: tuple[PagesetInfo, ...] = ()
    node_unreclaimable: int | None = None
    start_pfn: int | None = None
    tail: Counters = ()

    @property
    def populated(self) -> bool:
        """Whether the zone has pages, by the kernel's test."""
        return self.present > 0


def read_zoneinfo(path: str | Path) -> tuple[ZoneInfo, ...]:
    """The zones of a /proc/zoneinfo, in its order; plain or gzip. Raises `InputError`."""
    text = TextFile(path, max_bytes=MAX_PROC_BYTES)
    return parse_zoneinfo(text, text.name)


def parse_zoneinfo(lines: NumberedLines, file: str) -> tuple[ZoneInfo, ...]:
    """As `read_zoneinfo`, from lines; `file` names them in errors."""
    cursor = Cursor(lines, file)
    zones: dict[tuple[int, str], ZoneInfo] = {}
    while True:
        place = cursor.line
        zone = _zone(cursor)
        if (zone.node, zone.zone) in zones:
            back = cursor.line - place
            raise cursor.error(f"node {zone.node}, zone {zone.zone} for the second time", back)
        zones[zone.node, zone.zone] = zone
        if cursor.peek() is None:
            return tuple(zones.values())


_NUMBER = "([0-9]{1,20})"
_HEADING = re.compile(rf"Node {_NUMBER}, zone +(\S+)")
_NODE_STATS = re.compile(r"  per-node stats")
_STAT = re.compile(rf"      (\w+) +{_NUMBER}")
_FREE = re.compile(rf"  pages free +{_NUMBER}")
_PAGES = re.compile(rf"        (\w+) +{_NUMBER}")
_PROTECTION = re.compile(r"        protection: \(([0-9, ]+)\)")
_PAGESETS = re.compile(r"  pagesets")
_CPU = re.compile(rf"    cpu: {_NUMBER}")
_PAGESET_FIELD = re.compile(rf" {{14}}(\w+): +{_NUMBER}")
_THRESHOLD = re.compile(rf"  vm stats threshold: {_NUMBER}")
_TAIL = re.compile(rf"  (\w+): +{_NUMBER}")

# Name of a line, and the field it goes to.
_PAGES_FIELDS = {
    "boost": "boost",
    "min": "wmark_min",
    "low": "wmark_low",
    "high": "wmark_high",
    "promo": "promo",
    "spanned": "spanned",
    "present": "present",
    "managed": "managed",
    "cma": "cma",
}
_PAGES_NEEDED = ("min", "low", "high", "spanned", "present", "managed")
_PAGESET_NEEDED = ("count", "high", "batch")
_PAGESET_FIELDS = (*_PAGESET_NEEDED, "high_min", "high_max")
_TAIL_FIELDS = ("node_unreclaimable", "start_pfn")


def _zone(cursor: Cursor) -> ZoneInfo:
    heading = cursor.take(_HEADING, "`Node N, zone NAME`")
    node_stats: Counters = ()
    if cursor.take_if(_NODE_STATS):
        node_stats = _counters(cursor, _STAT)
    free = int(cursor.take(_FREE, "`pages free N`")[1])
    place = cursor.line
    pages = _unique(cursor, _counters(cursor, _PAGES), place)
    _need(cursor, pages, _PAGES_NEEDED)
    protection = cursor.take(_PROTECTION, "`protection: (N, N, …)`")[1]
    reserve = cursor.numbers(protection.replace(",", " "), "protection")
    zone_stats = _counters(cursor, _STAT)
    pagesets = []
    if cursor.take_if(_PAGESETS):
        while match := cursor.take_if(_CPU):
            pagesets.append(_pageset(cursor, int(match[1])))
    place = cursor.line
    tail = _unique(cursor, _counters(cursor, _TAIL), place)
    return ZoneInfo(
        node=int(heading[1]),
        zone=heading[2],
        free=free,
        **{field: pages[name] for name, field in _PAGES_FIELDS.items() if name in pages},
        protection=reserve,
        more_pages=tuple(item for item in pages.items() if item[0] not in _PAGES_FIELDS),
        node_stats=node_stats,
        zone_stats=zone_stats,
        pagesets=tuple(pagesets),
        **{name: tail[name] for name in _TAIL_FIELDS if name in tail},
        tail=tuple(item for item in tail.items() if item[0] not in _TAIL_FIELDS),
    )


def _pageset(cursor: Cursor, cpu: int) -> PagesetInfo:
    place = cursor.line
    fields = _unique(cursor, _counters(cursor, _PAGESET_FIELD), place)
    _need(cursor, fields, _PAGESET_NEEDED)
    for offset, name in enumerate(fields):
        if name not in _PAGESET_FIELDS:
            raise cursor.error(f"unknown pageset field {name}", back=len(fields) - offset)
    threshold = cursor.take_if(_THRESHOLD)
    return PagesetInfo(
        cpu, **fields, stat_threshold=None if threshold is None else int(threshold[1])
    )


def _counters(cursor: Cursor, pattern: re.Pattern[str]) -> Counters:
    found = []
    while match := cursor.take_if(pattern):
        found.append((match[1], int(match[2])))
    return tuple(found)


def _unique(cursor: Cursor, counters: Counters, first_line: int) -> dict[str, int]:
    unique: dict[str, int] = {}
    for offset, (name, value) in enumerate(counters):
        if name in unique:
            back = cursor.line - first_line - offset
            raise cursor.error(f"{name} for the second time", back)
        unique[name] = value
    return unique


def _need(cursor: Cursor, found: dict[str, int], names: Iterable[str]) -> None:
    for name in names:
        if name not in found:
            raise cursor.error(f"a line for {name} is missing before this one")


def format_zoneinfo(zones: Iterable[ZoneInfo]) -> str:
    """The text of /proc/zoneinfo."""
    lines: list[str] = []
    for zone in zones:
        _format_zone(zone, lines.append)
    return "".join(f"{line}\n" for line in lines)


def _format_zone(zone: ZoneInfo, add: Callable[[str], None]) -> None:
    add(f"Node {zone.node}, zone {zone.zone:>8}")
    if zone.node_stats:
        add("  per-node stats")
        _format_stats(zone.node_stats, add)
    add(f"  pages free     {zone.free}")
    for name, field in _PAGES_FIELDS.items():
        value = getattr(zone, field)
        if value is not None:
            add(f"        {name:<8} {value}")
    for name, value in zone.more_pages:
        add(f"        {name:<8} {value}")
    add(f"        protection: ({', '.join(map(str, zone.protection))})")
    if not zone.populated:
        return
    _format_stats(zone.zone_stats, add)
    add("  pagesets")
    for pageset in zone.pagesets:
        _format_pageset(pageset, add)
    tail = [(name, getattr(zone, name)) for name in _TAIL_FIELDS]
    for name, value in [*tail, *zone.tail]:
        if value is not None:
            add(f"  {name + ':':<20} {value}")


def _format_stats(counters: Counters, add: Callable[[str], None]) -> None:
    for name, value in counters:
        add(f"      {name:<12} {value}")


def _format_pageset(pageset: PagesetInfo, add: Callable[[str], None]) -> None:
    add(f"    cpu: {pageset.cpu}")
    values = {name: getattr(pageset, name) for name in _PAGESET_FIELDS}
    printed = {name: value for name, value in values.items() if value is not None}
    width = max(map(len, printed)) + 1
    for name, value in printed.items():
        add(f"{'':14}{name + ':':<{width}} {value}")
    if pageset.stat_threshold is not None:
        add(f"  vm stats threshold: {pageset.stat_threshold}")
