"""The allocations of a run that got nothing, from its events: when, what was asked, what was
there, and why.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pagesoak.allocator import gfp
from pagesoak.base.statistics import CAUSES

KINDS = {"oom": "OOM kill", "allocation-failed": "failed"}
SHOWN_MAX = 8
"""Failures of one run that are listed; all are in its events."""
NANOSECONDS_PER_SECOND = 1_000_000_000

GFP_NAMES = {
    gfp.USER_MOVABLE: "GFP_HIGHUSER_MOVABLE",
    gfp.KERNEL: "GFP_KERNEL",
    gfp.ATOMIC: "GFP_ATOMIC",
}


def failures(directory: Path) -> Iterator[dict[str, Any]]:
    """The failed requests of a run, in order; `seconds` since the soak's first event."""
    began_ns = None
    events = directory / "events.jsonl"
    if not events.exists():  # nothing happened
        return
    with events.open() as lines:
        for line in lines:
            event = json.loads(line)
            began_ns = event["monotonic_ns"] if began_ns is None else began_ns
            if event["kind"] in KINDS:
                seconds = (event["monotonic_ns"] - began_ns) / NANOSECONDS_PER_SECOND
                yield event | {"seconds": seconds, "cause_name": CAUSES[event["cause"]]}


def failure_lines(directory: Path) -> list[str]:
    """A line each for the first failures of a run, and one that counts the rest."""
    found = list(failures(directory))
    lines = [
        f"  at {event['seconds']:6.2f} s  {KINDS[event['kind']]}: order {event['order']} "
        f"{GFP_NAMES.get(event['gfp'], hex(event['gfp']))}, {event['free_pages']:,} pages free, "
        f"{event['isolated_pages']:,} isolated for reporting: {event['cause_name']}"
        for event in found[:SHOWN_MAX]
    ]
    if len(found) > SHOWN_MAX:
        lines.append(f"  and {len(found) - SHOWN_MAX} more, in events.jsonl")
    return lines
