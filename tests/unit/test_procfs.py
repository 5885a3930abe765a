"""/proc texts: recordings come back byte for byte; other kernels; malformed ones."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pagesoak.allocator.procfs import (
    BuddyZone,
    PageTypeNode,
    TypeBlocks,
    TypeFree,
    format_buddyinfo,
    format_pagetypeinfo,
    read_buddyinfo,
    read_pagetypeinfo,
)
from pagesoak.allocator.zoneinfo import (
    PagesetInfo,
    ZoneInfo,
    format_zoneinfo,
    read_zoneinfo,
)
from pagesoak.base.errors import InputError

RECORDINGS = Path(__file__).parents[1] / "recordings"

READERS: dict[str, tuple[Callable[[Path], Any], Callable[[Any], str]]] = {
    "buddyinfo": (read_buddyinfo, format_buddyinfo),
    "pagetypeinfo": (read_pagetypeinfo, format_pagetypeinfo),
    "zoneinfo": (read_zoneinfo, format_zoneinfo),
}


@pytest.mark.parametrize("kind", READERS)
def test_recordings_come_back_byte_for_byte(kind: str) -> None:
    read, write = READERS[kind]
    paths = sorted(RECORDINGS.rglob(f"*.{kind}.gz"))
    assert len(paths) > 20
    for path in paths:
        assert write(read(path)) == gzip.decompress(path.read_bytes()).decode(), path


def test_what_a_recording_says() -> None:
    dma, dma32 = read_buddyinfo(RECORDINGS / "w2/before.buddyinfo.gz")
    assert dma == BuddyZone(0, "DMA", (0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 3))
    assert dma32.free_blocks[10] == 85
    (node,) = read_pagetypeinfo(RECORDINGS / "w2/before.pagetypeinfo.gz")
    assert node.migratetypes == ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate")
    assert node.free[6] == TypeFree(0, "DMA32", "Movable", (3, 3, 4, 4, 3, 3, 4, 3, 3, 1, 85))
    assert node.blocks == (
        TypeBlocks(0, "DMA", (1, 7, 0, 0, 0)),
        TypeBlocks(0, "DMA32", (41, 201, 6, 0, 0)),
    )
    zones = {zone.zone: zone for zone in read_zoneinfo(RECORDINGS / "w2/before.zoneinfo.gz")}
    assert list(zones) == ["DMA", "DMA32", "Normal", "Movable", "Device"]
    dma32_info = zones["DMA32"]
    assert (dma32_info.wmark_min, dma32_info.wmark_low, dma32_info.wmark_high) == (652, 815, 978)
    assert dma32_info.boost == 0
    assert dma32_info.promo is None
    assert dma32_info.pagesets == (PagesetInfo(0, 575, 815, 31, stat_threshold=6),)
    assert dma32_info.start_pfn == 4096
    assert zones["DMA"].protection == (0, 430, 430, 430, 430)
    assert dict(zones["DMA"].node_stats)["nr_slab_reclaimable"] == 2482
    assert not zones["Normal"].populated


TWO_NODES = """\
Page block order: 9
Pages per block:  512

Free pages count per migrate type at order       0      1      2 
Node    0, zone   Normal, type    Unmovable      1 >100000      3 
Node    0, zone   Normal, type          CMA      0      0      0 

Number of blocks type     Unmovable          CMA 
Node 0, zone   Normal           10            2 

Number of mixed blocks    Unmovable          CMA 
Node 0, zone   Normal            1            0 
Page block order: 9
Pages per block:  512

Free pages count per migrate type at order       0      1      2 
Node    1, zone   Normal, type    Unmovable 123456      0      3 

Number of blocks type     Unmovable          CMA 
Node 1, zone   Normal           10            2 
"""  # noqa: W291


def test_two_nodes_mixed_blocks_and_capped_counts(tmp_path: Path) -> None:
    path = tmp_path / "pagetypeinfo"
    path.write_text(TWO_NODES)
    first, second = read_pagetypeinfo(path)
    assert first.free[0].free_blocks == (1, 100_000, 3)
    assert first.mixed == (TypeBlocks(0, "Normal", (1, 0)),)
    assert second.mixed is None
    assert second.free[0].node == 1
    assert second.orders == 3
    # A count that an old kernel printed in full is written as a new one prints it.
    assert format_pagetypeinfo((first, second)) == TWO_NODES.replace(" 123456", " >100000")


# 5.10 has no boost line; 6.12 has promo, pagesets with bounds, and reserved_highatomic.
ZONEINFO_510 = """\
Node 0, zone   Normal
  per-node stats
      nr_inactive_anon 5
  pages free     100
        min      10
        low      12
        high     14
        spanned  1000
        present  1000
        managed  900
        protection: (0, 0)
      nr_free_pages 100
  pagesets
    cpu: 0
              count: 3
              high:  186
              batch: 31
  vm stats threshold: 6
    cpu: 1
              count: 0
              high:  186
              batch: 31
  vm stats threshold: 6
  node_unreclaimable:  0
  start_pfn:           4096
Node 1, zone   Normal
  pages free     0
        min      0
        low      0
        high     0
        spanned  0
        present  0
        managed  0
        protection: (0, 0)
"""
ZONEINFO_612 = """\
Node 0, zone   Normal
  pages free     100
        boost    7
        min      17
        low      19
        high     21
        promo    23
        spanned  1000
        present  1000
        managed  900
        cma      0
        protection: (0, 0)
      nr_free_pages 100
  pagesets
    cpu: 0
              count:    3
              high:     186
              batch:    31
              high_min: 186
              high_max: 1856
  node_unreclaimable:  0
  start_pfn:           4096
  reserved_highatomic: 5
  free_highatomic:     4
"""


@pytest.mark.parametrize("text", [ZONEINFO_510, ZONEINFO_612])
def test_zoneinfo_of_other_kernels(tmp_path: Path, text: str) -> None:
    path = tmp_path / "zoneinfo"
    path.write_text(text)
    assert format_zoneinfo(read_zoneinfo(path)) == text


def test_zoneinfo_lines_of_later_kernels_are_kept(tmp_path: Path) -> None:
    text = ZONEINFO_612.replace("  cma      0\n", "  cma      0\n        fancy    9\n")
    path = tmp_path / "zoneinfo"
    path.write_text(text)
    (zone,) = read_zoneinfo(path)
    assert zone.more_pages == (("fancy", 9),)
    assert zone.tail == (("reserved_highatomic", 5), ("free_highatomic", 4))
    assert format_zoneinfo([zone]) == text


def test_writers_need_only_what_is_modelled() -> None:
    zone = ZoneInfo(0, "DMA32", 50, 1, 2, 3, 100, 100, 90, (0, 0))
    assert format_zoneinfo([zone]).splitlines() == [
        "Node 0, zone    DMA32",
        "  pages free     50",
        "        min      1",
        "        low      2",
        "        high     3",
        "        spanned  100",
        "        present  100",
        "        managed  90",
        "        protection: (0, 0)",
        "  pagesets",
    ]
    node = PageTypeNode(("Movable",), (TypeFree(0, "DMA", "Movable", (1, 100_001)),), (), orders=2)
    assert format_pagetypeinfo([node]).splitlines()[4:5] == [
        "Node    0, zone      DMA, type      Movable      1 >100000 ",
    ]
    assert format_buddyinfo([BuddyZone(1, "Normal", (1, 1_000_000))]) == (
        "Node 1, zone   Normal      1 1000000 \n"
    )


BUDDY = "Node 0, zone      DMA      0      1 \nNode 0, zone    DMA32      0      1 \n"


def swap(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


MALFORMED = [
    ("buddyinfo", "", 1, "no zone in it"),
    ("buddyinfo", BUDDY + "\n", 3, "expected `Node N, zone NAME` and counts of free blocks"),
    ("buddyinfo", swap(BUDDY, "1 \nNode", "-1 \nNode"), 1, "expected `Node N, zone NAME`"),
    ("buddyinfo", swap(BUDDY, "DMA32", "DMA"), 2, "node 0, zone DMA for the second time"),
    ("buddyinfo", BUDDY + "Node 1, zone      DMA      0 \n", 3, "1 orders, the zones before"),
    ("buddyinfo", swap(BUDDY, "  1 \nNode", "  " + "1" * 30 + " \nNode"), 1, "not a whole number"),
    ("pagetypeinfo", "", 1, "expected `Page block order: N`, found the end of the file"),
    ("pagetypeinfo", swap(TWO_NODES, "512", "513"), 2, "a page block of order 9 has other pages"),
    ("pagetypeinfo", swap(TWO_NODES, "block:  512", "block: x"), 2, "expected `Pages per block:"),
    ("pagetypeinfo", swap(TWO_NODES, "512\n\n", "512\nx\n"), 3, "expected an empty line"),
    ("pagetypeinfo", swap(TWO_NODES, "0      1 ", "1      0 "), 4, "the orders do not count up"),
    ("pagetypeinfo", swap(TWO_NODES, " >100000 ", " "), 5, "2 counts under a heading of 3 orders"),
    ("pagetypeinfo", swap(TWO_NODES, "type    Unm", "tipe    Unm"), 5, "expected counts of free"),
    ("pagetypeinfo", swap(TWO_NODES, "blocks type", "blobs"), 8, "expected `Number of blocks"),
    ("pagetypeinfo", swap(TWO_NODES, "10            2", "10"), 9, "1 counts under a heading of 2"),
    ("pagetypeinfo", swap(TWO_NODES, "mixed", "mixt"), 11, "expected `Number of mixed blocks`"),
    ("pagetypeinfo", swap(TWO_NODES, "CMA \nNode 0, zone   Normal            1", "X \nNode 0"),
     11, "other migratetypes than in the heading before"),
    ("pagetypeinfo", TWO_NODES + "more\n", 21, "expected `Page block order: N`, found 'more'"),
    ("zoneinfo", "", 1, "expected `Node N, zone NAME`, found the end of the file"),
    ("zoneinfo", swap(ZONEINFO_510, "pages free", "pages three"), 4, "expected `pages free N`"),
    ("zoneinfo", swap(ZONEINFO_510, "        low      12\n", ""), 10, "a line for low is missing"),
    ("zoneinfo", swap(ZONEINFO_510, "low      12", "min      12"), 6, "min for the second time"),
    ("zoneinfo", swap(ZONEINFO_510, "(0, 0)", "(0; 0)"), 11, "expected `protection: (N, N, …)`"),
    ("zoneinfo", swap(ZONEINFO_510, "(0, 0)", "(0, " + "9" * 30 + ")"), 11, "protection: '9999"),
    ("zoneinfo", swap(ZONEINFO_510, "count: 3", "amount: 3"), 18, "a line for count is missing"),
    ("zoneinfo", swap(ZONEINFO_510, "batch: 31\n", "batch: 31\n              what:  1\n"), 18,
     "unknown pageset field what"),
    ("zoneinfo", swap(ZONEINFO_510, "batch: 31\n", "batch: 31\n              high:  1\n"), 18,
     "high for the second time"),
    ("zoneinfo", swap(ZONEINFO_510, "Node 1", "Node 0"), 26, "node 0, zone Normal for the second"),
    ("zoneinfo", swap(ZONEINFO_510, "4096\n", "4096\n  start_pfn:           1\n"), 26,
     "start_pfn for the second time"),
    ("zoneinfo", ZONEINFO_510 + "\n", 35, "expected `Node N, zone NAME`, found ''"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "line", "message"), MALFORMED)
def test_malformed(tmp_path: Path, kind: str, text: str, line: int, message: str) -> None:
    path = tmp_path / kind
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        READERS[kind][0](path)
    assert str(caught.value).startswith(f"{path}:{line}: "), caught.value
    assert message in str(caught.value)
