"""The compiled core against a bare C twin, on one trace of a million mixed requests.

The product replays the trace through `guest.replay` with everything on but stamping: watermark
tests, counters, owner and sequence of every block, the pageset's lock, the zone's robust lock. The
twin (`twin.c`) keeps the same lists over the same 16-byte page records, and nothing else. Both
must end in the same digest. Rounds alternate in one process, so that other load on the machine
hits both; what counts is the median of the rounds' ratios.

./soak python bench/core_trace.py [--events N] [--rounds N] [--plain] [--json]
"""

import ctypes
import hashlib
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from array import array
from pathlib import Path
from typing import Any, NamedTuple

from pagesoak.allocator import guest, replay, replay_word
from pagesoak.allocator.geometry import ZONE_DMA32, ZoneGeometry
from pagesoak.allocator.gfp import KERNEL, USER_MOVABLE
from pagesoak.allocator.populate import plan_from_geometry, populate_synthetic
from pagesoak.base import layout
from pagesoak.base.generator import random_word, seed_words
from pagesoak.base.segment import Segment

TWIN_SOURCE = Path(__file__).resolve().parent / "twin.c"
COMPILERS = ("cc", "gcc", "clang")

EVENTS = 1_000_000
ROUNDS = 11
SEED = 1
GOAL_RATIO = 1.5
"""What the product may cost, in times of the twin."""

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
    """Requests as `guest.replay` reads them (pairs of time and word), and how many are
    allocations.
    """

    requests: "array[int]"
    allocations: int

    @property
    def events(self) -> int:
        """Requests in all."""
        return len(self.requests) // layout.REPLAY_EVENT_WORDS


def make_trace(events: int, seed: int) -> Trace:
    """Requests in random order: three allocations to a free below `HELD_PAGES`, one to three
    above; any block may be freed.
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


def digest_of(
    pages: memoryview, blocks: memoryview, table: memoryview, heads: range, figures: list[int]
) -> str:
    """Hash of a state: every list in its order, every block's kind, page-block types, who got
    what, and the counts.
    """
    digest = hashlib.blake2b(digest_size=16)
    for head in heads:
        members = array("i")
        page = pages[head * layout.PAGE_WORDS + layout.NEXT]
        while page != head:
            members.append(page)
            page = pages[page * layout.PAGE_WORDS + layout.NEXT]
        digest.update(array("i", [head, len(members)]))
        digest.update(members)
    states = pages[layout.STATE : heads.start * layout.PAGE_WORDS : layout.PAGE_WORDS]
    digest.update(array("i", [state & layout.BLOCK_MASK for state in states]))
    digest.update(blocks)
    digest.update(table)
    digest.update(array("q", figures))
    return digest.hexdigest()


class Core:
    """The product, with a guest of one zone of 512 MiB, CPU 0, and a replay as its load 0."""

    def __init__(self, trace: Trace) -> None:
        zone = ZoneGeometry("DMA32", ZONE_DMA32, 0, ZONE_PAGES, ZONE_PAGES, ((0, ZONE_PAGES),))
        plan = plan_from_geometry(
            [zone], cpus=1, loads=1, table_words=trace.allocations, replay_events=trace.events
        )
        self.segment = Segment.create(plan)
        populate_synthetic(self.segment, [zone])
        self.segment.replay[: len(trace.requests)] = memoryview(trace.requests)
        loads = self.segment.loads
        self.segment.header[layout.H_FENCED] = 0  # as in a live run, where membarrier is there
        loads[layout.L_OWNER] = layout.OWNER_FIRST_LOAD
        loads[layout.L_CAPACITY] = trace.allocations
        loads[layout.L_EVENT_COUNT] = trace.events
        self.table = self.segment.tables[: trace.allocations]
        for identity in range(trace.allocations):
            self.table[identity] = guest.NO_BLOCK
        self._parts = [
            self.segment.zones, self.segment.pagesets, self.segment.blocks, self.segment.pages,
            self.segment.tables, self.segment.loads,
        ]  # fmt: skip
        self._start = [bytes(part) for part in self._parts]

    def reset(self) -> None:
        """Back to the state before the first request."""
        for part, start in zip(self._parts, self._start, strict=True):
            part.cast("B")[:] = start

    def run(self) -> int:
        """Make all requests; returns nanoseconds."""
        base = self.segment.base
        began_ns = time.perf_counter_ns()
        while replay.replay(base, 0, 0, FOREVER_NS, time.monotonic_ns() + BURST_NS) == guest.AGAIN:
            pass
        return time.perf_counter_ns() - began_ns

    def failed(self) -> int:
        """Allocations that got nothing."""
        return int(self.segment.loads[layout.L_DROPPED])

    def digest(self) -> str:
        """See `digest_of`."""
        zones, pagesets = self.segment.zones, self.segment.pagesets
        first = zones[layout.Z_LIST_BASE]
        figures = [
            zones[layout.Z_FREE_PAGES],
            *zones[layout.Z_NR_FREE : layout.Z_NR_FREE + layout.MAX_ORDER],
            pagesets[layout.P_COUNT],
            pagesets[layout.P_FREE_FACTOR],
        ]
        heads = range(first, first + self.segment.plan.lists)
        return digest_of(self.segment.pages, self.segment.blocks, self.table, heads, figures)


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


class Twin:
    """The C twin, started from the state that the product starts from, over memory of its own."""

    def __init__(self, library: ctypes.CDLL, core: Core, trace: Trace) -> None:
        self._replay = library.twin_replay
        self._replay.restype = ctypes.c_int64
        self._replay.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        core.reset()
        segment = core.segment
        self._start = [bytes(part) for part in (segment.pages, segment.blocks, core.table)]
        self._memory = [ctypes.create_string_buffer(part, len(part)) for part in self._start]
        zones, pagesets = segment.zones, segment.pagesets
        self._first = _Zone(
            *(ctypes.addressof(memory) for memory in self._memory),
            zones[layout.Z_END_PFN],
            zones[layout.Z_LIST_BASE],
            pagesets[layout.P_LIST_BASE],
            pagesets[layout.P_BATCH],
            pagesets[layout.P_HIGH],
            zones[layout.Z_FREE_PAGES],
            tuple(zones[layout.Z_NR_FREE : layout.Z_NR_FREE + layout.MAX_ORDER]),
            0,
            0,
        )
        self._zone = _Zone()
        self._lists = segment.plan.lists
        self._requests = trace.requests
        self._events = trace.events
        self._failed = 0

    def reset(self) -> None:
        """Back to the state before the first request."""
        for memory, start in zip(self._memory, self._start, strict=True):
            memory.raw = start
        ctypes.pointer(self._zone)[0] = self._first

    def run(self) -> int:
        """Make all requests; returns nanoseconds."""
        address, _ = self._requests.buffer_info()
        began_ns = time.perf_counter_ns()
        self._failed = self._replay(ctypes.byref(self._zone), address, self._events)
        return time.perf_counter_ns() - began_ns

    def failed(self) -> int:
        """Allocations that got nothing."""
        return self._failed

    def digest(self) -> str:
        """See `digest_of`."""
        zone = self._zone
        pages, blocks, table = (memoryview(memory).cast("B") for memory in self._memory)
        heads = range(zone.free_lists, zone.free_lists + self._lists)
        figures = [zone.free_pages, *zone.blocks, zone.pageset_pages, zone.free_factor]
        return digest_of(pages.cast("i"), blocks, table.cast("i"), heads, figures)


def find_compiler() -> str | None:
    """A C compiler on the PATH; CC names one to prefer."""
    wanted = [os.environ["CC"]] if os.environ.get("CC") else []
    return next((path for name in (*wanted, *COMPILERS) if (path := shutil.which(name))), None)


def build_twin(compiler: str) -> ctypes.CDLL:
    """Compile the twin in a temporary directory and load it."""
    with tempfile.TemporaryDirectory(prefix="pagesoak-twin-") as directory:
        library = Path(directory) / "twin.so"
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(TWIN_SOURCE)]
        subprocess.run(command, check=True)
        return ctypes.CDLL(str(library))


def compare(core: Core, twin: Twin, rounds: int) -> dict[str, Any]:
    """Paired rounds, the first of each side not counted."""
    times: dict[str, list[int]] = {"core": [], "twin": []}
    for number in range(rounds + 1):
        sides = [("core", core), ("twin", twin)]
        for name, side in sides if number % 2 else reversed(sides):
            side.reset()
            taken_ns = side.run()
            if number:
                times[name].append(taken_ns)
    ratios = [
        core_ns / twin_ns for core_ns, twin_ns in zip(times["core"], times["twin"], strict=True)
    ]
    return {
        "core_ns": statistics.median(times["core"]),
        "twin_ns": statistics.median(times["twin"]),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


if __name__ == "__main__":
    trace = make_trace(EVENTS, SEED)
    core = Core(trace)
    library = build_twin(find_compiler())
    twin = Twin(library, core, trace)
    t = time.time()
    core.run()
    print("first", time.time() - t)
    for timed in (1, 0):
        core.segment.header[layout.H_TIMED_LOCKS] = timed
        r = compare(core, twin, 9)
        print(timed, r, core.failed(), twin.failed(), core.digest(), twin.digest())
    from pagesoak.base.statistics import read_statistics

    print(read_statistics(core.segment, 0).counters[:33])
