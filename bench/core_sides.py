"""What `core_trace.py` compares: a trace, the core that replays it, and its C twin.

Both sides work on a segment of their own, made and filled alike, so that they have the same
records in the same kind of memory, and their ends can be compared.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from array import array
from pathlib import Path
from typing import NamedTuple

from pagesoak.allocator import guest, replay, replay_word
from pagesoak.allocator.geometry import ZONE_DMA32, ZoneGeometry
from pagesoak.allocator.gfp import KERNEL, USER_MOVABLE
from pagesoak.allocator.populate import plan_from_geometry, populate_synthetic
from pagesoak.allocator.state_arrays import walk_list
from pagesoak.base import layout
from pagesoak.base.external import membarrier_register, membarrier_supported
from pagesoak.base.generator import random_word, seed_words
from pagesoak.base.segment import Segment

TWIN_SOURCE = Path(__file__).resolve().parent / "twin.c"
COMPILERS = ("cc", "gcc", "clang")

SEED = 1
ZONE_PAGES = 131_072
"""512 MiB."""
HELD_PAGES = ZONE_PAGES * 2 // 5
"""The trace hovers around so many pages in use: far from every watermark, and largest blocks
remain.
"""
ORDER_WEIGHTS = (820, 60, 40, 30, 14, 10, 8, 6, 4, 6, 2)
"""Of 1000 allocations, how many are of order 0, 1, ... 10."""
TYPE_WEIGHTS = (
    (layout.MOVABLE, USER_MOVABLE, 10),
    (layout.UNMOVABLE, KERNEL, 5),
    (layout.RECLAIMABLE, KERNEL, 1),
)
"""Type, rights, and sixteenths of the allocations."""
BURST_NS = 4_000_000
"""One call of the core is as long as in a soak (`engine.live`)."""
FOREVER_NS = 1 << 60


class Trace(NamedTuple):
    """Requests as the replay reads them (pairs of time and word), and how many are allocations."""

    requests: "array[int]"
    allocations: int

    @property
    def events(self) -> int:
        """Requests in all."""
        return len(self.requests) // layout.REPLAY_EVENT_WORDS


def make_trace(events: int, seed: int = SEED) -> Trace:
    """Requests in random order: three allocations to a free below `HELD_PAGES`, one to three
    above; any block in use may be freed.
    """
    word_of = getattr(random_word, "py_func", random_word)
    state = list(seed_words(seed, 0))
    orders = [order for order, weight in enumerate(ORDER_WEIGHTS) for _ in range(weight)]
    kinds = [(kind, gfp) for kind, gfp, weight in TYPE_WEIGHTS for _ in range(weight)]
    requests = array("q")
    held: list[tuple[int, int]] = []
    pages = allocations = 0
    for _ in range(events):
        word = word_of(state, 0)
        takes = (word & 3 != 0) == (pages < HELD_PAGES)
        if takes or not held:
            order = orders[(word >> 2) % len(orders)]
            kind, gfp = kinds[word >> 28]
            request = replay_word.pack_request(replay_word.ALLOC, order, kind, allocations, gfp)
            held.append((allocations, order))
            pages += 1 << order
            allocations += 1
        else:
            chosen = (word >> 2) * len(held) >> 30
            held[chosen], held[-1] = held[-1], held[chosen]
            identity, order = held.pop()
            request = replay_word.pack_request(replay_word.FREE, order, 0, identity, 0)
            pages -= 1 << order
        requests.extend((0, request))
    return Trace(requests, allocations)


class Side:
    """A guest of one zone of 512 MiB that can be set back, and the table of who got what."""

    def __init__(self, trace: Trace) -> None:
        zone = ZoneGeometry("DMA32", ZONE_DMA32, 0, ZONE_PAGES, ZONE_PAGES, ((0, ZONE_PAGES),))
        plan = plan_from_geometry(
            [zone], cpus=1, loads=1, table_words=trace.allocations, replay_events=trace.events
        )
        self.segment = segment = Segment.create(plan)
        populate_synthetic(segment, [zone])
        segment.replay[: len(trace.requests)] = memoryview(trace.requests)
        segment.loads[layout.L_OWNER] = layout.OWNER_FIRST_LOAD
        segment.loads[layout.L_CAPACITY] = trace.allocations
        segment.loads[layout.L_EVENT_COUNT] = trace.events
        empty = array("i", [guest.NO_BLOCK]) * trace.allocations
        segment.tables[: trace.allocations] = memoryview(empty)
        self._start = [bytes(part) for part in self._parts()]

    def _parts(self) -> tuple[memoryview, ...]:
        segment = self.segment
        return (
            segment.zones, segment.pagesets, segment.blocks, segment.pages, segment.tables,
            segment.loads,
        )  # fmt: skip

    def reset(self) -> None:
        """Back to the state before the first request."""
        for part, start in zip(self._parts(), self._start, strict=True):
            part.cast("B")[:] = start

    def figures(self) -> list[int]:
        """Counts that belong to the state: free pages, blocks by order, the pageset's."""
        zones, pagesets = self.segment.zones, self.segment.pagesets
        return [
            zones[layout.Z_FREE_PAGES],
            *zones[layout.Z_NR_FREE : layout.Z_NR_FREE + layout.MAX_ORDER],
            pagesets[layout.P_COUNT],
            pagesets[layout.P_FREE_FACTOR],
        ]

    def digest(self) -> str:
        """Hash of the state: every list in its order, every block's kind, order and type,
        page-block types, who got what, and the counts.

        `allocator.digest` covers more: owner and sequence, which the twin does not have.
        """
        segment = self.segment
        digest = hashlib.blake2b(digest_size=16)
        for head in range(ZONE_PAGES, ZONE_PAGES + segment.plan.lists):
            members = walk_list(segment, head, ZONE_PAGES).members
            digest.update(array("i", [len(members)]))
            digest.update(members)
        states = segment.pages[layout.STATE : ZONE_PAGES * layout.PAGE_WORDS : layout.PAGE_WORDS]
        digest.update(array("i", [state & layout.BLOCK_MASK for state in states]))
        digest.update(segment.blocks)
        digest.update(segment.tables)
        digest.update(array("q", self.figures()))
        return digest.hexdigest()

    def close(self) -> None:
        """Give the memory back."""
        self.segment.close()


class Core(Side):
    """The product."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(trace)
        if membarrier_supported() and membarrier_register():
            self.segment.header[layout.H_FENCED] = 0  # as the engine does

    def time_locks(self, *, timed: bool) -> None:
        """Whether zone locks are timed, as they are in a soak."""
        self.segment.header[layout.H_TIMED_LOCKS] = int(timed)

    def run(self) -> int:
        """Make all requests; returns nanoseconds."""
        base = self.segment.base
        began_ns = time.perf_counter_ns()
        reason = guest.AGAIN
        while reason == guest.AGAIN:
            until_ns = time.monotonic_ns() + BURST_NS
            reason, _ = replay.replay(base, 0, 0, FOREVER_NS, 0, until_ns)
        return time.perf_counter_ns() - began_ns

    def failed(self) -> int:
        """Allocations that got nothing."""
        return int(self.segment.loads[layout.L_DROPPED])


class _Zone(ctypes.Structure):
    """`struct zone` of the twin."""

    _fields_ = (
        ("pages", ctypes.c_void_p),
        ("block_types", ctypes.c_void_p),
        ("taken", ctypes.c_void_p),
        ("end_pfn", ctypes.c_int64),
        ("free_lists", ctypes.c_int64),
        ("pageset_lists", ctypes.c_int64),
        ("batch", ctypes.c_int64),
        ("high", ctypes.c_int64),
        ("free_pages", ctypes.c_int64),
        ("blocks", ctypes.c_int64 * layout.MAX_ORDER),
        ("pageset_pages", ctypes.c_int64),
        ("free_factor", ctypes.c_int64),
    )


class Twin(Side):
    """The C twin, on page records, types and table of a segment of its own."""

    def __init__(self, trace: Trace, library: ctypes.CDLL) -> None:
        super().__init__(trace)
        self._replay = library.twin_replay
        self._replay.restype = ctypes.c_int64
        self._replay.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        self._events = trace.events
        self._failed = 0
        self._zone = _Zone()

    def _address(self, section: int) -> int:
        return self.segment.base + int(self.segment.header[layout.H_OFFSETS + section])

    def reset(self) -> None:
        """Back to the state before the first request."""
        super().reset()
        zones, pagesets = self.segment.zones, self.segment.pagesets
        zone = self._zone
        zone.pages = self._address(layout.Section.PAGES)
        zone.block_types = self._address(layout.Section.BLOCKS)
        zone.taken = self._address(layout.Section.TABLES)
        zone.end_pfn = zones[layout.Z_END_PFN]
        zone.free_lists = zones[layout.Z_LIST_BASE]
        zone.pageset_lists = pagesets[layout.P_LIST_BASE]
        zone.batch = pagesets[layout.P_BATCH]
        zone.high = pagesets[layout.P_HIGH]
        zone.free_pages, *blocks, zone.pageset_pages, zone.free_factor = super().figures()
        zone.blocks[:] = blocks

    def run(self) -> int:
        """Make all requests; returns nanoseconds."""
        requests = self._address(layout.Section.REPLAY)
        began_ns = time.perf_counter_ns()
        self._failed = self._replay(ctypes.byref(self._zone), requests, self._events)
        return time.perf_counter_ns() - began_ns

    def failed(self) -> int:
        """Allocations that got nothing."""
        return self._failed

    def figures(self) -> list[int]:
        """See `Side.figures`; the twin keeps them in its own record."""
        zone = self._zone
        return [zone.free_pages, *zone.blocks, zone.pageset_pages, zone.free_factor]


def find_compiler() -> str | None:
    """A C compiler on the PATH; CC names one to prefer."""
    wanted = [os.environ["CC"]] if os.environ.get("CC") else []
    return next((path for name in (*wanted, *COMPILERS) if (path := shutil.which(name))), None)


def build_twin(compiler: str) -> ctypes.CDLL:
    """Compile the twin in a temporary directory and load it. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory(prefix="pagesoak-twin-") as directory:
        library = Path(directory) / "twin.so"
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(TWIN_SOURCE)]
        subprocess.run(command, check=True)
        return ctypes.CDLL(str(library))
