"""The exact free lists: recordings come back byte for byte, contradictions are found."""

import gzip
from pathlib import Path

import pytest

from pagesoak.allocator import free_read
from pagesoak.allocator.free_lists import (
    FreeBlock,
    FreeListSnapshot,
    PagesetSnapshot,
    ZoneSnapshot,
    format_free_lists,
)
from pagesoak.allocator.free_read import read_free_lists
from pagesoak.allocator.snapshot_series import read_snapshots
from pagesoak.base.errors import InputError

RECORDINGS = Path(__file__).parents[1] / "recordings"


def test_recordings_come_back_byte_for_byte() -> None:
    paths = sorted(RECORDINGS.rglob("*.free.gz"))
    assert len(paths) > 80
    for path in paths:
        text = gzip.decompress(path.read_bytes()).decode()
        assert format_free_lists(read_free_lists(path)) == text, path


@pytest.mark.parametrize(
    ("run", "numbers"),
    [
        ("w1", [0, 5, 10, 15, 20, 25]),
        ("w2", [0, 5, 10, 15]),
        ("w2thp", [0, 5, 10, 15, 20, 25, 30, 35, 40, 45]),
        ("w4p", [0, 5, 10, 15, 20, 25, 30, 35, 40]),
    ],
)
def test_series(run: str, numbers: list[int]) -> None:
    path = RECORDINGS / run / "snaps.txt.gz"
    snapshots = read_snapshots(path)
    assert [snapshot.number for snapshot in snapshots] == numbers
    text = gzip.decompress(path.read_bytes()).decode()
    blocks = [part.split("=== SNAP")[0] for part in text.split("--- truth_free\n")[1:]]
    assert [format_free_lists(each.snapshot) for each in snapshots] == blocks
    for each in snapshots:
        assert 0 < each.snapshot.t_ns - each.snap_t_ns < 10_000_000


def test_what_a_recording_says() -> None:
    snapshot = read_free_lists(RECORDINGS / "w2/before.free.gz")
    assert snapshot.t_ns == 6_194_894_823
    assert (snapshot.pageblock_order, snapshot.max_order, snapshot.pcptypes) == (9, 10, 3)
    assert (snapshot.nr_pcp_lists, snapshot.migratetypes) == (14, 5)
    dma, dma32 = snapshot.zones
    assert dma.lowmem_reserve == (0, 430, 430, 430, 430)
    assert dma.free_lists[10, 1] == (FreeBlock(0x400), FreeBlock(0x800), FreeBlock(0xC00))
    assert (dma.start_pfn, dma.end_pfn, dma.managed) == (1, 4096, 3840)
    assert dma.pageblock_types == (0, 1, 1, 1, 1, 1, 1, 1)
    assert dma.first_pageblock_pfn == 0
    assert (dma32.wmark_min, dma32.wmark_low, dma32.wmark_high) == (652, 815, 978)
    assert dma32.nr_free == dma32.listed_pages == 89755
    (pageset,) = dma32.pagesets
    assert (pageset.count, pageset.high, pageset.batch, pageset.free_factor) == (568, 815, 31, 0)
    assert pageset.lists[6] == (0x681C, 0x6820, 0x6824, 0x6828)
    assert [snapshot.pcp_order(index) for index in (0, 5, 11, 12, 13)] == [0, 1, 3, 9, 9]
    assert snapshot.zone_of(0xFFF) is dma
    assert snapshot.zone_of(0x1000) is dma32
    assert snapshot.zone_of(0) is None
    reported = read_free_lists(RECORDINGS / "idle_d0/after.free.gz").zones[1].free_lists[10, 1]
    assert all(block.reported for block in reported)


def test_counter_may_lag_behind_the_lists() -> None:
    lagging = read_snapshots(RECORDINGS / "w2/snaps.txt.gz")[1].snapshot.zones[1]
    assert lagging.nr_free == lagging.listed_pages - 5


SMALL = FreeListSnapshot(
    zones=(
        ZoneSnapshot(
            name="DMA32",
            start_pfn=0x1000,
            spanned=1030,
            managed=1024,
            wmark_min=5,
            wmark_low=6,
            wmark_high=7,
            nr_free=521,
            lowmem_reserve=(0, 0),
            free_lists={
                (0, 1): (FreeBlock(0x1001),),
                (3, 0): (FreeBlock(0x1008),),
                (9, 1): (FreeBlock(0x1200, reported=True),),
            },
            pagesets=(
                PagesetSnapshot(0, 3, 27, 1, 0, {0: (0x1002,), 4: (0x1004,)}),
                PagesetSnapshot(1, 0, 27, 1, 0),
            ),
            first_pageblock_pfn=0x1000,
            pageblock_types=(1, 1, 2),
        ),
    ),
    t_ns=123,
)
TEXT = format_free_lists(SMALL)


def test_constructed_snapshot_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "x.free"
    path.write_text(TEXT)
    assert TEXT.splitlines()[0].endswith(" entries=88 of 200000")
    assert TEXT.splitlines()[6:] == [
        "z,DMA32,1000,1030,1024,5,6,7,521,0,0",
        "f,DMA32,0,1,1001",
        "f,DMA32,3,0,1008",
        "f,DMA32,9,1,1200r",
        "c,DMA32,0,3,27,1,0",
        "p,DMA32,0,0,1002",
        "p,DMA32,0,4,1004",
        "c,DMA32,1,0,27,1,0",
        "b,DMA32,1000,112",
    ]
    assert read_free_lists(path) == SMALL


def swap(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new, 1)


SECOND_ZONE = "z,DMA,800,2049,1024,5,6,7,0,0,0\nb,DMA,800,11111\n"

MALFORMED = [
    ("", None, "no `# t_ns=…` line: not a free-list snapshot"),
    ("nonsense\n", 1, "expected `# t_ns=… entries=N of M`, found 'nonsense'"),
    (swap("0..10", "0..11"), 1, "orders 0..11"),
    (swap("block_order=9", "block_order=12"), 1, "orders 0..10"),
    (swap("pcptypes=3", "pcptypes=0"), 1, "pcptypes or nr_pcp_lists is out of range"),
    (swap("entries=88 of 200000", "entries=88 of 88"), 1, "the recorder ran out of room"),
    (swap("entries=88", "entries=87"), 1, "87 entries promised, 5 blocks found"),
    (TEXT[: TEXT.index("z,DMA32")], 1, "a snapshot without zones"),
    (TEXT + "x,1\n", 16, "unknown kind of line: 'x,1'"),
    (TEXT + "z,DMA32,1,1,1,1,1,1,1,1\n", 16, "zone 'DMA32' for the second time"),
    (swap("z,DMA32,1000,1030,1024,5", "z,DMA32,1000"), 7, "the zone's line is too short"),
    (swap("1024,5,6,7", "1024,5,7,6"), 7, "watermarks 5, 7, 6 fall"),
    (swap("1024,5,6,7", "1031,5,6,7"), 7, "1031 managed pages in a span of 1030"),
    (swap("1024,5,6,7", "1024,-5,6,7"), 7, "a number of the zone: '-5' is not a whole number"),
    (swap("z,DMA32,1000", "z,DMA32,zero"), 7, "pfn: 'zero' is not a hexadecimal number"),
    (swap("z,DMA32,1000", "z,DMA32," + "f" * 11), 7, "is above 0x10000000000"),
    (swap("f,DMA32,0", "f,DMA,0"), 8, "zone 'DMA' has no z, line before this one"),
    (swap("f,DMA32,3,0,1008", "f,DMA32,0,1,1008"), 9,
     "the list of order 0, migratetype 1 of DMA32 for the second time"),
    (swap("f,DMA32,0,1", "f,DMA32,11,1"), 8, "order 11 is above 10"),
    (swap("f,DMA32,0,1", "f,DMA32,0,6"), 8, "migratetype 6 is above 5"),
    (swap("f,DMA32,0,1,1001", "f,DMA32,0,1"), 8, "expected the fields zone order migratetype"),
    (swap("f,DMA32,0,1,1001", "f,DMA32,0,1,"), 8, "pfn: '' is not a hexadecimal number"),
    (swap("1008", "1009"), 9, "pfn 0x1009 is not aligned to order 3"),
    (swap("1200r", "1400r"), 10, "the block at 0x1400 is not within zone DMA32"),
    (swap("1001", "fff"), 8, "the block at 0xfff is not within zone DMA32"),
    (swap("1008", "1000"), 9, "the block at 0x1001 overlaps the one at 0x1000 (line 8)"),
    (swap("p,DMA32,0,0,1002", "p,DMA32,0,0,1201"), 12, "overlaps the one at 0x1200 (line 10)"),
    (swap("p,DMA32,0,0,1002", "p,DMA32,0,0,1001"), 12, "overlaps the one at 0x1001 (line 8)"),
    (swap(",521,", ",270,"), 7, "nr_free is 270, its lists hold 521 pages"),
    (swap("c,DMA32,0,3", "c,DMA32,0,4"), 11, "cpu 0 counts 4 pages, its lists hold 3"),
    (swap("c,DMA32,1", "c,DMA32,0"), 14, "the pageset of cpu 0 of DMA32 for the second time"),
    (swap("c,DMA32,1", "c,DMA32,9999"), 14, "cpu 9999 is above 8192"),
    (swap("c,DMA32,1,0,27,1,0", "c,DMA32,1,0,27,1"), 14, "expected the fields zone cpu count"),
    (swap("p,DMA32,0,4", "p,DMA32,2,4"), 13, "cpu 2 of DMA32 has no c, line before this one"),
    (swap("p,DMA32,0,4", "p,DMA32,0,14"), 13, "index 14 is above 13"),
    (swap("p,DMA32,0,4", "p,DMA32,0,0"), 13, "list 0 of cpu 0, DMA32 for the second time"),
    (swap("1004", "1005"), 13, "pfn 0x1005 is not aligned to order 1"),
    (TEXT[: TEXT.index("b,DMA32")], 7, "zone DMA32 has no b, line"),
    (TEXT + "b,DMA32,1000,112\n", 16, "the page blocks of DMA32 for the second time"),
    (swap(",112", ",11"), 15, "2 page blocks; the zone's span has 3"),
    (swap(",112", ",119"), 15, "type 9 is above 5"),
    (swap("b,DMA32,1000", "b,DMA32,1001"), 15, "page blocks from 0x1001, not from the zone's"),
    (TEXT + SECOND_ZONE, 7, "zones DMA and DMA32 overlap"),
    (TEXT.rstrip("\n"), 15, "the line is cut off: the file ends without a newline"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "message"), MALFORMED)
def test_malformed(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    path = tmp_path / "x.free"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_free_lists(path)
    place = f"{path}: " if line is None else f"{path}:{line}: "
    assert str(caught.value).startswith(place), caught.value
    assert message in str(caught.value)


def test_each_cpu_may_hold_back_a_little(tmp_path: Path) -> None:
    path = tmp_path / "x.free"
    limit = 2 * free_read.STAT_THRESHOLD_MAX
    path.write_text(swap(",521,", f",{521 - limit},"))
    assert read_free_lists(path).zones[0].nr_free == 521 - limit
    path.write_text(swap(",521,", f",{521 - limit - 1},"))
    with pytest.raises(InputError, match="its lists hold 521 pages"):
        read_free_lists(path)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x\n", 1, "text before the first `=== SNAP`"),
        ("=== SNAP x\n", 1, "expected `=== SNAP n t_ns=…`, found '=== SNAP x'"),
        ("=== SNAP 1 t_ns=5\n--- truth_free\nx\n", 3, "expected `# t_ns=… entries=N of M`"),
        ("=== SNAP 1 t_ns=5\n--- truth_free\n" + swap("1008", "1009"), 11, "not aligned"),
        ("=== SNAP 1 t_ns=5\n--- truth_free\n" + swap(",521,", ",1,") + "=== SNAP 2 t_ns=6\n", 9,
         "nr_free is 1"),
    ],
)  # fmt: skip
def test_malformed_series(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "snaps.txt"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_snapshots(path)
    assert str(caught.value).startswith(f"{path}:{line}: "), caught.value
    assert message in str(caught.value)


def test_series_skips_what_is_not_exact(tmp_path: Path) -> None:
    path = tmp_path / "snaps.txt"
    snap = "=== SNAP 7 t_ns=5\nNode 0, zone x 1\n--- vmstat\nnr_x 1\n--- truth_free\n"
    path.write_text("=== SNAP 6 t_ns=4\n--- vmstat\n" + snap + TEXT + "--- vmstat\nnr_x 1\n")
    ((number, snap_t_ns, snapshot),) = read_snapshots(path)
    assert (number, snap_t_ns, snapshot) == (7, 5, SMALL)
