"""Made runs for tests of comparisons: summaries with the figures that a test is about."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pagesoak.base.scenario import Scenario, parse_scenario
from pagesoak.study.compare import Comparison
from pagesoak.study.compare_figures import STRETCHES, Run
from pagesoak.study.compare_plan import make_plan

SCENARIO = """
name = "made"
description = "a made one"
duration = "60s"
[guest]
memory = "512MiB"
[host]
latency_per_call = "100ms"
[[load]]
kind = "bursts"
leave_free = "150MiB"
burst = "100MiB"
think = "1s"
hold = "100ms"
"""


def scenario(text: str = SCENARIO) -> Scenario:
    return parse_scenario(text, file="made.toml", folder=Path())


def summary(
    *,
    isolated: int = 0,
    exhausted: int = 0,
    bursts: int = 40,
    killed: int | None = None,
    punched_bytes: int = 0,
    margin: int = 100,
    directory: str = "made",
    windows: int = 0,
    reporter_waits: int = 0,
    oom_waits: int = 0,
) -> dict[str, Any]:
    """A summary as far as a comparison reads it; every kill takes a burst unless `killed` says."""
    return {
        "verdict": "fail" if isolated else "pass",
        "directory": directory,
        "started_monotonic_ns": 1_000_000_000,
        "duration_seconds": 60.0,
        "oom_events": {"isolated": isolated, "fragmented": 0, "exhausted": exhausted},
        "alloc_failures": {"isolated": 0, "fragmented": 0, "exhausted": 0},
        "bursts": {"run": bursts, "killed": isolated + exhausted if killed is None else killed},
        "stalls": 0,
        "watermark_margin_pages_min": {"min": margin, "low": margin - 10, "high": margin - 20},
        "free_pages_min": 1000,
        "isolated_pages_max": 0,
        "report_calls": 0,
        "passes": 0,
        "reported_pages": 0,
        "punched_bytes": punched_bytes,
        "window_seconds": {"count": windows},
        "reporter_waits": reporter_waits,
        "oom_waits": {"count": oom_waits, "seconds": oom_waits * 0.25},
        "zones": [
            {"managed_pages": 4000, "reported_pages": 10, "watermark_pages": {"min": 30}},
            {"managed_pages": 120_000, "reported_pages": 500, "watermark_pages": {"min": 600}},
        ],
    }


def run(seed: int, *, windows_ns: Sequence[int] = (), **figures: Any) -> Run:
    """A run with these figures."""
    return Run(
        seed,
        summary(**figures),
        tuple(windows_ns),
        (),
        tuple([1000] * STRETCHES),
        tuple([0] * STRETCHES),
    )


def comparison(
    policies: str, *runs: Sequence[Run], changed: Sequence[str] = (), interrupted: bool = False
) -> Comparison:
    """A comparison of these runs, for each variant those of its seeds."""
    seeds = max(1, *map(len, runs))
    plan = make_plan(scenario(), policies, changed=changed, seeds=seeds, virtual=True)
    return Comparison(plan, tuple(map(tuple, runs)), interrupted)
