"""A full report call over the live path, against the bare punches of the same blocks.

The call is all that happens from the reporter's taking of the zone lock until its blocks are
back on the free list: isolate 32 blocks of order 10, submit, wake the host's process through the
eventfd, there check each block against the ledger, measure what is behind it, punch it out,
measure and check again, clear its stamps, answer, wake the reporter, drain. The reporter's steps
are those of the `mainline` policy, driven by the live driver in this process; the host is
`host.worker` under the live driver in a process of its own.

The bare punches are a loop over the same blocks, made in another process of the same kind: the
same file, the same mappings, every page populated anew, by the same guest process, before each
of the two. Rounds are pairs in alternating order, so that other load on the machine hits both;
what counts is the median of the pairs' ratios.

    .venv/bin/python bench/report_call.py [--rounds N] [--json]
"""

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from pagesoak.allocator.geometry import ZONE_DMA32, ZoneGeometry
from pagesoak.allocator.populate import plan_from_geometry, populate_synthetic
from pagesoak.base import layout
from pagesoak.base.native import core_mode
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import PUNCHED_BYTES, read_statistics
from pagesoak.base.units import PAGE_SIZE_BYTES
from pagesoak.base.wants import Report, Run, Want
from pagesoak.engine.live import LiveDriver, Wires
from pagesoak.host.device import HostModel
from pagesoak.host.ram import GuestRam, punch_hole
from pagesoak.host.worker import host_worker
from pagesoak.reporter import cycle, request
from pagesoak.reporter.policy import BUDGET_BY_LIST
from pagesoak.reporter.state import register_device

GOAL_RATIO = 1.05
"""What a full report call may cost, in times of the bare punches."""
ROUNDS = 25
ROUNDS_MIN = 2
"""Quartiles need two."""
WARM_UP_ROUNDS = 2
"""Not counted: compiling, and the first touch of everything."""

BLOCKS = layout.REPORTING_CAPACITY
BLOCK_ORDER = layout.MAX_ORDER - 1
BLOCK_PAGES = 1 << BLOCK_ORDER
START_PFN = 4096
"""Of the zone, as in a guest: its blocks are aligned."""
SPARE_PAGES = BLOCK_PAGES * 3 // 4
"""In smaller blocks: isolating the last of the others leaves the zone above its min watermark."""
BLOCKS_END = START_PFN + BLOCKS * BLOCK_PAGES
PASS_DELAY_NS = 2_000_000_000
NO_WIRE = -1
GUEST, REPORTER, HOST = range(3)
"""Worker numbers of a guest with one CPU."""

ZONE = ZoneGeometry(
    "DMA32",
    ZONE_DMA32,
    START_PFN,
    BLOCKS * BLOCK_PAGES + SPARE_PAGES,
    BLOCKS * BLOCK_PAGES + SPARE_PAGES,
    ((START_PFN, BLOCKS_END + SPARE_PAGES),),
)


class Times(NamedTuple):
    """One pair: full call, bare punches, and the bytes that the host measured in the call."""

    call_ns: int
    bare_ns: int
    punched_bytes: int


@contextmanager
def helper(body: Callable[[], None]) -> Iterator[int]:
    """A process that runs `body`, until it ends or is no longer needed."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
        finally:
            os._exit(1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Errand:
    """Something another process does on demand, and how many nanoseconds it took."""

    def __init__(self, work: Callable[[], int]) -> None:
        self._work = work
        self._asked = os.pipe()
        self._done = os.pipe()

    def attend(self) -> None:
        """In the other process: do it whenever asked."""
        while os.read(self._asked[0], 1):
            os.write(self._done[1], self._work().to_bytes(8, sys.byteorder))

    def run(self) -> int:
        """Have it done; nanoseconds, as measured there."""
        os.write(self._asked[1], b".")
        return int.from_bytes(os.read(self._done[0], 8), sys.byteorder)


def block_pfns() -> range:
    """First pages of the blocks that are reported."""
    return range(START_PFN, BLOCKS_END, BLOCK_PAGES)


def populate(ram: GuestRam) -> int:
    """As the guest: write to every page of the blocks."""
    began_ns = time.perf_counter_ns()
    start, end = START_PFN * PAGE_SIZE_BYTES, BLOCKS_END * PAGE_SIZE_BYTES
    with ram.file.view() as view:
        view[start:end:PAGE_SIZE_BYTES] = b"\x5a" * (BLOCKS * BLOCK_PAGES)
    return time.perf_counter_ns() - began_ns


def punch_bare(ram: GuestRam) -> int:
    """Punch the blocks out, nothing else."""
    length_bytes = BLOCK_PAGES * PAGE_SIZE_BYTES
    began_ns = time.perf_counter_ns()
    for pfn in block_pfns():
        punch_hole(ram.file.descriptor, pfn * PAGE_SIZE_BYTES, length_bytes)
    return time.perf_counter_ns() - began_ns


def report_call(until: list[int]) -> Generator[Want, Any, None]:
    """The reporter's part of one call; appends its time, in nanoseconds, to `until`."""
    began_ns = time.perf_counter_ns()
    hold = (
        REPORTER,
        0,
        BLOCK_ORDER,
        layout.MOVABLE,
        BLOCKS,
        BLOCKS,
        BUDGET_BY_LIST,
        BLOCKS,
        0,
        0,
        0,
        0,
        1,
    )
    code, _, _ = yield Run("reporting-hold", cycle.reporting_hold, hold)
    number, start, entries = yield Run("submit-report", request.submit_report, (REPORTER,))
    error = yield Report(number, start, entries)
    drained = yield Run("drain-report", cycle.drain_report, (REPORTER, 0, error))
    until.append(time.perf_counter_ns() - began_ns)
    if (code, entries, error, drained) != (cycle.LIST_DONE, BLOCKS, 0, cycle.LIST_DONE):
        raise SystemExit(f"the call went wrong: {code=} {entries=} {error=} {drained=}")


def make_ready(segment: Segment) -> None:
    """Every block as the guest leaves it after use: each page stamped, and not reported."""
    state_words = range(layout.STATE, layout.PAGE_WORDS * BLOCKS_END, layout.PAGE_WORDS)
    for word in state_words[START_PFN:]:
        segment.pages[word] = segment.pages[word] & ~layout.REPORTED | layout.STAMPED
    segment.zones[layout.Z_REPORTED] = 0


def measure(rounds: int) -> tuple[list[Times], bool]:
    """The pairs, and whether the guest's page table could be asked."""
    plan = plan_from_geometry((ZONE,), cpus=1)
    segment = Segment.create(plan)
    populate_synthetic(segment, (ZONE,))
    ram = GuestRam(plan.max_pfn)
    segment.header[layout.H_RAM_ADDRESS] = ram.address
    segment.header[layout.H_RAM_BYTES] = ram.size_bytes
    segment.header[layout.H_TOUCH] = 1
    wires = Wires.make()
    device = (REPORTER, BLOCK_ORDER, BLOCKS, PASS_DELAY_NS, NO_WIRE, 0)
    register_device(segment.base, *device)
    guest, bare = Errand(lambda: populate(ram)), Errand(lambda: punch_bare(ram))
    watched = os.pipe()

    def serve() -> None:
        os.write(watched[1], b"y" if ram.watch(guest_pid) else b"n")
        driver = LiveDriver(segment, wires, HOST, is_host=True)
        driver.drive(host_worker(segment.base, HOST, ram, HostModel()))

    driver = LiveDriver(segment, wires, REPORTER)
    pairs = []
    with helper(guest.attend) as guest_pid, helper(bare.attend), helper(serve):
        is_watched = os.read(watched[0], 1) == b"y"
        for number in range(WARM_UP_ROUNDS + rounds):
            call_ns: list[int] = []
            before_bytes = read_statistics(segment, HOST).counters[PUNCHED_BYTES]

            def call(call_ns: list[int] = call_ns) -> int:
                driver.drive(report_call(call_ns))
                return call_ns[0]

            taken = {}
            sides = [("call", call), ("bare", bare.run)]
            for name, side in sides if number % 2 else reversed(sides):
                make_ready(segment)
                guest.run()
                taken[name] = side()
            punched_bytes = read_statistics(segment, HOST).counters[PUNCHED_BYTES] - before_bytes
            pairs.append(Times(taken["call"], taken["bare"], punched_bytes))
    wires.close()
    ram.close()
    segment.close()
    return pairs[WARM_UP_ROUNDS:], is_watched


def figures(pairs: list[Times], *, is_watched: bool) -> dict[str, Any]:
    """What is printed."""
    ratios = [pair.call_ns / pair.bare_ns for pair in pairs]
    low, _, high = statistics.quantiles(ratios)
    wanted_bytes = BLOCKS * BLOCK_PAGES * PAGE_SIZE_BYTES
    return {
        "core": core_mode(),
        "rounds": len(pairs),
        "blocks": BLOCKS,
        "block_bytes": BLOCK_PAGES * PAGE_SIZE_BYTES,
        "call_ns": statistics.median(pair.call_ns for pair in pairs),
        "bare_ns": statistics.median(pair.bare_ns for pair in pairs),
        "call_ns_min": min(pair.call_ns for pair in pairs),
        "bare_ns_min": min(pair.bare_ns for pair in pairs),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [low, high],
        "goal_ratio": GOAL_RATIO,
        "measured_exactly": all(pair.punched_bytes == wanted_bytes for pair in pairs),
        "guest_page_table_asked": is_watched,
    }


def main() -> int:
    """Measure and print; 1 when the host has not measured what was there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="pairs of call and bare punches"
    )
    parser.add_argument("--json", action="store_true", help="one object on one line")
    arguments = parser.parse_args()
    if arguments.rounds < ROUNDS_MIN:
        parser.error(f"--rounds must be at least {ROUNDS_MIN}")
    pairs, is_watched = measure(arguments.rounds)
    found = figures(pairs, is_watched=is_watched)
    if arguments.json:
        print(json.dumps(found))
    else:
        low, high = found["ratio_quartiles"]
        print(
            f"report call of {BLOCKS} blocks of {found['block_bytes'] >> 20} MiB,"
            f" median of {found['rounds']} pairs:\n"
            f"  full call     {found['call_ns'] / 1e6:8.2f} ms"
            f"    (least {found['call_ns_min'] / 1e6:.2f})\n"
            f"  bare punches  {found['bare_ns'] / 1e6:8.2f} ms"
            f"    (least {found['bare_ns_min'] / 1e6:.2f})\n"
            f"  ratio         {found['ratio']:8.3f}    (half of them {low:.3f} to {high:.3f};"
            f" goal at most {GOAL_RATIO})\n"
            f"  host measured {'exactly' if found['measured_exactly'] else 'NOT'} what was there;"
            f" guest's page table {'asked' if is_watched else 'not available'}"
        )
    return 0 if found["measured_exactly"] else 1


if __name__ == "__main__":
    sys.exit(main())
