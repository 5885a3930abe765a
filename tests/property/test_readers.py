"""Readers of kernel text: nothing but `InputError` from any text; writers read back the same."""

import gzip
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagesoak.allocator.free_lists import (
    FreeBlock,
    FreeListSnapshot,
    PagesetSnapshot,
    ZoneSnapshot,
    format_free_lists,
)
from pagesoak.allocator.free_read import FreeListReader, read_free_lists
from pagesoak.allocator.gfp import GfpFlags, pack_gfp, parse_gfp, unpack_gfp
from pagesoak.allocator.procfs import (
    PAGETYPE_COUNT_CAP,
    BuddyZone,
    PageTypeNode,
    TypeBlocks,
    TypeFree,
    format_buddyinfo,
    format_pagetypeinfo,
    parse_buddyinfo,
    parse_pagetypeinfo,
)
from pagesoak.allocator.recording import Recording, load_trace
from pagesoak.allocator.requests import ALLOC, FREE, FREE_BOOT
from pagesoak.allocator.snapshot_series import read_snapshots
from pagesoak.allocator.trace import parse_trace
from pagesoak.allocator.zoneinfo import PagesetInfo, ZoneInfo, format_zoneinfo, parse_zoneinfo
from pagesoak.base.errors import InputError
from pagesoak.base.textfile import NumberedLines, TextFile

# No deadline: the machine may be busy, and a slow example is no mistake.
patient = settings(deadline=None, max_examples=60)

RECORDINGS = Path(__file__).parents[1] / "recordings"


def recorded(name: str, lines: slice = slice(None)) -> str:
    text = gzip.decompress((RECORDINGS / name).read_bytes()).decode()
    return "".join(text.splitlines(keepends=True)[lines])


def numbered(text: str) -> NumberedLines:
    return enumerate(text.split("\n"), 1)


@contextmanager
def file_of(content: str | bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        if isinstance(content, str):
            content = content.encode(errors="surrogatepass")
        path.write_bytes(content)
        yield path


def refusal(call: Callable[..., Any], *arguments: Any) -> InputError | None:
    """What a reader says against its input; any other exception goes through."""
    try:
        call(*arguments)
    except InputError as error:
        return error
    return None


def read_lists(lines: NumberedLines, file: str) -> FreeListSnapshot:
    reader = FreeListReader(file)
    for number, line in lines:
        if line:
            reader.feed(number, line)
    return reader.finish()


READERS: dict[str, tuple[Callable[[NumberedLines, str], Any], str]] = {
    "buddyinfo": (parse_buddyinfo, recorded("w2/before.buddyinfo.gz")),
    "pagetypeinfo": (parse_pagetypeinfo, recorded("w2/before.pagetypeinfo.gz")),
    "zoneinfo": (parse_zoneinfo, recorded("w2/before.zoneinfo.gz", slice(40, 120))),
    "free": (read_lists, recorded("w2/after.free.gz")),
    "trace": (lambda lines, file: list(parse_trace(lines, file)),
              recorded("w2thp/trace.txt.gz", slice(7290, 7360))),
}  # fmt: skip


def changed(sample: str) -> st.SearchStrategy[str]:
    """A sample text with a few places overwritten, cut out, doubled, or swapped for other text."""
    piece = st.one_of(
        st.text(max_size=20),
        st.sampled_from(["", "\n", "0", "9" * 30, "-1", "0x", "r", ",", "=", ":", " ", "²", "\0"]),
    )
    place = st.integers(0, len(sample))
    edit = st.tuples(place, st.integers(0, 40), piece)

    def apply(edits: list[tuple[int, int, str]]) -> str:
        text = sample
        for start, length, new in edits:
            text = text[:start] + new + text[start + length :]
        return text

    return st.lists(edit, min_size=1, max_size=4).map(apply)


@pytest.mark.parametrize("kind", READERS)
@patient
@given(data=st.data())
def test_changed_text_raises_nothing_else(kind: str, data: st.DataObject) -> None:
    parse, sample = READERS[kind]
    text = data.draw(st.one_of(st.text(max_size=200), changed(sample)))
    error = refusal(parse, numbered(text), "file")
    assert error is None or error.file == "file"


@patient
@given(changed(recorded("w2thp/trace.txt.gz", slice(7290, 7360))))
def test_changed_trace_loads_or_says_why(text: str) -> None:
    with file_of(text) as path:
        for snapshot in (None, RECORDINGS / "w2thp/before.free.gz"):
            error = refusal(load_trace, path, snapshot)
            assert error is None or error.file == str(path)


@patient
@given(st.binary(max_size=200).map(lambda data: data + b"\n"), st.booleans())
def test_any_bytes(content: bytes, packed: bool) -> None:
    with file_of(gzip.compress(content) if packed else content) as path:
        for read in (lambda p: list(TextFile(p)), read_free_lists, read_snapshots, load_trace):
            error = refusal(read, path)
            assert error is None or error.file == str(path)


@patient
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_damaged_gzip_is_named_or_harmless(content: bytes, place: int, value: int) -> None:
    packed = bytearray(gzip.compress(content * 20 + b"\n"))
    packed[place % len(packed)] = value
    with file_of(bytes(packed)) as path:
        error = refusal(lambda: list(TextFile(path)))
        assert error is None or error.file == str(path)


@patient
@given(st.text(max_size=60))
def test_any_gfp_text(text: str) -> None:
    error = refusal(parse_gfp, text)
    assert error is None or error.message.startswith("unknown GFP flag")


@patient
@given(st.lists(st.booleans(), min_size=len(GfpFlags._fields), max_size=len(GfpFlags._fields)))
def test_packing_keeps_all_flags(values: list[bool]) -> None:
    flags = GfpFlags(*values)
    if flags.dma:
        flags = flags._replace(dma32=False)
    packed = pack_gfp(flags)
    assert 0 <= packed < 1 << 18
    assert unpack_gfp(packed) == flags


# ---- writers ----

NAMES = st.sampled_from(["DMA", "DMA32", "Normal", "Movable", "Device", "HighMemory"])
COUNTS = st.integers(0, 1 << 40)


@patient
@given(st.lists(st.tuples(st.integers(0, 99), NAMES), min_size=1, max_size=5, unique=True),
       st.integers(1, 14), st.data())  # fmt: skip
def test_buddyinfo(zones: list[tuple[int, str]], orders: int, data: st.DataObject) -> None:
    counts = st.tuples(*[COUNTS] * orders)
    info = tuple(BuddyZone(node, zone, data.draw(counts)) for node, zone in zones)
    assert parse_buddyinfo(numbered(format_buddyinfo(info)[:-1]), "file") == info


@st.composite
def page_type_nodes(draw: st.DrawFn) -> PageTypeNode:
    types = tuple(draw(st.lists(st.sampled_from(["Unmovable", "Movable", "CMA", "Isolate"]),
                                min_size=1, unique=True)))  # fmt: skip
    orders = draw(st.integers(1, 11))
    counts = st.tuples(*[st.integers(0, PAGETYPE_COUNT_CAP)] * orders)
    node = draw(st.integers(0, 9))
    zones = draw(st.lists(NAMES, unique=True, max_size=3))
    blocks = st.tuples(*[COUNTS] * len(types))
    return PageTypeNode(
        types,
        tuple(TypeFree(node, zone, name, draw(counts)) for zone in zones for name in types),
        tuple(TypeBlocks(node, zone, draw(blocks)) for zone in zones),
        draw(st.none() | st.just(tuple(TypeBlocks(node, zone, draw(blocks)) for zone in zones))),
        draw(st.integers(0, 13)),
        orders,
    )


@patient
@given(st.lists(page_type_nodes(), min_size=1, max_size=3))
def test_pagetypeinfo(nodes: list[PageTypeNode]) -> None:
    text = format_pagetypeinfo(nodes)
    assert parse_pagetypeinfo(numbered(text[:-1]), "file") == tuple(nodes)


STATS = st.lists(st.tuples(st.from_regex("nr_[a-z]{1,9}", fullmatch=True), COUNTS)).map(tuple)


@st.composite
def zone_infos(draw: st.DrawFn, node: int, name: str) -> ZoneInfo:
    maybe = st.none() | COUNTS
    pages = [draw(COUNTS) for _ in range(7)]
    present = pages[5] > 0
    bounds = draw(st.booleans())
    pagesets = tuple(
        PagesetInfo(cpu, *(draw(COUNTS) for _ in range(5 if bounds else 3)),
                    stat_threshold=draw(maybe))
        for cpu in range(draw(st.integers(0, 3)))
    )  # fmt: skip
    return ZoneInfo(
        node,
        name,
        *pages,
        protection=draw(st.lists(COUNTS, min_size=1, max_size=5).map(tuple)),
        boost=draw(maybe),
        promo=draw(maybe),
        cma=draw(maybe),
        node_stats=draw(STATS),
        zone_stats=draw(STATS) if present else (),
        pagesets=pagesets if present else (),
        node_unreclaimable=draw(maybe) if present else None,
        start_pfn=draw(maybe) if present else None,
        tail=(("reserved_highatomic", draw(COUNTS)),) if present else (),
    )


@patient
@given(st.lists(st.tuples(st.integers(0, 9), NAMES), min_size=1, max_size=4, unique=True),
       st.data())  # fmt: skip
def test_zoneinfo(zones: list[tuple[int, str]], data: st.DataObject) -> None:
    info = tuple(data.draw(zone_infos(node, zone)) for node, zone in zones)
    assert parse_zoneinfo(numbered(format_zoneinfo(info)[:-1]), "file") == info


@st.composite
def snapshots(draw: st.DrawFn) -> FreeListSnapshot:
    """One zone, cut at random into aligned blocks that are in use, free, or in a pageset."""
    start = draw(st.integers(0, 4096))
    spanned = draw(st.integers(1, 3000))
    free: dict[tuple[int, int], list[FreeBlock]] = {}
    cached: list[dict[int, list[int]]] = [{} for _ in range(draw(st.integers(0, 2)))]
    pfn = start
    while pfn < start + spanned:
        largest = min(10, (pfn & -pfn).bit_length() - 1 if pfn else 10)
        order = draw(st.integers(0, largest))
        if pfn + (1 << order) > start + spanned:
            order = 0
        where = draw(st.integers(0, 2 + len(cached)))
        if where < 2:
            block = FreeBlock(pfn, draw(st.booleans()))
            free.setdefault((order, draw(st.integers(0, 4))), []).append(block)
        elif where > 2 and order < 4:
            cached[where - 3].setdefault(order * 3 + draw(st.integers(0, 2)), []).append(pfn)
        pfn += 1 << order
    first_pageblock = start // 512 * 512
    pageblocks = -(-(start + spanned - first_pageblock) // 512)
    marks = sorted(draw(st.tuples(*[st.integers(0, 9999)] * 3)))
    zone = ZoneSnapshot(
        draw(NAMES),
        start,
        spanned,
        draw(st.integers(0, spanned)),
        *marks,
        sum(len(blocks) << order for (order, _), blocks in free.items()),
        draw(st.lists(COUNTS.filter(lambda n: n < 1 << 30), min_size=1, max_size=5).map(tuple)),
        {key: tuple(blocks) for key, blocks in free.items()},
        tuple(
            PagesetSnapshot(cpu, sum(len(pfns) << i // 3 for i, pfns in lists.items()), 9, 1, 0,
                            {i: tuple(pfns) for i, pfns in lists.items()})
            for cpu, lists in enumerate(cached)
        ),
        first_pageblock,
        tuple(draw(st.lists(st.integers(0, 4), min_size=pageblocks, max_size=pageblocks))),
    )  # fmt: skip
    return FreeListSnapshot((zone,), draw(st.integers(0, 1 << 50)))


@patient
@given(snapshots())
def test_free_lists(snapshot: FreeListSnapshot) -> None:
    assert read_lists(numbered(format_free_lists(snapshot)), "file") == snapshot


# ---- requests, against a guest that remembers what it did ----

HEADS = (
    "           my-wl-131     [000] .....     {}: {}: {}",
    "wl-131   [000]     {}: {}:        {}",
    "wl   131 [000]     {}: kmem:{}: {}",
)


@patient
@given(st.data(), st.sampled_from(HEADS), st.booleans())
def test_requests_of_a_guest(data: st.DataObject, head: str, decimal: bool) -> None:
    lines: list[str] = []
    expected: list[tuple[int, int, int]] = []
    held: dict[int, tuple[int, int]] = {}  # pfn to (number, order)
    number = 0

    def event(name: str, pfn: int, rest: str) -> None:
        time = f"1.{len(lines):06}"
        page = f"page=x pfn={pfn if decimal else hex(pfn)} {rest}"
        lines.append(head.format(time, name, page) + "\n")

    for _ in range(data.draw(st.integers(1, 30))):
        if held and data.draw(st.booleans()):
            batch = data.draw(st.lists(st.sampled_from(sorted(held)), min_size=1, unique=True))
            for pfn in batch:
                event("mm_page_free", pfn, f"order={held[pfn][1]}")
            batched = [pfn for pfn in batch if held[pfn][1] == 0 and data.draw(st.booleans())]
            for pfn in batched:
                event("mm_page_free_batched", pfn, "order=0")
            at_once = [pfn for pfn in batch if pfn not in batched]
            expected += [(FREE, *held.pop(pfn)) for pfn in at_once + batched]
        else:
            order = data.draw(st.integers(0, 3))
            pfn = 8 * data.draw(st.integers(1, 40).filter(lambda n: 8 * n not in held))
            event("mm_page_alloc", pfn, f"order={order} migratetype=1 gfp_flags=GFP_USER")
            held[pfn] = (number, order)
            expected.append((ALLOC, number, order))
            number += 1
    with file_of("".join(lines)) as path:
        recording = load_trace(path)
    assert triples(recording) == expected
    assert recording.counts.unmatched_frees == 0
    assert FREE_BOOT not in recording.requests.opcode


def triples(recording: Recording) -> list[tuple[int, int, int]]:
    columns = recording.requests
    return list(zip(columns.opcode, columns.identity, columns.order, strict=True))
