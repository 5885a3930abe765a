"""/proc/buddyinfo and /proc/pagetypeinfo: reading them, and writing them as the kernel does.

Formats as of Linux 5.x to 6.12 (`mm/vmstat.c`): what a kernel printed comes back byte for byte
from the writer. /proc/zoneinfo is in `pagesoak.allocator.zoneinfo`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pagesoak.base.errors import InputError
from pagesoak.base.textfile import NumberedLines, TextFile, excerpt, whole_number

MAX_PROC_BYTES = 64 << 20
"""Bytes of one /proc file: the pagesets of 1024 CPUs in 64 zones take a tenth of it."""

PAGETYPE_COUNT_CAP = 100_000
"""Where the kernel stops counting a list of /proc/pagetypeinfo (since 5.5, so as not to hold the
zone lock): it prints `>100000`, which is read as this number; this and more is so written.
"""

DEFAULT_ORDERS = 11
DEFAULT_PAGEBLOCK_ORDER = 9


@dataclass(frozen=True)
class BuddyZone:
    """A line of /proc/buddyinfo: free blocks of each order from 0 on."""

    node: int
    zone: str
    free_blocks: tuple[int, ...]


@dataclass(frozen=True)
class TypeFree:
    """Free blocks of one migratetype of a zone, per order, none above `PAGETYPE_COUNT_CAP`."""

    node: int
    zone: str
    migratetype: str
    free_blocks: tuple[int, ...]


@dataclass(frozen=True)
class TypeBlocks:
    """Page blocks of a zone, one count per migratetype in the order of the heading."""

    node: int
    zone: str
    blocks: tuple[int, ...]


@dataclass(frozen=True)
class PageTypeNode:
    """What /proc/pagetypeinfo prints for one node with memory.

    `mixed` (page blocks that hold other types too) is there when the kernel tracks page owners.
    """

    migratetypes: tuple[str, ...]
    free: tuple[TypeFree, ...]
    blocks: tuple[TypeBlocks, ...]
    mixed: tuple[TypeBlocks, ...] | None = None
    pageblock_order: int = DEFAULT_PAGEBLOCK_ORDER
    orders: int = DEFAULT_ORDERS


class Cursor:
    """The lines of a small text, looked at one ahead; errors carry the place."""

    def __init__(self, lines: NumberedLines, file: str) -> None:
        self._lines = tuple(lines)
        self._position = 0
        self.file = file

    @property
    def line(self) -> int:
        """Number of the line `peek` shows; past the end, one more than the last."""
        if self._position < len(self._lines):
            return self._lines[self._position][0]
        return self._lines[-1][0] + 1 if self._lines else 1

    def peek(self) -> str | None:
        """The next line, None at the end."""
        if self._position < len(self._lines):
            return self._lines[self._position][1]
        return None

    def take(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        """The next line matched whole, or an error saying that `what` was expected."""
        match = self.take_if(pattern)
        if match is None:
            raise self.error(f"expected {what}, found {self._found()}")
        return match

    def take_if(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The next line if the pattern matches the whole of it; it stays otherwise."""
        line = self.peek()
        match = None if line is None else pattern.fullmatch(line)
        if match is not None:
            self._position += 1
        return match

    def error(self, message: str, back: int = 0) -> InputError:
        """An error at the next line, or `back` lines before it."""
        return InputError(message, file=self.file, line=self.line - back)

    def numbers(self, text: str, what: str) -> tuple[int, ...]:
        """Blank-separated counts of the line just taken."""
        place = self.line - 1
        return tuple(whole_number(word, what, file=self.file, line=place) for word in text.split())

    def _found(self) -> str:
        line = self.peek()
        return "the end of the file" if line is None else excerpt(line)


def read_buddyinfo(path: str | Path) -> tuple[BuddyZone, ...]:
    """The zones of a /proc/buddyinfo, in its order; plain or gzip. Raises `InputError`."""
    text = TextFile(path, max_bytes=MAX_PROC_BYTES)
    return parse_buddyinfo(text, text.name)


def read_pagetypeinfo(path: str | Path) -> tuple[PageTypeNode, ...]:
    """The nodes of a /proc/pagetypeinfo, in its order; plain or gzip. Raises `InputError`."""
    text = TextFile(path, max_bytes=MAX_PROC_BYTES)
    return parse_pagetypeinfo(text, text.name)


_BUDDY_LINE = re.compile(r"Node +([0-9]+), zone +(\S+)((?: +[0-9]+)+) *")


def parse_buddyinfo(lines: NumberedLines, file: str) -> tuple[BuddyZone, ...]:
    """As `read_buddyinfo`, from lines; `file` names them in errors."""
    cursor = Cursor(lines, file)
    zones: dict[tuple[int, str], BuddyZone] = {}
    orders: int | None = None
    while cursor.peek() is not None:
        match = cursor.take(_BUDDY_LINE, "`Node N, zone NAME` and counts of free blocks")
        node = cursor.numbers(match[1], "node")[0]
        counts = cursor.numbers(match[3], "free blocks")
        if orders is not None and len(counts) != orders:
            raise cursor.error(f"{len(counts)} orders, the zones before have {orders}", back=1)
        if (node, match[2]) in zones:
            raise cursor.error(f"node {node}, zone {match[2]} for the second time", back=1)
        orders = len(counts)
        zones[node, match[2]] = BuddyZone(node, match[2], counts)
    if not zones:
        raise cursor.error("no zone in it")
    return tuple(zones.values())


def format_buddyinfo(zones: Iterable[BuddyZone]) -> str:
    """The text of /proc/buddyinfo."""
    return "".join(
        f"Node {zone.node}, zone {zone.zone:>8} {_columns(zone.free_blocks)}\n" for zone in zones
    )


_PAGEBLOCK_ORDER = re.compile(r"Page block order: ([0-9]{1,2})")
_PAGES_PER_BLOCK = re.compile(r"Pages per block:  ([0-9]{1,20})")
_FREE_HEADING = re.compile(r"Free pages count per migrate type at order((?: +[0-9]+)+) *")
_FREE_LINE = re.compile(r"Node +([0-9]+), zone +(\S+), type +(\S+)((?: +>?[0-9]+)+) *")
_BLOCKS_HEADING = re.compile(r"Number of blocks type +(\S.*)")
_MIXED_HEADING = re.compile(r"Number of mixed blocks +(\S.*)")
_BLOCKS_LINE = re.compile(r"Node +([0-9]+), zone +(\S+)((?: +[0-9]+)+) *")
_EMPTY = re.compile(r"\s*")


def parse_pagetypeinfo(lines: NumberedLines, file: str) -> tuple[PageTypeNode, ...]:
    """As `read_pagetypeinfo`, from lines; `file` names them in errors."""
    cursor = Cursor(lines, file)
    nodes = [_page_type_node(cursor)]
    while cursor.peek() is not None:
        nodes.append(_page_type_node(cursor))
    return tuple(nodes)


def _page_type_node(cursor: Cursor) -> PageTypeNode:
    pageblock_order = int(cursor.take(_PAGEBLOCK_ORDER, "`Page block order: N`")[1])
    pages_per_block = int(cursor.take(_PAGES_PER_BLOCK, "`Pages per block:  N`")[1])
    if pages_per_block != 1 << pageblock_order:
        raise cursor.error(f"a page block of order {pageblock_order} has other pages", back=1)
    cursor.take(_EMPTY, "an empty line")
    heading = cursor.take(_FREE_HEADING, "`Free pages count per migrate type at order`")
    orders = cursor.numbers(heading[1], "order")
    if orders != tuple(range(len(orders))):
        raise cursor.error("the orders do not count up from 0", back=1)
    free = []
    while match := cursor.take_if(_FREE_LINE):
        free.append(_type_free(cursor, match, len(orders)))
    cursor.take(_EMPTY, "counts of free blocks or an empty line")
    types = tuple(cursor.take(_BLOCKS_HEADING, "`Number of blocks type`")[1].split())
    blocks = _type_blocks(cursor, len(types))
    mixed = None
    if cursor.take_if(_EMPTY):
        again = cursor.take(_MIXED_HEADING, "`Number of mixed blocks`")[1].split()
        if tuple(again) != types:
            raise cursor.error("other migratetypes than in the heading before", back=1)
        mixed = _type_blocks(cursor, len(types))
    return PageTypeNode(types, tuple(free), blocks, mixed, pageblock_order, len(orders))


def _type_free(cursor: Cursor, match: re.Match[str], orders: int) -> TypeFree:
    counts = cursor.numbers(match[4].replace(">", ""), "free blocks")
    if len(counts) != orders:
        raise cursor.error(f"{len(counts)} counts under a heading of {orders} orders", back=1)
    return TypeFree(cursor.numbers(match[1], "node")[0], match[2], match[3], counts)


def _type_blocks(cursor: Cursor, types: int) -> tuple[TypeBlocks, ...]:
    zones = []
    while match := cursor.take_if(_BLOCKS_LINE):
        counts = cursor.numbers(match[3], "page blocks")
        if len(counts) != types:
            raise cursor.error(f"{len(counts)} counts under a heading of {types} types", back=1)
        zones.append(TypeBlocks(cursor.numbers(match[1], "node")[0], match[2], counts))
    return tuple(zones)


def format_pagetypeinfo(nodes: Iterable[PageTypeNode]) -> str:
    """The text of /proc/pagetypeinfo."""
    return "".join(_format_page_type_node(node) for node in nodes)


def _format_page_type_node(node: PageTypeNode) -> str:
    heading = "Free pages count per migrate type at order"
    parts = [
        f"Page block order: {node.pageblock_order}\n",
        f"Pages per block:  {1 << node.pageblock_order}\n\n",
        f"{heading:<43} {_columns(range(node.orders))}\n",
    ]
    for free in node.free:
        counts = "".join(_capped(count) for count in free.free_blocks)
        zone = f"Node {free.node:>4}, zone {free.zone:>8}"
        parts.append(f"{zone}, type {free.migratetype:>12} {counts}\n")
    parts.append(_format_blocks("Number of blocks type ", node.migratetypes, node.blocks))
    if node.mixed is not None:
        parts.append(_format_blocks("Number of mixed blocks ", node.migratetypes, node.mixed))
    return "".join(parts)


def _capped(count: int) -> str:
    if count >= PAGETYPE_COUNT_CAP:
        return f">{PAGETYPE_COUNT_CAP:6d} "
    return f"{count:6d} "


def _format_blocks(heading: str, types: Sequence[str], zones: Iterable[TypeBlocks]) -> str:
    parts = [f"\n{heading:<23}", *(f"{name:>12} " for name in types), "\n"]
    for zone in zones:
        counts = "".join(f"{count:12d} " for count in zone.blocks)
        parts.append(f"Node {zone.node}, zone {zone.zone:>8} {counts}\n")
    return "".join(parts)


def _columns(counts: Iterable[int]) -> str:
    return "".join(f"{count:6d} " for count in counts)
