"""Whether a daemon and its soaks leak: how threads, descriptors, memory and disk go, over an hour.

One soak goes on all the time, on as much load as it can do, every page stamped and checked. Beside
it short soaks come and go, each third of them killed; and each time a worker of the long one is
killed, too, and another takes its place. Between two of those everything is counted that the
daemon, its runner and their workers have. The slope of each figure is the median of the
slopes between all pairs of samples (Theil and Sen), which a few odd samples do not bend, after a
tenth of the time to warm up; memory is judged after ten minutes, in a shorter run not at all.
README.md says what the limits are.

    .venv/bin/python bench/leak_slopes.py [--seconds N] [--every N] [--json]

Ends with 1 when a limit is exceeded.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from pagesoak.base.units import MIB
from pagesoak.daemon.client import Client

SECONDS = 3600
EVERY_SECONDS = 20
EVERY_SECONDS_MIN = 3
"""A short soak starts, lives and ends within it, on a machine that has the time."""
SAMPLES_MIN = 5
START_SECONDS_MAX = 600.0
"""The first start compiles the core."""
END_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.1
STILL_LOOKS = 3
"""So many looks in a row must find the same: a worker that was just forked has what is its
runner's still, or not yet what it opens itself.
"""
ASK_AGAIN_SECONDS = 10.0
"""Longer than a run waits for a fault's moment."""
WARM_UP_SHARE = 10
UNSHARING_SECONDS = 600.0
"""Memory is judged only from then on: in the first minutes what forks share of their run's process
becomes their own, and an allocator gets what it keeps.
"""
POINTS_MAX = 300
"""Samples that slopes are taken from: 45 000 pairs."""
SECONDS_PER_HOUR = 3600
MEMORY_KIB_PER_HOUR_MAX = 4 << 10
"""Of all processes together: 3 GiB in a month."""
MEMORY_GROWTH_KIB_MIN = 2 << 10
"""What is less over the whole time is an allocator's own, however steep it looks in a minute."""
RUN_BYTES_MAX = 320 * MIB
"""Of one run's directory, however long it is: events 256 MiB, two logs of 16, series, the rest."""
OPERATIONS_PER_SECOND_MIN = 50_000
LONG = """
name = "long"
duration = "30d"
seed = 1
[guest]
memory = "128MiB"
[reporting]
delay = "500ms"
[[load]]
kind = "steady"
target = "48MiB"
"""
SHORT = """
name = "short"
duration = "500ms"
seed = 2
[guest]
memory = "64MiB"
[[load]]
kind = "steady"
target = "16MiB"
rate = 1000
"""
KILLS = ("kill-guest", "kill-reporter", "kill-host", "kill-guest-locked")
FIGURES = ("threads", "descriptors", "memory_kib", "disk_bytes")


class Sample(NamedTuple):
    """What there is at a moment, of all processes and of the long run's directory; what forks
    share counts once.
    """

    seconds: float
    processes: int
    threads: int
    descriptors: int
    memory_kib: int
    disk_bytes: int
    operations: int
    restarts: int
    violations: int


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for process in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{process}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def wait_for(client: Client, run: str, states: set[str], seconds: float) -> dict[str, Any]:
    """What the daemon says of a run when it is in one of these states."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        record: dict[str, Any] = client.get(f"/v1/runs/{run}")
        if record["state"] in states and (record["pid"] is not None) == (states == {"running"}):
            return record
        time.sleep(LOOK_SECONDS)
    raise SystemExit(f"run {run} was not {' or '.join(states)} within {seconds:.0f} s")


def short_soak(client: Client, number: int) -> None:
    """A soak that comes and goes; each third is killed when it runs."""
    name = f"short-{number}"
    client.post("/v1/runs", {"run": name, "scenario_toml": SHORT})
    if number % 3 == 0:
        with contextlib.suppress(SystemExit, ProcessLookupError):
            pid = wait_for(client, name, {"running"}, 2 * EVERY_SECONDS_MIN)["pid"]
            os.kill(pid, signal.SIGKILL)
    wait_for(client, name, {"ended", "unclean"}, END_SECONDS_MAX)


def kill_worker(client: Client, daemon: int, number: int) -> None:
    """Have a worker of the long soak killed, and wait until another is in its place, ready. A
    fault whose moment does not come is given up by the run, and asked for again.
    """
    record = client.get("/v1/runs/long")
    before = restarts(record)
    deadline = time.monotonic() + END_SECONDS_MAX
    ask_at = 0.0
    while restarts(client.get("/v1/runs/long")) == before:
        now = time.monotonic()
        if now > deadline:
            events = (Path(record["directory"]) / "events.jsonl").read_text().splitlines()[-20:]
            raise SystemExit("\n".join([*events, "no worker was replaced"]))
        if now > ask_at:
            client.post("/v1/runs/long/chaos", {"fault": KILLS[number % len(KILLS)]})
            ask_at = now + ASK_AGAIN_SECONDS
        time.sleep(LOOK_SECONDS)
    wait_until_still(daemon)


def restarts(record: dict[str, Any]) -> int:
    """Of a run's workers so far."""
    return sum(record["figures"]["restarts"].values())


def counts(pids: list[int]) -> tuple[int, int]:
    """Threads and descriptors of these processes."""
    threads = descriptors = 0
    for pid in pids:
        process = Path(f"/proc/{pid}")
        threads += len(list((process / "task").iterdir()))
        descriptors += len(list((process / "fd").iterdir()))
    return threads, descriptors


def wait_until_still(daemon: int) -> None:
    """Until several looks in a row find the same processes with as many threads, descriptors."""
    deadline = time.monotonic() + END_SECONDS_MAX
    seen: list[tuple[list[int], tuple[int, int]]] = []
    while len(seen) < STILL_LOOKS:
        if time.monotonic() > deadline:
            raise SystemExit(f"threads and descriptors did not stay the same: {seen}")
        time.sleep(LOOK_SECONDS)
        with contextlib.suppress(OSError):  # a process ended meanwhile
            pids = descendants(daemon)
            now = (pids, counts(pids))
            seen = [*seen, now] if seen[-1:] == [now] else [now]


def sample(client: Client, daemon: int, began: float) -> Sample:
    """Count everything once."""
    record = client.get("/v1/runs/long")
    figures = record["figures"]
    pids = descendants(daemon)
    memory_kib = 0
    for pid in pids:
        shared_out = Path(f"/proc/{pid}/smaps_rollup").read_text()
        memory_kib += int(shared_out.partition("Pss_Anon:")[2].split()[0])
    return Sample(
        time.monotonic() - began,
        len(pids),
        *counts(pids),
        memory_kib,
        sum(file.stat().st_size for file in Path(record["directory"]).rglob("*")),
        figures["alloc_requests"] + figures["frees"],
        restarts(record),
        figures["integrity"]["violations"],
    )


def slope(points: list[tuple[float, float]]) -> float:
    """The median slope between all pairs, per second."""
    points = points[:: -(-len(points) // POINTS_MAX)]
    return statistics.median((y - b) / (x - a) for (a, b), (x, y) in combinations(points, 2))


def judged(samples: list[Sample]) -> dict[str, Any]:
    """Slopes per hour, and which limits they exceed."""
    kept = samples[len(samples) // WARM_UP_SHARE :]
    late = [one for one in kept if one.seconds >= UNSHARING_SECONDS]
    per_hour = {
        name: slope([(one.seconds, getattr(one, name)) for one in kept]) * SECONDS_PER_HOUR
        for name in FIGURES
    }
    judges_memory = len(late) >= SAMPLES_MIN
    if judges_memory:
        points = [(one.seconds, float(one.memory_kib)) for one in late]
        per_hour["memory_kib"] = slope(points) * SECONDS_PER_HOUR
    rates = [
        (after.operations - before.operations) / (after.seconds - before.seconds)
        for before, after in pairwise(kept)
    ]
    grown_kib = late[-1].memory_kib - late[0].memory_kib if judges_memory else 0
    exceeded = [name for name in ("threads", "descriptors") if per_hour[name] > 0]
    steep = judges_memory and per_hour["memory_kib"] > MEMORY_KIB_PER_HOUR_MAX
    if steep and grown_kib > MEMORY_GROWTH_KIB_MIN:
        exceeded.append("memory_kib")
    if max(one.disk_bytes for one in samples) > RUN_BYTES_MAX:
        exceeded.append("disk_bytes")
    if judges_memory and min(rates) < OPERATIONS_PER_SECOND_MIN:
        exceeded.append("operations")
    if samples[-1].violations:
        exceeded.append("violations")
    return {
        "seconds": samples[-1].seconds,
        "samples": len(samples),
        "per_hour": per_hour,
        "first": kept[0]._asdict(),
        "last": kept[-1]._asdict(),
        "operations_per_second": {"min": min(rates), "median": statistics.median(rates)},
        "exceeded": exceeded,
    }


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Client]]:
    """A daemon with its places below `folder`."""
    path = folder / "s" / "control.sock"
    configuration = folder / "daemon.toml"
    configuration.write_text(
        f'[control]\nsocket = "{path}"\n[runs]\ndirectory = "{folder / "runs"}"\nchaos = true\n'
    )
    command = [sys.executable, "-m", "pagesoak", "serve", "--config", str(configuration)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--allow-root"], stderr=log)
    try:
        deadline = time.monotonic() + END_SECONDS_MAX
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit((folder / "log").read_text())
            time.sleep(LOOK_SECONDS)
        yield process, Client(str(path))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(END_SECONDS_MAX)


def measure(seconds: float, every_seconds: float) -> dict[str, Any]:
    """Soak, count, judge."""
    with tempfile.TemporaryDirectory() as name, daemon(Path(name)) as (process, client):
        client.post("/v1/runs", {"run": "long", "scenario_toml": LONG})
        wait_for(client, "long", {"running"}, START_SECONDS_MAX)
        for number in range(len(KILLS)):  # each kind of worker has been replaced once
            kill_worker(client, process.pid, number)
        began = time.monotonic()
        samples: list[Sample] = []
        while (due := began + len(samples) * every_seconds) <= began + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            short_soak(client, len(samples))
            kill_worker(client, process.pid, len(samples))
            samples.append(sample(client, process.pid, began))
        return judged(samples)


def text_of(found: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{found['samples']} samples in {found['seconds']:.0f} s"]
    for name in FIGURES:
        first, last = found["first"][name], found["last"][name]
        per_hour = found["per_hour"][name]
        lines.append(f"  {name:<12} {first:>12,} to {last:>12,}  {per_hour:+14,.1f} an hour")
    lines.append(f"  workers killed and replaced: {found['last']['restarts']}")
    rates = found["operations_per_second"]
    lines.append(
        f"  operations checked a second: {rates['min']:,.0f} at least, median"
        f" {rates['median']:,.0f} (goal {OPERATIONS_PER_SECOND_MIN:,})"
    )
    lines.append(f"exceeded: {', '.join(found['exceeded']) or 'nothing'}")
    return "\n".join(lines)


def main() -> int:
    """Measure and print; 1 when something leaks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long")
    parser.add_argument(
        "--every",
        type=float,
        default=EVERY_SECONDS,
        help="seconds from one short soak to the next",
    )
    parser.add_argument("--json", action="store_true", help="one object on one line")
    chosen = parser.parse_args()
    if chosen.every < EVERY_SECONDS_MIN or chosen.seconds < SAMPLES_MIN * chosen.every:
        parser.error(
            f"--every takes at least {EVERY_SECONDS_MIN}, --seconds {SAMPLES_MIN} times that"
        )
    found = measure(chosen.seconds, chosen.every)
    print(json.dumps(found) if chosen.json else text_of(found))
    return int(bool(found["exceeded"]))


if __name__ == "__main__":
    sys.exit(main())
