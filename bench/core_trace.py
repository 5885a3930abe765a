"""The compiled core against a bare C twin, on one trace of a million mixed requests.

The product replays the trace through `allocator.replay` with everything on but stamping: watermark
tests, counters, owner and sequence of every block, the pageset's lock, the zone's robust lock. The
twin (`twin.c`) keeps the same lists over the same 16-byte page records, in memory of the same
kind, and nothing else. Both must end in the same digest. Rounds are pairs in alternating order, so
that other load on the machine hits both; what counts is the median of the pairs' ratios.

Lock times are a measurement of their own, like stamping: two looks at the clock for each zone
lock. The ratio that has a goal is without them; the one with them on is printed beside it.

    .venv/bin/python bench/core_trace.py [--events N] [--rounds N] [--plain] [--digest] [--json]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any

from core_sides import COMPILERS, Core, Twin, build_twin, find_compiler, make_trace

from pagesoak.allocator.digest import state_digest
from pagesoak.base import layout
from pagesoak.base.native import core_mode

EVENTS = 1_000_000
ROUNDS = 21
ROUNDS_MIN = 2
"""Quartiles need two."""
WARM_UP_ROUNDS = 1
GOAL_RATIO = 1.5
"""What the product may cost, in times of the twin."""


def own_digest(events: int, *, plain: bool) -> dict[str, Any]:
    """This program's `--digest` in a process of its own: what the core ends with, there."""
    command = [sys.executable, __file__, "--events", str(events), "--digest", "--json"]
    environment = os.environ | ({"NUMBA_DISABLE_JIT": "1"} if plain else {})
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def alone(core: Core) -> int:
    """One run of the core; nanoseconds."""
    core.reset()
    return core.run()


def compare(core: Core, twin: Twin, rounds: int) -> dict[str, Any]:
    """Pairs of runs in alternating order."""
    pairs = []
    for number in range(rounds + WARM_UP_ROUNDS):
        taken: dict[str, int] = {}
        sides: list[tuple[str, Core | Twin]] = [("core", core), ("twin", twin)]
        for name, side in sides if number % 2 else reversed(sides):
            side.reset()
            taken[name] = side.run()
        pairs.append((taken["core"], taken["twin"]))
    del pairs[:WARM_UP_ROUNDS]
    ratios = [core_ns / twin_ns for core_ns, twin_ns in pairs]
    low, _, high = statistics.quantiles(ratios)
    return {
        "core_ns": statistics.median(core_ns for core_ns, _ in pairs),
        "twin_ns": statistics.median(twin_ns for _, twin_ns in pairs),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [low, high],
    }


def measure(events: int, rounds: int, *, plain: bool) -> dict[str, Any]:
    """Everything that is printed."""
    own_digest(1, plain=False)  # compiles, where it must: code from the cache is what soaks run
    trace = make_trace(events)
    core = Core(trace)
    found: dict[str, Any] = {
        "core": core_mode(),
        "events": events,
        "rounds": rounds,
        "page_record_bytes": layout.PAGE_RECORD_BYTES,
        "goal_ratio": GOAL_RATIO,
    }
    compiler = find_compiler()
    sides: list[Core | Twin] = [core]
    if compiler is None:
        found["skipped"] = f"the C twin: no C compiler ({', '.join(COMPILERS)}) on the PATH"
        core.time_locks(timed=False)
        found["core_ns"] = statistics.median(alone(core) for _ in range(rounds))
    else:
        twin = Twin(trace, build_twin(compiler))
        sides.append(twin)
        core.time_locks(timed=True)
        found["timed_locks"] = compare(core, twin, rounds)
        core.time_locks(timed=False)
        found |= compare(core, twin, rounds)
    digests = [side.digest() for side in sides]
    if plain:
        digests.append(own_digest(events, plain=True)["digest"])
    found["same_digest"] = len(set(digests)) == 1 if len(digests) > 1 else None
    found["failed"] = max(side.failed() for side in sides)
    for side in sides:
        side.close()
    return found


def text_of(found: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        f"{found['events']} mixed requests, {found['core']} core",
        f"  core   {found['core_ns'] / found['events']:7.1f} ns a request",
    ]
    if "skipped" in found:
        lines.append(f"  skipped: {found['skipped']}")
    else:
        low, high = found["ratio_quartiles"]
        timed = found["timed_locks"]
        lines += [
            f"  twin   {found['twin_ns'] / found['events']:7.1f} ns a request",
            f"  ratio  {found['ratio']:7.2f}    (half of the pairs {low:.2f} to {high:.2f})",
            f"  goal   {GOAL_RATIO:7.2f}    at most",
            f"  timed  {timed['ratio']:7.2f}    the ratio with zone locks timed",
        ]
    digests = {True: "agree", False: "DIFFER", None: "have nothing to be compared with"}
    lines.append(
        f"  digests {digests[found['same_digest']]}; {found['failed']} requests got nothing"
    )
    return "\n".join(lines)


def main() -> int:
    """Measure and print; 1 when the states differ, or the trace ran out of memory."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--events", type=int, default=EVENTS, help="requests of the trace")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="pairs of core and twin")
    parser.add_argument("--plain", action="store_true", help="compare with the plain core too")
    parser.add_argument("--digest", action="store_true", help="run the core once, print its state")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    arguments = parser.parse_args()
    if arguments.events < 1 or arguments.rounds < ROUNDS_MIN:
        parser.error(f"--events must be at least 1, --rounds at least {ROUNDS_MIN}")
    if arguments.digest:
        core = Core(make_trace(arguments.events))
        core.run()
        found = {
            "core": core_mode(),
            "digest": core.digest(),
            "state_digest": state_digest(core.segment),
            "failed": core.failed(),
        }
        core.close()
        print(json.dumps(found) if arguments.json else found["digest"])
        return 0
    found = measure(arguments.events, arguments.rounds, plain=arguments.plain)
    print(json.dumps(found) if arguments.json else text_of(found))
    return 1 if found["same_digest"] is False or found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
