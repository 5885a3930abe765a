"""The allocations of a run that got nothing, from its events: when, why, what was asked and what
was there.

Those that isolated pages caused come first: they are what a soak is about.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pagesoak.allocator import gfp
from pagesoak.base.statistics import CAUSES

OUTCOMES = {"oom": "killed", "allocation-failed": "failed"}
"""Kinds of events that are listed, and what became of the request."""
BECAUSE = {
    "isolated": "because pages were isolated",
    "fragmented": "because memory was fragmented",
    "exhausted": "because memory was exhausted",
}
"""A cause as a reader meets it."""
SHOWN_MAX = 8
"""Failures of one run that are listed; all are in its events."""
NANOSECONDS_PER_SECOND = 1_000_000_000

GFP_NAMES = {
    gfp.USER_MOVABLE: "GFP_HIGHUSER_MOVABLE",
    gfp.KERNEL: "GFP_KERNEL",
    gfp.ATOMIC: "GFP_ATOMIC",
}


class Failure(NamedTuple):
    """A request that got nothing. `seconds` is on the soak's clock: negative before it started,
    None when it never did. Pages are those of all zones.
    """

    seconds: float | None
    outcome: str
    cause: str
    order: int
    gfp: int
    free_pages: int
    isolated_pages: int


def failures(directory: Path, started_monotonic_ns: int | None) -> Iterator[Failure]:
    """The failed requests of a run, in order."""
    events = directory / "events.jsonl"
    if not events.exists():  # nothing happened
        return
    with events.open() as lines:
        for line in lines:
            event: dict[str, Any] = json.loads(line)
            if event["kind"] not in OUTCOMES:
                continue
            seconds = None
            if started_monotonic_ns is not None:
                seconds = (event["monotonic_ns"] - started_monotonic_ns) / NANOSECONDS_PER_SECOND
            yield Failure(
                seconds,
                OUTCOMES[event["kind"]],
                CAUSES[event["cause"]],
                event["order"],
                event["gfp"],
                event["free_pages"],
                event["isolated_pages"],
            )


def failure_line(failure: Failure) -> str:
    """One failure in words."""
    when = "before the start"
    if failure.seconds is not None and failure.seconds >= 0:
        when = f"at {failure.seconds:6,.2f} s"
    return (
        f"{when}  {failure.outcome} {BECAUSE[failure.cause]}: order {failure.order} "
        f"{GFP_NAMES.get(failure.gfp, hex(failure.gfp))}, {failure.free_pages:,} pages free, "
        f"{failure.isolated_pages:,} isolated"
    )


def failure_lines(directory: Path, started_monotonic_ns: int | None) -> list[str]:
    """A line each for the first failures of a run, isolated ones before the others, and one that
    counts the rest.
    """
    isolated: list[Failure] = []
    others: list[Failure] = []
    count = 0
    for failure in failures(directory, started_monotonic_ns):
        count += 1
        kept = isolated if failure.cause == "isolated" else others
        if len(kept) < SHOWN_MAX:
            kept.append(failure)
    lines = [failure_line(failure) for failure in (isolated + others)[:SHOWN_MAX]]
    if count > len(lines):
        lines.append(f"and {count - len(lines):,} more, in events.jsonl")
    return lines
