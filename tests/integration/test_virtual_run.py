"""Virtual runs as a user starts them: the same bytes every time, the same checks as live, the same
ends.
"""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pagesoak.base import layout
from pagesoak.base.units import NS_PER_SECOND
from tests.live_helper import (
    COMPILE_SECONDS_MAX,
    Finished,
    LiveRun,
    compile_core,
    pagesoak,
    run_scenario_text,
    scenario_text,
    write_scenario,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(COMPILE_SECONDS_MAX)]

DIFFERENT = ("run", "started", "finished", "wall_seconds", "directory")
"""All that two virtual runs of one scenario, seed and version may differ in."""
ANY_OUTCOME = {"oom_events_isolated_max": 10**6, "alloc_failures_isolated_max": 10**6}
BURSTS = {
    "kind": "bursts", "leave_free": "20MiB", "burst": "12MiB", "think": "10ms", "hold": "5ms",
}  # fmt: skip
STEADY = {"kind": "steady", "target": "4MiB", "rate": 20_000, "cpus": "all"}
BUSY = scenario_text([BURSTS], memory="64MiB", duration="500ms", limits=ANY_OUTCOME)
"""Most of memory is in use, and what is free is taken, reported and punched again and again."""
MIXED = scenario_text(
    [
        STEADY | {"rate": 40_000, "orders": [1, 0, 0, 0, 1]},  # order 4 always needs the zone lock
        BURSTS | {"cpu": 1, "burst": "2MiB", "jitter": 30},
    ],
    memory="64MiB",
    duration="300ms",
    guest={"cpus": 2},
    host={"latency_per_call": "3ms", "error_every_calls": 3},
    limits=ANY_OUTCOME,
)
"""Two CPUs, whose loads meet at the zone lock and in each other's windows; calls that fail."""
NOT_ZERO, OTHER_STAMP = 1, 2
"""What a violation's `breach` says."""


@pytest.fixture(scope="module", autouse=True)
def _core() -> None:
    compile_core()


def run_virtual(folder: Path, text: str, *arguments: str, sabotage: str = "") -> Finished:
    """A virtual run to its end."""
    return run_scenario_text(folder, text, "--virtual", *arguments, sabotage=sabotage)


def results(finished: Finished, cwd: Path = Path()) -> tuple[bytes, bytes, bytes]:
    """What must be the same: events, series, and the summary without what may differ."""
    directory = cwd / finished.directory
    written = json.loads((directory / "summary.json").read_text())
    assert written == finished.summary
    summary = {key: value for key, value in written.items() if key not in DIFFERENT}
    return (
        (directory / "events.jsonl").read_bytes(),
        (directory / "series.csv").read_bytes(),
        json.dumps(summary).encode(),
    )


# ---- the same bytes ----


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, bytes]:
    return results(run_virtual(tmp_path_factory.mktemp("first"), MIXED))


ELSEWHERE: dict[str, dict[str, str]] = {
    "again": {},
    "another hash seed": {"PYTHONHASHSEED": "4711"},
    "another time zone": {"TZ": "Asia/Kathmandu", "LC_ALL": "C"},
    "the plain core": {"NUMBA_DISABLE_JIT": "1"},
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_same_bytes(name: str, first: tuple[bytes, bytes, bytes], tmp_path: Path) -> None:
    path = write_scenario(tmp_path, MIXED)
    finished = pagesoak(
        "run", path, "--virtual", "--json", "--results", "here", cwd=tmp_path, **ELSEWHERE[name]
    )
    assert results(finished, tmp_path) == first


def test_the_same_bytes_on_a_busy_machine(
    first: tuple[bytes, bytes, bytes], tmp_path: Path
) -> None:
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(2 * len(os.sched_getaffinity(0)))
    ]
    try:
        assert results(run_virtual(tmp_path, MIXED)) == first
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_another_seed_is_another_run(first: tuple[bytes, bytes, bytes], tmp_path: Path) -> None:
    assert results(run_virtual(tmp_path, MIXED, "--seed", "2"))[0] != first[0]


def test_there_is_something_to_be_the_same(first: tuple[bytes, bytes, bytes]) -> None:
    summary = json.loads(first[2])
    assert summary["mode"] == "virtual"
    assert summary["core"] is None
    assert summary["duration_seconds"] == 0.3
    assert summary["started_monotonic_ns"] % NS_PER_SECOND == 0
    assert summary["bursts"]["run"] > 5
    assert summary["report_errors"] > 0
    assert summary["punched_bytes"] > 1 << 20
    assert summary["zone_lock"]["waits"] > 0
    assert summary["integrity"]["pages_verified"] > 10_000
    assert first[0].count(b"\n") > 50


# ---- the same checks ----


PUNCH = """
from pagesoak.host.virtual_ram import VirtualRam
honest = VirtualRam.punch
def punch(self, first_pfn, pages):
    {body}
VirtualRam.punch = punch
VirtualRam.punch_entries = None
"""
WRONG_PUNCHES = {
    "one page too many": ("return honest(self, first_pfn, pages + 1)", {OTHER_STAMP}),
    "one page too early": ("return honest(self, first_pfn - 1, pages)", {NOT_ZERO, OTHER_STAMP}),
    "only the first half": ("return honest(self, first_pfn, pages // 2)", {NOT_ZERO}),
    "nothing": ("return pages * 4096", {NOT_ZERO}),
    "a request late": (
        """late = self.__dict__.setdefault('late', [])
    late.append((first_pfn, pages))
    return honest(self, *late.pop(0)) if len(late) > 32 else 0""",
        {NOT_ZERO, OTHER_STAMP},
    ),
}


def broken(finished: Finished) -> dict[str, Any]:
    """The run ended as broken, with evidence; its summary."""
    summary = finished.summary
    assert finished.code == 3, summary
    assert summary["verdict"] == "broken"
    assert finished.messages == []
    evidence = finished.directory / "evidence"
    assert (evidence / "message.txt").read_text() == summary["reason"] + "\n"
    with gzip.open(evidence / "segment.bin.gz") as segment:
        assert int.from_bytes(segment.read(8), "little") == layout.MAGIC
    return summary


@pytest.mark.parametrize("name", WRONG_PUNCHES)
def test_a_host_that_punches_wrongly_is_found_out(name: str, tmp_path: Path) -> None:
    body, breaches = WRONG_PUNCHES[name]
    finished = run_virtual(tmp_path, BUSY, sabotage=PUNCH.format(body=body))
    assert "did not hold what they must" in broken(finished)["reason"]
    found = finished.events("violation")
    assert {event["breach"] for event in found} <= breaches
    lines = (finished.directory / "evidence" / "pages.jsonl").read_text().splitlines()
    kept = {page["pfn"]: page["content"] for page in map(json.loads, lines)}
    assert kept.keys() <= {event["pfn"] for event in found}
    assert kept


def test_an_honest_host_is_not_found_out(tmp_path: Path) -> None:
    """The same sabotage without a crime: range by range, and all of them at once, are the same."""
    body = "return honest(self, first_pfn, pages)"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    one_by_one = run_virtual(tmp_path / "a", BUSY, sabotage=PUNCH.format(body=body))
    at_once = run_virtual(tmp_path / "b", BUSY)
    assert one_by_one.code == at_once.code == 0
    assert results(one_by_one) == results(at_once)
    assert at_once.summary["punched_bytes"] > 0


FOREIGN = """
from pagesoak.base import contents
from pagesoak.host.virtual_ram import VirtualRam
VirtualRam.punch_entries = None
honest = VirtualRam.punch
def punch(self, first_pfn, pages):
    took = honest(self, first_pfn, pages)
    contents.write_content(self._base, first_pfn + 3, 7)
    return took
VirtualRam.punch = punch
"""


def test_a_page_that_somebody_else_writes_to_is_found(tmp_path: Path) -> None:
    finished = run_virtual(tmp_path, BUSY, sabotage=FOREIGN)
    broken(finished)
    found = finished.events("violation")
    assert {(event["breach"], event["found"]) for event in found} == {(NOT_ZERO, 7)}


LOSE = """
from pagesoak.base import layout
from pagesoak.engine import virtual_course
honest = virtual_course.VirtualDriver.run
def run(self, until_ns):
    self._segment.zones[layout.Z_FREE_PAGES] -= 1
    return honest(self, until_ns)
virtual_course.VirtualDriver.run = run
"""


def test_a_page_that_is_lost_is_found_by_the_audit(tmp_path: Path) -> None:
    text = scenario_text(duration="5s")
    assert "conservation" in broken(run_virtual(tmp_path, text, sabotage=LOSE))["reason"]


def test_a_mistake_in_a_worker_breaks_the_run_without_a_traceback(tmp_path: Path) -> None:
    finished = run_virtual(tmp_path, BUSY, sabotage=PUNCH.format(body="return {}['gone']"))
    assert "KeyError" in broken(finished)["reason"]


# ---- the same ends ----


def test_a_signal_ends_the_run_with_what_there_is(tmp_path: Path) -> None:
    text = scenario_text([STEADY], memory="64MiB", duration="30d", limits=ANY_OUTCOME)
    with LiveRun(tmp_path, text, "--virtual") as run:
        time.sleep(4.0)  # long enough to be at work, however slow the machine
        run.process.send_signal(signal.SIGINT)
        finished = run.finish()
    assert finished.code == 130
    assert finished.summary["interrupted"] is True
    assert finished.summary["verdict"] == "pass"
    assert finished.summary["audits"]["failed"] == 0
    assert finished.messages == []


def test_costs_change_what_takes_time(tmp_path: Path) -> None:
    """A burst whose pages take twice as long ends later; nothing else is drawn differently."""
    load = BURSTS | {"think": "100ms", "hold": "100ms", "leave_free": "30MiB"}
    ends = []
    for number, touch in enumerate(("4us", "400us")):
        text = scenario_text(
            [load], memory="64MiB", duration="2s", virtual={"page_touch": touch},
            reporting={"policy": "off"}, limits=ANY_OUTCOME,
        )  # fmt: skip
        (tmp_path / str(number)).mkdir()
        finished = run_virtual(tmp_path / str(number), text)
        began, taken = finished.events("burst-begin")[0], finished.events("burst-taken")[0]
        assert began["pages"] == taken["pages"] == 3072
        ends.append(taken["monotonic_ns"] - began["monotonic_ns"])
    assert ends[1] - ends[0] == 3072 * (400_000 - 4_000)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("operation", "0ns", "must be from 1ns to 1s"),
        ("page_touch", "2s", "must be from 0s to 1s"),
        ("page_tuch", "4us", "did you mean 'page_touch'"),
    ],
)
def test_bad_costs_are_refused(key: str, value: str, message: str, tmp_path: Path) -> None:
    path = write_scenario(tmp_path, scenario_text(virtual={key: value}))
    finished = pagesoak("run", path, "--virtual", "--results", tmp_path / "results")
    assert finished.code == 2
    assert f"virtual.{key}: " in finished.err
    assert message in finished.err
    assert finished.err.count("\n") == 1
    assert not (tmp_path / "results").exists()


# ---- 64 GiB ----


def test_RP_6_all_of_an_idle_guest_in_about_half_a_minute(tmp_path: Path) -> None:  # noqa: N802
    """The source's estimate, on the scenario made for it: 16 passes, 15 delays of 2 s between."""
    finished = pagesoak(
        "run", "idle-64g", "--virtual", "--json", "--results", tmp_path / "results"
    )
    assert finished.code == 0, finished.err
    summary = finished.summary
    normal = summary["zones"][-1]
    assert normal["zone"] == "Normal"
    assert normal["reported_pages"] == normal["managed_pages"] == normal["free_pages"]
    reports = finished.events("report")
    first_pass = finished.events("pass-start")[0]["monotonic_ns"]
    passes = [event for event in finished.events("pass-end") if event["calls"]]
    assert len(passes) == 16
    assert all(event["entries"] <= 32 for event in reports)
    assert max(event["calls"] for event in passes) <= 33 + 33  # two zones have long lists
    seconds = (reports[-1]["monotonic_ns"] - first_pass) / NS_PER_SECOND
    assert 30 <= seconds < 31
    assert summary["punched_bytes"] == 0  # nobody has touched it
    assert summary["audits"]["failed"] == 0
