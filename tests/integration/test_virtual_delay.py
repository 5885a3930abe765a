"""The reporting delay in a virtual run ends at the ticks of the guest's timer wheel, exactly."""

from pathlib import Path

import pytest

from pagesoak.base.timer_wheel import TickClock, timer_fires_ns
from pagesoak.base.units import NS_PER_MS
from tests.live_helper import Finished, pagesoak, scenario_text, write_scenario

WAKE_UP_NS_MAX = 200_000
"""Far above what waking the reporter takes in a virtual run, far below a tick."""


def virtual_run(folder: Path, hz: int, delay_ms: int) -> Finished:
    """A guest of 32 MiB in which blocks are freed all the time."""
    text = scenario_text(
        [
            {
                "kind": "steady",
                "target": "16MiB",
                "rate": 1_000,
                "orders": [1, 1, 1, 1, 1, 1],
                "cpu": 0,
            }
        ],
        duration="3s",
        guest={"hz": hz, "touch": False},
        reporting={"delay": f"{delay_ms}ms"},
        limits={"oom_events_isolated_max": 1_000_000, "alloc_failures_isolated_max": 1_000_000},
    )
    path = write_scenario(folder, text)
    arguments = ("run", path, "--virtual", "--json", "--results", folder / "results")
    return pagesoak(*arguments, NUMBA_DISABLE_JIT="1")


@pytest.mark.parametrize(
    ("hz", "delay_ms"), [(100, 10), (250, 10), (300, 10), (1000, 10), (250, 300), (250, 1_000)]
)
def test_every_pass_starts_when_its_timer_fires(tmp_path: Path, hz: int, delay_ms: int) -> None:
    run = virtual_run(tmp_path, hz, delay_ms)
    assert run.code == 0, run.err
    starts = [event["monotonic_ns"] for event in run.events("pass-start")]
    ends = run.events("pass-end")
    assert len(starts) >= 2
    clock = TickClock(hz)
    causes = [event["monotonic_ns"] for event in run.events("notify")]
    for end, start in zip(ends, starts[1:], strict=False):
        cause_ns = end["monotonic_ns"]
        if end["state"] == 0:
            cause_ns = next(at_ns for at_ns in causes if at_ns >= cause_ns)
        late_ns = start - timer_fires_ns(clock, cause_ns, delay_ms * NS_PER_MS)
        assert 0 <= late_ns < WAKE_UP_NS_MAX
