"""Recordings made for tests: what a kernel that follows the rules would have left behind.

The passes come from the oracle of page reporting (`tests.oracle`), the times from the rule in the
timeline's own words: a start every 32 ms, 2 s or more after its cause. So nothing here is the code
under test, and guests of any size, with any zones, can be had.
"""

import gzip
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pagesoak.allocator.free_lists import (
    FreeBlock,
    FreeListSnapshot,
    ZoneSnapshot,
    format_free_lists,
)
from tests.oracle import Block, Oracle

MS = 1_000_000
BUCKET_NS = 32 * MS
TICK_NS = 4 * MS
O10 = 1 << 10
O9 = 1 << 9
BANNER = "Linux version {} (maker@host) (gcc) #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)"
KERNEL_6_1 = "6.1.0-56-amd64"


@dataclass
class MadeZone:
    """A zone: its span, and its free blocks of order 9 and 10 by (order, type), head first."""

    name: str
    start_pfn: int
    end_pfn: int
    lists: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    small_pages: int = 0
    """Pages in blocks of order 0, which no pass touches."""
    min_pages: int = 1_000

    def free_pages(self) -> int:
        """Pages on all lists."""
        return (
            sum(len(pfns) << order for (order, _), pfns in self.lists.items()) + self.small_pages
        )

    def snapshot(self, reported: Iterable[int] = ()) -> ZoneSnapshot:
        """The zone as a snapshot has it; small pages lie at its end, every other one."""
        flagged = set(reported)
        lists = {
            key: tuple(FreeBlock(pfn, pfn in flagged) for pfn in pfns)
            for key, pfns in self.lists.items()
            if pfns
        }
        if self.small_pages:
            last = self.end_pfn - 2
            small = tuple(FreeBlock(last - 2 * n) for n in range(self.small_pages))
            lists[0, 1] = small
        types = {pfn >> 9: kind for (order, kind), pfns in self.lists.items() for pfn in pfns}
        types |= {
            (pfn >> 9) + 1: kind
            for (order, kind), pfns in self.lists.items()
            for pfn in pfns
            if order == 10
        }
        first = self.start_pfn >> 9
        blocks = range(first, -(-self.end_pfn // O9))
        spanned = self.end_pfn - self.start_pfn
        return ZoneSnapshot(
            self.name,
            self.start_pfn,
            spanned,
            spanned,
            self.min_pages,
            self.min_pages * 5 // 4,
            self.min_pages * 3 // 2,
            self.free_pages(),
            (0, 0, 0, 0, 0),
            lists,
            (),
            first << 9,
            tuple(types.get(block, 1) for block in blocks),
        )


def zones_of(seed: int, *spans: tuple[str, int, int], share: int = 70) -> list[MadeZone]:
    """Zones (name, start, end) of which `share` % of the 4 MiB places are free, lists shuffled."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    zones = []
    for name, start, end in spans:
        lists: dict[tuple[int, int], list[int]] = {(9, 0): [], (9, 1): [], (9, 2): [], (10, 1): []}
        first = -(-start // O10) * O10
        for pfn in range(first, end - O10, O10):
            pick = chance.randrange(100)
            if pick < share:
                lists[10, 1].append(pfn)
            elif pick < share + 6:
                lists[9, pick % 3].append(pfn)
        for pfns in lists.values():
            chance.shuffle(pfns)
        zones.append(MadeZone(name, start, end, lists, small_pages=200))
    return zones


def snapshot_of(
    zones: list[MadeZone], t_ns: int, reported: Iterable[int] = ()
) -> FreeListSnapshot:
    """All zones at a time."""
    flagged = set(reported)
    return FreeListSnapshot(tuple(zone.snapshot(flagged) for zone in zones), t_ns)


def write_free(folder: Path, name: str, snapshot: FreeListSnapshot) -> None:
    """A `.free` file."""
    (folder / name).write_bytes(gzip.compress(format_free_lists(snapshot).encode(), mtime=0))


@dataclass
class MadeCall:
    """One report call as a device would log it."""

    start_ns: int
    end_ns: int
    entries: list[Block]
    free_pages: int
    error: int


@dataclass
class MadeTimeline:
    """A timeline recording; change it and write it."""

    zones: list[MadeZone]
    registered_ns: int = 3_509_009_033
    phase_ns: int = 20 * MS
    delay_ms: int = 10
    answers: dict[int, int] = field(default_factory=dict)
    kernel: str = KERNEL_6_1
    order: int = 9
    calls: list[MadeCall] = field(default_factory=list)
    after: FreeListSnapshot | None = None

    def make(self) -> "MadeTimeline":
        """Let the oracle report until nothing is requested; called once."""
        oracles = [self._oracle(zone) for zone in self.zones]
        cause_ns = self.registered_ns
        requested = True
        while requested:
            before = len(self.calls)
            now_ns = self._start_ns(cause_ns)
            requested = False
            for oracle in oracles:
                oracle.run_pass()
                requested |= oracle.requested
                now_ns, failed = self._log(oracle, oracles, now_ns)
                if failed:
                    break
            assert len(self.calls) > before or not requested
            cause_ns = self.calls[-1].end_ns
        ended = [
            MadeZone(
                zone.name,
                zone.start_pfn,
                zone.end_pfn,
                oracle.lists,
                zone.small_pages,
                zone.min_pages,
            )
            for zone, oracle in zip(self.zones, oracles, strict=True)
        ]
        reported = {pfn for oracle in oracles for pfn in oracle.reported}
        self.after = snapshot_of(ended, cause_ns + 10_000 * MS, reported)
        return self

    def _oracle(self, zone: MadeZone) -> Oracle:
        oracle = Oracle(zone.min_pages, zone.min_pages * 5 // 4)
        oracle.lists = {key: list(pfns) for key, pfns in zone.lists.items()}
        oracle.free_pages = zone.free_pages()
        for (order, kind), pfns in zone.lists.items():
            for pfn in pfns:
                for page in range(pfn, pfn + (1 << order), O9):
                    oracle.block_types[page >> 9] = kind
        oracle.answer = lambda _: self.answers.get(len(self.calls) + len(oracle.calls) - 1, 0)
        return oracle

    def _start_ns(self, cause_ns: int) -> int:
        tick = (cause_ns - self.phase_ns) // TICK_NS
        border = tick + 500 + 8 - (tick + 500) % 8
        return self.phase_ns + border * TICK_NS + 24_000

    def _log(self, oracle: Oracle, oracles: list[Oracle], now_ns: int) -> tuple[int, bool]:
        """Log the calls that the oracle has made since; other zones do not change meanwhile."""
        others = sum(other.free_pages for other in oracles if other is not oracle)
        for made in oracle.calls:
            ticks = -(-self.delay_ms // 4) + 2  # a tick of msleep's own, one for the wheel
            tick = (now_ns - self.phase_ns) // TICK_NS
            end_ns = self.phase_ns + (tick + ticks) * TICK_NS + 6_000
            if not self.delay_ms:
                end_ns = now_ns + 1_200
            error = self.answers.get(len(self.calls), 0)
            call = MadeCall(now_ns, end_ns, made.entries, made.free_pages + others, error)
            self.calls.append(call)
            now_ns = end_ns + 18_000
        failed = bool(oracle.calls and self.calls[-1].error)
        oracle.calls = []
        return now_ns, failed

    def text(self) -> str:
        """reports.csv."""
        end = ",ret" if self.answers else ""
        settings = f"delay_ms={self.delay_ms} delay_us_per_mib=0 lost=0 fake=1"
        fields = f"seq,t_start_ns,t_end_ns,nents,pages,free_pages_at_start,free_pages_at_end{end}"
        lines = [
            f"# t_register_ns={self.registered_ns} {settings}",
            f"# {fields},list of pfn/order in scatterlist order",
        ]
        for number, call in enumerate(self.calls):
            pages = sum(1 << order for _, order in call.entries)
            entries = " ".join(f"{pfn:x}/{order}" for pfn, order in call.entries)
            error = f",{-call.error}" if self.answers else ""
            lines.append(
                f"{number},{call.start_ns},{call.end_ns},{len(call.entries)},{pages},"
                f"{call.free_pages},{call.free_pages}{error},{entries}"
            )
        return "".join(f"{line}\n" for line in lines)

    def write(self, folder: Path) -> Path:
        """The recording's folder."""
        folder.mkdir()
        write_free(folder, "atload.free.gz", snapshot_of(self.zones, self.registered_ns + 500_000))
        assert self.after is not None
        write_free(folder, "after.free.gz", self.after)
        (folder / "reports.csv.gz").write_bytes(gzip.compress(self.text().encode(), mtime=0))
        version = BANNER.format(self.kernel)
        sections = f"== page_reporting_order\n{self.order}\n== version\n{version}\n"
        (folder / "meta.txt").write_text(sections)
        return folder
