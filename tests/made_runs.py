"""Directories of runs made by hand, for tests of what reads them: events whose story is known."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pagesoak.allocator import gfp
from pagesoak.base.scenario_file import toml_text

STARTED_NS = 1_000_000_000
MS = 1_000_000
VCPU, REPORTER, HOST = 0, 1, 2
ZONES = (
    {"zone": "DMA", "node": 0, "managed_pages": 3_840, "watermark_pages": (21, 26, 31)},
    {"zone": "DMA32", "node": 0, "managed_pages": 118_784, "watermark_pages": (678, 847, 1_016)},
)
SUMMARY: dict[str, Any] = {
    "scenario": "made",
    "policy": "mainline",
    "mode": "virtual",
    "seed": 1,
    "verdict": "fail",
    "started_monotonic_ns": STARTED_NS,
    "duration_seconds": 10.0,
    "guest": {"cpus": 1},
    "free_pages_min": 1_137,
    "isolated_pages_max": 25_600,
    "watermark_margin_pages_min": {"min": -26, "low": -195, "high": -364},
    "zones": [
        zone
        | {
            "watermark_pages": dict(
                zip(("min", "low", "high"), zone["watermark_pages"], strict=True)
            )
        }
        for zone in ZONES
    ],
}
SCENARIO: dict[str, Any] = {
    "name": "made",
    "seed": 1,
    "guest": {"cpus": 1, "hz": 250},
    "reporting": {"policy": "mainline", "delay": "2s"},
    "load": [{"kind": "bursts"}],
}
ZONEINFO = """\
Node 0, zone      DMA
  pages free     3816
        min      21
        low      26
        high     31
        spanned  4095
        present  3840
        managed  3840
        protection: (0, 464, 464, 464)
Node 0, zone    DMA32
  pages free     34401
        min      678
        low      847
        high     1016
        spanned  126976
        present  118784
        managed  118784
        protection: (0, 0, 0, 0)
"""


def event(at_ms: float, worker: int, kind: str, **fields: int) -> dict[str, Any]:
    """An event at a time of the soak's clock."""
    time_ns = STARTED_NS + round(at_ms * MS)
    return {"monotonic_ns": time_ns, "worker": worker, "kind": kind, **fields}


def request(at_ms: float, kind: str, worker: int = VCPU, **changed: int) -> dict[str, Any]:
    """An event of a request of order 0 that found 1,137 pages free and 25,600 isolated."""
    fields = {
        "order": 0,
        "gfp": gfp.USER_MOVABLE,
        "free_pages": 1_137,
        "isolated_pages": 25_600,
        "margin_pages": 0,
        "cause": 0,
    }
    return event(at_ms, worker, kind, **fields | changed)


def window(
    at_ms: float, request_number: int = 7, length_ms: float = 500.0
) -> list[dict[str, Any]]:
    """A pass with one window: 1,024 pages of order 9 and 24,576 of order 10."""
    isolated = {"zone": 1, "entries": 2}
    end_ms = at_ms + length_ms
    of_request = {"request": request_number, "entries": 26, "pages": 25_600}
    left = {"free_pages": 8_774}
    return [
        event(at_ms - 1, REPORTER, "pass-start", **{"pass": 3}),
        event(at_ms, REPORTER, "isolated", order=9, pages=1_024, free_pages=33_350, **isolated),
        event(at_ms, REPORTER, "isolated", order=10, pages=24_576, **left, **isolated),
        event(at_ms + 1, REPORTER, "report", isolated_pages=25_600, **left, **of_request),
        event(
            end_ms - 1, REPORTER, "answer",
            request=request_number, error=0, window_ns=round((length_ms - 1) * MS),
        ),
        event(end_ms, REPORTER, "drained", reported_pages=25_088, free_pages=33_741, **of_request),
        event(end_ms + 1, REPORTER, "pass-end", state=0, calls=1, **{"pass": 3}),
    ]  # fmt: skip


def killed_burst() -> list[dict[str, Any]]:
    """A burst that begins in a window, 3.0 to 3.5 s, and is killed at 3.4 s."""
    burst = {"load": 1, "free_pages": 12_590, "isolated_pages": 25_600}
    events = [
        event(950, VCPU, "notify", pfn=0x1FC00, order=9, state=0),
        *window(3_000),
        event(3_350, VCPU, "burst-begin", pages=25_600, **burst),
        request(3_399.5, "stalled"),
        request(3_400, "oom"),
        event(3_400, VCPU, "oom-kill", load=1, pages=11_633, badness=11_656, asking_load=1),
        event(3_402, VCPU, "burst-end", killed=1, **burst),
    ]
    return sorted(events, key=lambda one: one["monotonic_ns"])


def write_run(
    folder: Path,
    events: Iterable[Mapping[str, Any]] = (),
    *,
    name: str = "20260314T150926Z-made-mainline-1",
    summary: Mapping[str, Any] | None = SUMMARY,
    scenario: Mapping[str, Any] | None = SCENARIO,
    series: str | None = None,
) -> Path:
    """A run's directory below `folder`."""
    directory = folder / name
    directory.mkdir(parents=True)
    if summary is not None:
        (directory / "summary.json").write_text(json.dumps(summary))
        (directory / "after.zoneinfo").write_text(ZONEINFO)
    if scenario is not None:
        (directory / "scenario.toml").write_text(toml_text(dict(scenario)))
    text = lines(events)
    if text:
        (directory / "events.jsonl").write_text(text)
    if series is not None:
        (directory / "series.csv").write_text(series)
    return directory


def lines(events: Iterable[Mapping[str, Any]]) -> str:
    """Events as the file has them."""
    return "".join(json.dumps(one) + "\n" for one in events)
