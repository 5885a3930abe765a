"""The starting state of a burst load: hogs take turns, and one that cannot do its part ends the
run.
"""

from pathlib import Path

from tests.live_helper import run_scenario_text, scenario_text

BURSTS = {
    "kind": "bursts",
    "leave_free": "20MiB",
    "burst": "4MiB",
    "think": "50ms",
    "hold": "10ms",
}


def test_hogs_of_two_cpus_leave_what_the_scenario_says(tmp_path: Path) -> None:
    loads = [BURSTS | {"cpu": 0}, BURSTS | {"cpu": 1}]
    text = scenario_text(loads, memory="64MiB", duration="500ms", guest={"cpus": 2})
    summary = run_scenario_text(tmp_path, text, "--policy", "off").summary
    assert summary["verdict"] == "pass", summary["reason"]
    assert summary["oom_events"] == {"isolated": 0, "fragmented": 0, "exhausted": 0}
    assert summary["bursts"]["killed"] == 0 < summary["bursts"]["run"]
    assert summary["free_pages_min"] > 10 * 256


def test_memory_that_no_user_can_reach_is_refused(tmp_path: Path) -> None:
    """Two zones of a large guest keep more than this back (lowmem reserve, watermarks)."""
    load = BURSTS | {"leave_free": "10MiB", "cpu": 0}
    text = scenario_text([load], memory="8GiB", duration="500ms", guest={"touch": False})
    finished = run_scenario_text(tmp_path, text)
    assert finished.code == 2
    assert finished.out == ""
    assert "load.leave_free" in finished.err
    assert "cannot be reached" in finished.err
    assert finished.err.count("\n") == 1
    assert not (tmp_path / "results").exists()
