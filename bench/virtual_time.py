"""How fast virtual time goes: a virtual soak beside a bare native replay of the same requests.

A guest of 512 MiB makes 50 000 requests in each second of virtual time, and its free memory is
reported: every 2 s as Linux does, or every 10 ms. The bare side makes the same requests through
the same compiled core in one call, on real clocks, with no lock timed, no reporter and no host. So
the ratio is what virtual time and reporting cost together. Both run on metadata alone.

Rounds are pairs in alternating order, each on fresh guests; what counts is the median of the
pairs' ratios. Times are processor times, which others on the machine disturb less.

    .venv/bin/python bench/virtual_time.py [--seconds N] [--rounds N] [--profile MS] [--json]
"""

import argparse
import cProfile
import json
import statistics
import subprocess
import sys
import time
from array import array
from typing import Any, NamedTuple

from core_sides import Trace, make_trace

from pagesoak.allocator import guest, replay
from pagesoak.allocator.geometry import guest_zones
from pagesoak.allocator.loads import ReplaySettings
from pagesoak.allocator.loads import replay as replay_load
from pagesoak.allocator.populate import plan_from_geometry, populate_synthetic
from pagesoak.allocator.worker import guest_worker
from pagesoak.base import layout
from pagesoak.base import statistics as st
from pagesoak.base.native import core_mode
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import read_all_counters
from pagesoak.engine.virtual import VirtualDriver
from pagesoak.host.device import HostModel
from pagesoak.host.virtual_ram import open_virtual_ram
from pagesoak.host.worker import host_worker
from pagesoak.reporter.passes import ReporterSettings
from pagesoak.reporter.policies import policy_by_name
from pagesoak.reporter.worker import reporter_worker

MEMORY_BYTES = 512 << 20
REQUESTS_PER_SECOND = 50_000
SECONDS = 20
ROUNDS = 9
ROUNDS_MIN = 2
"""Quartiles need two."""
WARM_UP_ROUNDS = 1
NANOSECONDS_PER_SECOND = 1_000_000_000
NANOSECONDS_PER_MS = 1_000_000
FOREVER_NS = 1 << 60
RECORDED_PPM = 1_000_000
REPORTER, HOST = 1, 2
GOALS = {2000: 1.2, 10: 6.0}
"""Milliseconds from pass to pass, and how many times the bare replay a virtual soak may take."""
DELAYS_MS = {2000: 2000, 10: 5}
"""The reporting delay that comes to it: a pass also waits for a tick, and for a large block to be
freed, which takes some 4 ms in this trace.
"""
FASTEST_HZ = 1000
"""The guest's ticks: those of 250 Hz are too long for a pass every 10 ms."""


class Made(NamedTuple):
    """One run: nanoseconds, and what the guest and its reporter did."""

    took_ns: int
    requests: int
    passes: int
    report_calls: int


def timed_trace(seconds: int) -> Trace:
    """The trace of `core_trace.py`, its requests evenly spread over the time."""
    trace = make_trace(seconds * REQUESTS_PER_SECOND)
    step_ns = NANOSECONDS_PER_SECOND // REQUESTS_PER_SECOND
    requests = trace.requests
    for event in range(trace.events):
        requests[event * layout.REPLAY_EVENT_WORDS] = event * step_ns
    return trace


def make_guest(trace: Trace) -> Segment:
    """A guest of 512 MiB whose one load replays the trace."""
    zones = guest_zones(MEMORY_BYTES)
    plan = plan_from_geometry(
        zones, cpus=1, loads=1, table_words=trace.allocations, replay_events=trace.events
    )
    segment = Segment.create(plan)
    populate_synthetic(segment, zones)
    segment.report[layout.R_EVENTFD] = -1
    segment.replay[: len(trace.requests)] = memoryview(trace.requests)
    segment.loads[layout.L_OWNER] = layout.OWNER_FIRST_LOAD
    segment.loads[layout.L_CAPACITY] = trace.allocations
    segment.loads[layout.L_EVENT_COUNT] = trace.events
    segment.tables[: trace.allocations] = memoryview(array("i", [-1]) * trace.allocations)
    return segment


def made(segment: Segment, took_ns: int) -> Made:
    """What has been done, from the counters."""
    counters = read_all_counters(segment)
    requests = segment.loads[layout.L_CURSOR]
    return Made(took_ns, requests, counters[st.PASSES], counters[st.REPORT_CALLS])


def run_bare(trace: Trace) -> Made:
    """All requests in one call."""
    segment = make_guest(trace)
    segment.header[layout.H_TIMED_LOCKS] = 0
    segment.header[layout.H_FENCED] = 0
    began_ns = time.process_time_ns()
    reason, _ = replay.replay(segment.base, 0, 0, FOREVER_NS, 0, FOREVER_NS)
    took_ns = time.process_time_ns() - began_ns
    if reason != guest.DONE:
        raise SystemExit(f"the bare replay ended with code {reason}")
    found = made(segment, took_ns)
    segment.close()
    return found


def run_virtual(trace: Trace, every_ms: int, profile: cProfile.Profile | None = None) -> Made:
    """The same requests on a virtual clock, with reporter and host."""
    segment = make_guest(trace)
    ram = open_virtual_ram(segment, touch=False)
    policy = policy_by_name("mainline")
    settings = ReporterSettings(
        zones=segment.plan.zones,
        delay_ns=DELAYS_MS[every_ms] * NANOSECONDS_PER_MS,
        hz=FASTEST_HZ,
        names_points=False,
    )
    workers = {
        0: guest_worker([replay_load(ReplaySettings(0, 0, RECORDED_PPM, alone=True))]),
        REPORTER: reporter_worker(segment.base, REPORTER, policy, settings),
        HOST: host_worker(segment.base, HOST, ram, HostModel()),
    }
    driver = VirtualDriver(segment, workers)
    driver.start()
    until_ns = trace.events * NANOSECONDS_PER_SECOND // REQUESTS_PER_SECOND
    if profile is not None:
        profile.enable()
    began_ns = time.process_time_ns()
    driver.run(driver.started_ns + until_ns)
    took_ns = time.process_time_ns() - began_ns
    if profile is not None:
        profile.disable()
    driver.finish()
    found = made(segment, took_ns)
    segment.close()
    return found


def compare(trace: Trace, every_ms: int, rounds: int) -> dict[str, Any]:
    """Pairs of runs in alternating order."""
    pairs = []
    for number in range(rounds + WARM_UP_ROUNDS):
        if number % 2:
            bare = run_bare(trace)
            virtual = run_virtual(trace, every_ms)
        else:
            virtual = run_virtual(trace, every_ms)
            bare = run_bare(trace)
        if (virtual.requests, bare.requests) != (trace.events, trace.events):
            raise SystemExit(f"{virtual.requests} and {bare.requests} requests were made")
        pairs.append((virtual, bare))
    del pairs[:WARM_UP_ROUNDS]
    ratios = [virtual.took_ns / bare.took_ns for virtual, bare in pairs]
    low, _, high = statistics.quantiles(ratios)
    seconds = trace.events / REQUESTS_PER_SECOND
    virtual_ns = statistics.median(virtual.took_ns for virtual, _ in pairs)
    return {
        "every_ms": every_ms,
        "goal_ratio": GOALS[every_ms],
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [low, high],
        "bare_ns": statistics.median(bare.took_ns for _, bare in pairs),
        "virtual_ns": virtual_ns,
        "simulated_seconds_per_second": seconds * NANOSECONDS_PER_SECOND / virtual_ns,
        "passes": pairs[0][0].passes,
        "report_calls": pairs[0][0].report_calls,
    }


def measure(seconds: int, rounds: int) -> dict[str, Any]:
    """Everything that is printed."""
    trace = timed_trace(seconds)
    return {
        "core": core_mode(),
        "seconds": seconds,
        "requests": trace.events,
        "rounds": rounds,
        "passes": [compare(trace, every_ms, rounds) for every_ms in GOALS],
    }


def text_of(found: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        f"{found['requests']} requests in {found['seconds']} s, {found['core']} core",
    ]
    for part in found["passes"]:
        low, high = part["ratio_quartiles"]
        lines += [
            f"every {part['every_ms']} ms: {part['passes']} passes, {part['report_calls']} calls",
            f"  virtual {part['virtual_ns'] / found['requests']:7.1f} ns a request",
            f"  speed   {part['simulated_seconds_per_second']:7.0f} simulated seconds per second",
            f"  bare    {part['bare_ns'] / found['requests']:7.1f} ns a request",
            f"  ratio   {part['ratio']:7.2f}    (half of the pairs {low:.2f} to {high:.2f})",
            f"  goal    {part['goal_ratio']:7.2f}    at most",
        ]
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of virtual time")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="pairs of virtual and bare")
    parser.add_argument("--profile", type=int, choices=GOALS, help="profile one run instead")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one object on one line")
    chosen = parser.parse_args()
    if chosen.seconds < 1 or chosen.rounds < ROUNDS_MIN:
        parser.error(f"--seconds takes at least 1, --rounds at least {ROUNDS_MIN}")
    if chosen.once:
        run_virtual(timed_trace(1), min(GOALS))
        run_bare(timed_trace(1))
        return 0
    # Compiles, where it must, in a process of its own: code from the cache is what soaks run.
    subprocess.run([sys.executable, __file__, "--once"], check=True)
    if chosen.profile is not None:
        run_virtual(timed_trace(1), chosen.profile)  # loads the code
        profile = cProfile.Profile()
        run_virtual(timed_trace(chosen.seconds), chosen.profile, profile)
        profile.print_stats("tottime")
        return 0
    found = measure(chosen.seconds, chosen.rounds)
    print(json.dumps(found) if chosen.json else text_of(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
