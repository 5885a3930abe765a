"""A soak whose workers are killed and stopped, again and again: does it lose anything?

One live run of a guest of 128 MiB on two CPUs (bursts over a hog; a steady mix of all orders and
files through the page cache), reported from order 5 on every 50 ms. Faults come one after the
other, as soon as the guest has gone on after the last one: kills of random workers at random
moments, at least as many at named points inside a lock as asked for, and stops of each role.

Must hold, or the exit code is 1: as many kills as asked for, as many of them with a lock held, the
guest goes on after each of them, no page lost, no violation, all audits clean, and 99 % of the
recoveries within two seconds.

    .venv/bin/python bench/kill_soak.py [--kills N] [--inside-lock N] [--stop-seconds S]
        [--seed N] [--results FOLDER] [--json]
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from pagesoak.base import layout
from pagesoak.base.faults import (
    HOST_ANSWERS_TWICE,
    HOST_DIES,
    HOST_ERROR,
    HOST_PUNCHES_PARTLY,
    KILL_GUEST,
    KILL_GUEST_LOCKED,
    KILL_HOST,
    KILL_REPORTER,
    KILL_REPORTER_ISOLATED,
    KILL_REPORTER_LOCKED,
    STOP_GUEST,
    STOP_HOST,
    STOP_REPORTER,
    FaultWanted,
)
from pagesoak.base.native import core_mode
from pagesoak.base.scenario import Scenario, parse_scenario
from pagesoak.base.segment_view import SegmentView
from pagesoak.cli.common import load_core
from pagesoak.engine.recovery import Recovery
from pagesoak.engine.runner import run_scenario

KILLS = 2000
INSIDE_LOCK = 100
STOP_SECONDS = 30.0
SCENARIO = """
name = "kill-soak"
duration = "30d"
seed = {seed}
[guest]
memory = "128MiB"
cpus = 2
[reporting]
order = 5
delay = "50ms"
[limits]
oom_events_isolated_max = 1000000000
alloc_failures_isolated_max = 1000000000
[[load]]
kind = "bursts"
leave_free = "40MiB"
burst = "16MiB"
jitter = 25
think = "10ms"
hold = "5ms"
[[load]]
kind = "steady"
target = "16MiB"
orders = [60, 10, 8, 6, 5, 4, 3, 2, 1, 1]
types = {{ unmovable = 15, movable = 75, reclaimable = 10 }}
atomic_percent = 2
cpu = 1
[[load]]
kind = "files"
files = "16MiB"
rate = 20000
write_percent = 20
mlocked = "1MiB"
tmpfs = "1MiB"
cpu = 1
"""
AT_RANDOM = (
    *(KILL_GUEST,) * 8,
    *(KILL_HOST,) * 3,
    *(KILL_REPORTER,) * 3,
    KILL_REPORTER_ISOLATED,
    KILL_REPORTER_ISOLATED,
    HOST_DIES,
    HOST_ERROR,
    HOST_PUNCHES_PARTLY,
    HOST_ANSWERS_TWICE,
)
"""What comes next, each as likely as any."""
LOCKED = (KILL_GUEST_LOCKED, KILL_GUEST_LOCKED, KILL_GUEST_LOCKED, KILL_REPORTER_LOCKED)
STOPS = (STOP_GUEST, STOP_REPORTER, STOP_HOST)
KILLS_OF_WORKERS = frozenset({HOST_DIES, *(kind for kind in AT_RANDOM if kind.startswith("kill"))})
PAUSE_SECONDS_MAX = 0.05
"""Between the guest's going on and the next fault."""
WEDGED_SECONDS = 60.0
"""Beyond the longest stop: a guest that has not gone on by then does not."""
SETTLE_SECONDS = 3.0
"""After the last fault, before the end is asked for."""
RECOVERY_SECONDS_MAX = 2.0
TOLD_EVERY = 50
DESCRIPTORS = Path("/proc/self/fd")


class Killer:
    """In the place of the daemon at the end of a runner's line (`engine.line.Line`): wants one
    fault after the other, and the run's end after the last.
    """

    def __init__(self, kills: int, inside: int, stop_seconds: float, seed: int) -> None:
        self.unstored: Callable[[], object] | None = None
        self.news: Callable[[], object] | None = None
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._kills = kills
        self._inside = inside
        self._stops = [FaultWanted(kind, seconds=stop_seconds) for kind in STOPS]
        self._view: SegmentView | None = None
        self._due = float("inf")
        self._deadline = float("inf")
        self._waiting: FaultWanted | None = None
        self._seen = (0, 0)
        self._after: list[int] = []
        self._allowance = 0.0
        self.kills = self.inside = self.stops = self.missed = self.others = 0
        self.lock_deaths = 0
        self.wedged = 0
        self.descriptors: list[int] = []

    # -- what the runner calls --------------------------------------------------------------------

    def prepared(self, _run: str, _directory: Path, segment: int) -> None:
        """The run has begun to be."""
        self._view = SegmentView(os.dup(segment))

    def stopping(self) -> bool:
        """Whether all is done, or nothing goes on any more."""
        now = time.monotonic()
        if self._view is None or not self._view.header[layout.H_STARTED_AT_NS]:
            return False
        if self._due == float("inf") and self._waiting is None:
            self._go_on_from(now)
        if now > self._deadline:
            self.wedged += 1
            return True
        return self._is_done() and now > self._due + SETTLE_SECONDS

    def take_faults(self) -> list[FaultWanted]:
        """The next fault, when the guest has gone on after the last one."""
        now = time.monotonic()
        if self._waiting is not None or now < self._due or self._is_done():
            return []
        if not self._has_gone_on():
            return []
        self._waiting = self._next()
        self._deadline = now + WEDGED_SECONDS + self._waiting.seconds
        return [self._waiting]

    def orders(self) -> Iterator[dict[str, Any]]:
        """Nobody pauses or changes the run."""
        return iter(())

    def ended(self, summary: Mapping[str, Any], exit_code: int, complaint: str) -> None:
        """The run is over."""

    # -- what it makes of it ----------------------------------------------------------------------

    def _is_done(self) -> bool:
        return self.kills >= self._kills and self.inside >= self._inside and not self._stops

    def _next(self) -> FaultWanted:
        if self._stops and self.kills >= self._kills // 2:
            return self._stops.pop()
        share = self._inside / max(self._kills, 1)
        if self.inside < self._inside and self.inside <= self.kills * share:
            return FaultWanted(self._random.choice(LOCKED))
        return FaultWanted(self._random.choice(AT_RANDOM))

    def hear(self, kind: str, fields: Mapping[str, Any]) -> None:
        """What the runner notes as an event of its own: not from the file of the run, which has a
        limit that a slow machine's failures reach.
        """
        if kind == "recovered":
            self.lock_deaths += fields["lock_died"]
        if kind not in ("fault", "fault-missed") or self._waiting is None:
            return
        if kind == "fault-missed":
            self.missed += 1
            if self._waiting.kind in STOPS:  # each role is stopped, sooner or later
                self._stops.append(self._waiting)
        elif fields["fault"] in KILLS_OF_WORKERS:
            self.kills += 1
        elif fields["fault"] in LOCKED:
            self.kills += 1
            self.inside += 1
        elif fields["fault"] in STOPS:
            self.stops += 1
        else:
            self.others += 1
        done = self.kills + self.stops
        if done % TOLD_EVERY == 0 and kind == "fault":
            self.descriptors.append(sum(1 for _ in DESCRIPTORS.iterdir()))
            sys.stderr.write(f"{self.kills} kills, {self.inside} inside, {self.stops} stops\n")
        lasts = self._waiting.seconds if fields["fault"] in STOPS else 0.0
        self._waiting = None
        self._go_on_from(time.monotonic() + lasts)

    def _go_on_from(self, now: float) -> None:
        self._due = now + self._random.random() * PAUSE_SECONDS_MAX
        self._deadline = self._due + WEDGED_SECONDS
        self._after = self._operations()

    def _operations(self) -> list[int]:
        """What each guest CPU has done, and how many reports were answered."""
        if self._view is None:
            return []
        words = self._view.workers
        done = [
            words[cpu * layout.WORKER_WORDS + layout.W_OPERATIONS]
            for cpu in range(self._view.plan.cpus)
        ]
        return [*done, self._view.report[layout.R_PASS]]

    def _has_gone_on(self) -> bool:
        """Whether every CPU has worked, and a pass has begun, since the last fault."""
        return all(now > then for now, then in zip(self._operations(), self._after, strict=True))


def scenario(seed: int) -> Scenario:
    """What is soaked."""
    return parse_scenario(SCENARIO.format(seed=seed), file="kill-soak.toml", folder=Path())


def soak(kills: int, inside: int, stop_seconds: float, seed: int, results: Path) -> dict[str, Any]:
    """Run it; what came of it, with `holds`."""
    killer = Killer(kills, inside, stop_seconds, seed)
    note = Recovery.note

    def note_and_tell(recovery: Recovery, kind: str, fields: Mapping[str, Any]) -> None:
        note(recovery, kind, fields)
        killer.hear(kind, fields)

    with mock.patch.object(Recovery, "note", note_and_tell):
        outcome = run_scenario(
            scenario(seed),
            results=results,
            command=sys.argv,
            line=killer,  # type: ignore[arg-type]
        )
    summary = outcome.summary
    recoveries = summary["recoveries"]
    found = {
        "kills": killer.kills,
        "inside_lock": killer.inside,
        "locks_died": killer.lock_deaths,
        "stops": killer.stops,
        "other_faults": killer.others,
        "missed": killer.missed,
        "wedged": killer.wedged,
        "false_violations": summary["integrity"]["violations"],
        "pages_lost": recoveries["lost_pages"],
        "torn_pages": recoveries["torn_pages"],
        "audits": summary["audits"]["run"],
        "audits_failed": summary["audits"]["failed"],
        "recoveries": recoveries["count"],
        "recovered": recoveries["recovered"],
        "epochs": summary["epochs"],
        "hosts_fenced": recoveries["hosts_fenced"],
        "recovery_seconds": recoveries["seconds"],
        "pages_verified": summary["integrity"]["pages_verified"],
        "descriptors": [min(killer.descriptors, default=0), max(killer.descriptors, default=0)],
        "seconds": round(summary["wall_seconds"], 1),
        "verdict": summary["verdict"],
        "reason": summary["reason"],
        "core": core_mode(),
        "directory": summary["directory"],
    }
    found["holds"] = (
        summary["verdict"] == "pass"
        and killer.kills >= kills
        and killer.inside >= inside
        and killer.lock_deaths >= inside
        and killer.stops == len(STOPS)
        and not any(
            found[name] for name in ("wedged", "false_violations", "pages_lost", "audits_failed")
        )
        and recoveries["seconds"]["p99"] < RECOVERY_SECONDS_MAX
    )
    return found


def main() -> int:
    """Read the options, soak, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--inside-lock", type=int, default=INSIDE_LOCK)
    parser.add_argument("--stop-seconds", type=float, default=STOP_SECONDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, help="kept there; else only if it does not hold")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if min(options.kills, options.inside_lock) < 0 or options.stop_seconds <= 0:
        parser.error("numbers of kills are 0 or more, and a stop lasts longer than nothing")
    load_core()
    folder = Path(tempfile.mkdtemp(prefix="kill-soak-"))
    found = soak(
        options.kills,
        options.inside_lock,
        options.stop_seconds,
        options.seed,
        options.results or folder,
    )
    if found["holds"] or options.results:
        shutil.rmtree(folder)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<20}{value}")
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
