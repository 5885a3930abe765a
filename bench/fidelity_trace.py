"""How long it takes to hold the model to a recorded trace, and how much of that is parsing.

The check of a workload trace (`pagesoak.study.fidelity_trace`) reads the text, drives the compiled
core event by event, twice (it keeps a second guest one request behind, for repairs), and compares
exact snapshots. What it cannot beat is the reading: the same file through the same parser, and
nothing else. Rounds are pairs in alternating order, so that other load on the machine hits both.

    .venv/bin/python bench/fidelity_trace.py [RECORDING] [--rounds N] [--json]
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from pagesoak.allocator.trace import read_trace
from pagesoak.base.native import core_mode, load_entries
from pagesoak.study.fidelity_trace import TraceFidelity, check_trace
from pagesoak.study.fidelity_trace_inputs import find_trace

RECORDING = Path(__file__).resolve().parents[1] / "tests" / "recordings" / "w2"
ROUNDS = 5
WARM_UP_ROUNDS = 1
GOAL_SECONDS = 10
"""For w2: 354 000 events, 5 exact snapshots, on two cores."""


def parse(trace: Path) -> int:
    """Read all events; their number."""
    return sum(1 for _ in read_trace(trace))


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Everything that is printed."""
    trace = find_trace(folder)
    if trace is None:
        raise SystemExit(f"{folder}: no trace in it")
    load_entries()
    pairs: list[tuple[float, float]] = []
    events = 0
    result: TraceFidelity | None = None
    for number in range(rounds + WARM_UP_ROUNDS):
        taken = {}
        for side in ("check", "parse") if number % 2 else ("parse", "check"):
            began = time.perf_counter()
            if side == "parse":
                events = parse(trace)
            else:
                result = check_trace(folder)
            taken[side] = time.perf_counter() - began
        pairs.append((taken["check"], taken["parse"]))
    del pairs[:WARM_UP_ROUNDS]
    if result is None:
        raise SystemExit("nothing was measured")
    found = result.findings
    return {
        "recording": folder.name,
        "core": core_mode(),
        "events": events,
        "rounds": rounds,
        "goal_seconds": GOAL_SECONDS,
        "check_seconds": statistics.median(check for check, _ in pairs),
        "parse_seconds": statistics.median(parsing for _, parsing in pairs),
        "ratio": statistics.median(check / parsing for check, parsing in pairs),
        "exact": found.allocations.exact,
        "allocations": found.allocations.total,
        "holds": result.as_json()["holds"],
    }


def text_of(found: dict[str, Any]) -> str:
    """The figures for people."""
    return "\n".join(
        [
            f"{found['recording']}: {found['events']} events, {found['core']} core",
            f"  check  {found['check_seconds']:7.2f} s, parsing included",
            f"  parse  {found['parse_seconds']:7.2f} s",
            f"  ratio  {found['ratio']:7.2f}",
            f"  goal   {found['goal_seconds']:7.2f} s at most, for w2",
            f"  {found['exact']} of {found['allocations']} allocations exact",
        ]
    )


def main() -> int:
    """Measure and print; 1 when what is demanded of the recording does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("recording", type=Path, nargs="?", default=RECORDING)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="pairs of check and parsing")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    found = measure(arguments.recording, arguments.rounds)
    print(json.dumps(found) if arguments.json else text_of(found))
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
