"""A recording moved to other page frames and another time is predicted as well as it was.

Everything above zone DMA is moved up by the same number of page frames, and the guest's clock by
the same time, in the trace and in the exact snapshots. Nothing that the model predicts may hang on
where and when it was recorded.
"""

import gzip
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pagesoak.allocator.free_lists import (
    FreeBlock,
    FreeListSnapshot,
    ZoneSnapshot,
    format_free_lists,
)
from pagesoak.allocator.free_read import read_free_lists
from pagesoak.allocator.recording import SNAPSHOT_NAMES
from pagesoak.allocator.snapshot_series import read_snapshots
from pagesoak.study.fidelity_trace import check_trace
from tests.live_helper import COMPILE_SECONDS_MAX, compile_core
from tests.treefiles import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(COMPILE_SECONDS_MAX)]

RECORDING = ROOT / "tests" / "recordings" / "w1"
FIRST_MOVED_PFN = 4096
"""Zone DMA stays: it cannot lie anywhere else."""
MOVED_PAGES = 301 << 10
"""A multiple of the largest block: buddies stay buddies."""
LATER_SECONDS = 12_345
STRUCT_PAGE_BYTES = 64

TIME = re.compile(r"^(.{16,40}\] \S{5} +)(\d+)(\.\d+: )")
PFN = re.compile(r"\bpfn=(0x[0-9a-f]+)")
PAGE = re.compile(r"\bpage=0x(ffd4[0-9a-f]{12})\b")
MEMORY_MAP = 0xFFD4_0000_0000_0000
"""Where the recorded kernel's struct pages begin."""


def moved_pfn(pfn: int) -> int:
    return pfn + MOVED_PAGES if pfn >= FIRST_MOVED_PFN else pfn


def moved_page(match: re.Match[str]) -> str:
    """`page=` with the address of a struct page."""
    pfn = (int(match[1], 16) - MEMORY_MAP) // STRUCT_PAGE_BYTES
    return f"page={MEMORY_MAP + moved_pfn(pfn) * STRUCT_PAGE_BYTES:#x}"


def moved_line(line: str) -> str:
    line = TIME.sub(lambda found: f"{found[1]}{int(found[2]) + LATER_SECONDS}{found[3]}", line)
    line = PFN.sub(lambda found: f"pfn={moved_pfn(int(found[1], 16)):#x}", line)
    return PAGE.sub(moved_page, line)


def moved_zone(zone: ZoneSnapshot) -> ZoneSnapshot:
    if zone.start_pfn < FIRST_MOVED_PFN:
        return zone
    return replace(
        zone,
        start_pfn=moved_pfn(zone.start_pfn),
        first_pageblock_pfn=moved_pfn(zone.first_pageblock_pfn),
        free_lists={
            place: tuple(FreeBlock(moved_pfn(pfn), reported) for pfn, reported in blocks)
            for place, blocks in zone.free_lists.items()
        },
        pagesets=tuple(
            replace(
                pageset,
                lists={
                    index: tuple(moved_pfn(pfn) for pfn in pfns)
                    for index, pfns in pageset.lists.items()
                },
            )
            for pageset in zone.pagesets
        ),
    )


def moved_snapshot(snapshot: FreeListSnapshot) -> FreeListSnapshot:
    zones = tuple(moved_zone(zone) for zone in snapshot.zones)
    return replace(snapshot, zones=zones, t_ns=snapshot.t_ns + LATER_SECONDS * 10**9)


def move(folder: Path) -> None:
    """Write the moved recording."""
    lines = gzip.decompress((RECORDING / "trace.txt.gz").read_bytes()).decode().splitlines()
    moved = [moved_line(line) for line in lines]
    assert sum(one != other for one, other in zip(lines, moved, strict=True)) > 0.9 * len(lines)
    (folder / "trace.txt").write_text("\n".join(moved) + "\n")
    parts = []
    for number, t_ns, snapshot in read_snapshots(RECORDING / "snaps.txt.gz"):
        parts.append(f"=== SNAP {number} t_ns={t_ns + LATER_SECONDS * 10**9}\n--- truth_free\n")
        parts.append(format_free_lists(moved_snapshot(snapshot)))
    (folder / "snaps.txt").write_text("".join(parts))
    for name in SNAPSHOT_NAMES:
        if (RECORDING / name).exists():
            text = format_free_lists(moved_snapshot(read_free_lists(RECORDING / name)))
            (folder / name).write_bytes(gzip.compress(text.encode()))
    for name in ("run.json", "meta.txt"):
        (folder / name).write_bytes((RECORDING / name).read_bytes())


def test_a_moved_recording_is_predicted_as_well(tmp_path: Path) -> None:
    compile_core()
    move(tmp_path)
    here = check_trace(RECORDING).as_json()
    there = check_trace(tmp_path).as_json()
    assert there["allocations"]["exact"] == here["allocations"]["exact"] > 15_000
    for figure in ("allocations", "snapshots", "reports", "misses", "holds"):
        assert there[figure] == here[figure]
