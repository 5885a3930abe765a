"""Live runs that go well: what they report is what happened, and nothing is left of them.

One run serves many tests. What a summary says is compared with what is independent of it: the
events, the files in the formats of /proc, the processes as /proc shows them.
"""

import bisect
import csv
import gzip
import json
import re
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pagesoak.allocator.free_lists import FreeListSnapshot, ZoneSnapshot
from pagesoak.allocator.free_read import read_free_lists
from pagesoak.allocator.procfs import read_buddyinfo, read_pagetypeinfo
from pagesoak.allocator.recording import Recording, load_recording
from pagesoak.allocator.zoneinfo import ZoneInfo, read_zoneinfo
from pagesoak.base import layout
from pagesoak.base.scenario import load_scenario
from tests.live_helper import (
    COMPILE_SECONDS_MAX,
    MODE,
    Finished,
    LiveRun,
    all_names,
    compile_core,
    pagesoak,
    process_name,
    run_scenario_text,
    scenario_text,
    write_scenario,
)
from tests.treefiles import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(COMPILE_SECONDS_MAX)]

PAGE_BYTES = 4096
CAUSES = {"isolated": int, "fragmented": int, "exhausted": int}
SUMMARY: dict[str, Any] = {
    "run": str,
    "verdict": str,
    "interrupted": bool,
    "policy": str,
    "mode": str,
    "seed": int,
    "duration_seconds": float,
    "started": str,
    "finished": str,
    "wall_seconds": float,
    "directory": str,
    "guest": {"memory_bytes": int, "managed_pages": int, "cpus": int},
    "alloc_requests": int,
    "alloc_failures": CAUSES,
    "fallbacks": int,
    "oom_events": CAUSES,
    "isolated_pages_max": int,
    "free_pages_min": int,
    "watermark_margin_pages_min": {"min": int, "low": int, "high": int},
    "report_calls": int,
    "reported_pages": int,
    "punched_bytes": int,
    "window_seconds": {"count": int, "p50": float, "p99": float, "max": float},
    "integrity": {"pages_verified": int, "violations": int},
    "audits": {"run": int, "failed": int, "interval_seconds": float},
    "unmatched_frees": int,
    "epochs": int,
    "tainted_epochs": int,
}
"""What every summary has at least, and of which type."""

BURSTS = {
    "kind": "bursts", "leave_free": "40MiB", "burst": "24MiB", "jitter": 25, "think": "20ms",
    "hold": "10ms", "cpu": 0,
}  # fmt: skip
ANY_OUTCOME = {"oom_events_isolated_max": 10**6, "alloc_failures_isolated_max": 10**6}
STEADY = {"kind": "steady", "target": "8MiB", "rate": 20_000, "atomic_percent": 10, "cpu": 1}


@pytest.fixture(scope="module", autouse=True)
def _core() -> None:
    compile_core()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Two CPUs with different loads in three zones, and a host that takes its time."""
    text = scenario_text(
        [BURSTS, STEADY],
        memory="128MiB",
        duration="2.2s",
        seed=7,
        guest={"cpus": 2, "movable": "64MiB"},
        host={"latency_per_call": "15ms"},
        limits={"oom_events_isolated_max": 10_000, "alloc_failures_isolated_max": 10_000},
    )
    return run_scenario_text(tmp_path_factory.mktemp("busy"), text)


def missing(document: object, wanted: dict[str, Any], place: str = "") -> Iterator[str]:
    """Every field of `wanted` that a document lacks or has in another type."""
    for name, kind in wanted.items():
        value = document.get(name) if isinstance(document, dict) else None
        if isinstance(kind, dict):
            yield from missing(value, kind, f"{place}{name}.")
        elif type(value) is not kind:
            yield f"{place}{name} is {value!r}"


def test_a_run_that_keeps_its_limits_passes(busy: Finished) -> None:
    assert busy.summary["verdict"] == "pass"
    assert busy.summary["reason"] is None
    assert busy.summary["limits_broken"] == []
    assert busy.code == 0


def test_the_summary_has_every_field_in_its_type(busy: Finished) -> None:
    assert list(missing(busy.summary, SUMMARY)) == []


def test_a_missing_or_mistyped_field_would_be_seen() -> None:
    assert list(missing({"a": {"b": 1.0}}, {"a": {"b": int, "c": str}})) == [
        "a.b is 1.0",
        "a.c is None",
    ]
    assert list(missing({"yes": 1}, {"yes": bool})) == ["yes is 1"]


def test_the_summary_says_what_was_run(busy: Finished) -> None:
    summary = busy.summary
    expected = {
        "scenario": "planted",
        "policy": "mainline",
        "mode": "live",
        "core": MODE,
        "seed": 7,
        "interrupted": False,
        "epochs": 1,
        "tainted_epochs": 0,
        "unmatched_frees": 0,
    }
    assert {name: summary[name] for name in expected} == expected
    assert summary["guest"]["memory_bytes"] == 128 << 20
    assert summary["guest"]["cpus"] == 2
    assert summary["guest"]["managed_pages"] == sum(z["managed_pages"] for z in summary["zones"])
    assert [zone["zone"] for zone in summary["zones"]] == ["DMA", "DMA32", "Movable"]


def test_its_times_agree(busy: Finished) -> None:
    summary = busy.summary
    assert summary["duration_seconds"] == pytest.approx(2.2)
    assert 2.2 <= summary["wall_seconds"] <= busy.seconds
    started, finished = (datetime.fromisoformat(summary[name]) for name in ("started", "finished"))
    assert started.tzinfo is not None
    assert abs((finished - started).total_seconds() - summary["wall_seconds"]) <= 1.0
    assert summary["run"].startswith(started.strftime("%Y%m%dT%H%M%SZ"))


def test_stderr_is_quiet_without_a_terminal(busy: Finished) -> None:
    assert busy.messages == []


def test_the_same_summary_is_kept(busy: Finished) -> None:
    assert json.loads((busy.directory / "summary.json").read_text()) == busy.summary
    assert busy.directory.name == busy.summary["run"]


def test_the_directory_is_the_owners_and_holds_what_belongs_there(busy: Finished) -> None:
    assert stat.S_IMODE(busy.directory.stat().st_mode) == 0o700
    assert {path.name for path in busy.directory.iterdir()} == {
        "scenario.toml",
        "run.json",
        "events.jsonl",
        "series.csv",
        "worker.log.jsonl",
        "summary.json",
        "after.buddyinfo",
        "after.pagetypeinfo",
        "after.zoneinfo",
        "after.free",
    }


def test_the_kept_scenario_is_the_one_that_ran(busy: Finished) -> None:
    kept = load_scenario(busy.directory / "scenario.toml")
    given = load_scenario(busy.directory.parents[1] / "planted.toml")
    assert kept == given


def test_run_json_says_what_ran_where(busy: Finished) -> None:
    identity = json.loads((busy.directory / "run.json").read_text())
    assert identity["run"] == busy.summary["run"]
    assert identity["started"] == busy.summary["started"]
    assert identity["guest"] == busy.summary["guest"]
    assert identity["core"] == MODE
    assert identity["command"][1:3] == ["run", str(busy.directory.parents[1] / "planted.toml")]


def test_the_reports_counted_are_the_reports_that_happened(busy: Finished) -> None:
    summary = busy.summary
    reports, drained = busy.events("report"), busy.events("drained")
    assert len(reports) == len(drained) == summary["report_calls"]
    assert summary["report_calls"] >= 10
    assert [event["request"] for event in reports] == list(range(1, len(reports) + 1))
    assert [event["request"] for event in drained] == [event["request"] for event in reports]
    assert sum(event["pages"] for event in drained) == summary["reported_pages"]
    assert sum(event["entries"] for event in reports) == len(busy.events("host-punched"))
    assert summary["report_errors"] == 0


def test_the_memory_punched_is_what_the_host_read(busy: Finished) -> None:
    punched = busy.events("host-punched")
    assert sum(event["punched_bytes"] for event in punched) == busy.summary["punched_bytes"] > 0
    assert all(event["punched_bytes"] <= event["pages"] * PAGE_BYTES for event in punched)
    assert all(event["pfn"] % event["pages"] == 0 for event in punched)


def test_every_window_is_as_long_as_the_host_takes(busy: Finished) -> None:
    """Windows that are still open when the run's end is asked for are not counted."""
    window = busy.summary["window_seconds"]
    answers = [event["window_ns"] / 1e9 for event in busy.events("answer")]
    last_pass_ns = busy.events("pass-start")[-1]["monotonic_ns"]
    last = sum(event["monotonic_ns"] > last_pass_ns for event in busy.events("drained"))
    assert len(answers) - last <= window["count"] <= len(answers) == busy.summary["report_calls"]
    assert min(answers) >= 0.015
    counted = sorted(answers[: window["count"]])
    assert counted[-1] <= window["max"]
    assert counted[len(counted) // 2 - 1] <= window["p50"] <= window["p99"]
    assert window["p99"] <= window["max"] * 1.126


def test_the_extremes_are_no_tamer_than_any_event(busy: Finished) -> None:
    summary = busy.summary
    bursts = busy.events("burst-taken")
    assert summary["free_pages_min"] <= min(event["free_pages"] for event in bursts)
    isolated = [event["isolated_pages"] for event in busy.events("report")]
    assert summary["isolated_pages_max"] >= max(isolated) > 0
    largest = max(summary["zones"], key=lambda zone: zone["managed_pages"])
    assert summary["watermark_margin_pages_min"] == largest["watermark_margin_pages_min"]
    margin = summary["watermark_margin_pages_min"]
    assert margin["min"] > margin["low"] > margin["high"]
    assert margin["min"] <= largest["free_pages_min"] - largest["watermark_pages"]["min"]


def test_the_bursts_counted_are_the_bursts_that_ended(busy: Finished) -> None:
    ends = busy.events("burst-end")
    assert busy.summary["bursts"]["run"] == len(ends) >= 10
    assert busy.summary["bursts"]["killed"] == sum(event["killed"] for event in ends)
    begun = busy.events("burst-begin")
    assert len(ends) <= len(begun) <= len(ends) + 1
    sizes = {event["pages"] for event in begun}
    assert min(sizes) >= 6144 * 75 // 100
    assert max(sizes) <= 6144 * 125 // 100
    assert len(sizes) > 3


def test_events_stand_in_the_order_of_time_and_none_is_lost(busy: Finished) -> None:
    for worker in range(5):
        lines = (busy.directory / "events.jsonl").read_text().splitlines()
        times = [e["monotonic_ns"] for e in map(json.loads, lines) if e["worker"] == worker]
        assert times == sorted(times)
    assert busy.events("events-lost") == []


def test_every_worker_says_hello_and_goodbye_in_the_log(busy: Finished) -> None:
    lines = (busy.directory / "worker.log.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for event in ("worker.started", "worker.ended"):
        names = {record["worker"] for record in records if record["event"] == event}
        assert names == set(all_names(2))
    assert {record["code"] for record in records if record["event"] == "worker.ended"} == {0}
    assert {record["run"] for record in records} == {busy.summary["run"]}


def test_the_series_rises_and_ends_below_the_summary(busy: Finished) -> None:
    with (busy.directory / "series.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert 4 <= len(rows) <= 6
    counting = ("elapsed_seconds", "report_calls", "reported_pages", "punched_bytes",
                "alloc_requests", "fallbacks", "isolated_pages_max")  # fmt: skip
    for name in counting:
        values = [float(row[name]) for row in rows]
        assert values == sorted(values), name
    last = rows[-1]
    for name in counting[1:]:
        assert float(last[name]) <= busy.summary[name], name
    assert min(int(row["free_pages"]) for row in rows) >= busy.summary["free_pages_min"]


def zoneinfo_of(run: Finished) -> dict[str, ZoneInfo]:
    return {z.zone: z for z in read_zoneinfo(run.directory / "after.zoneinfo") if z.populated}


def free_of(run: Finished) -> FreeListSnapshot:
    return read_free_lists(run.directory / "after.free")


def test_the_four_files_of_the_end_say_the_same(busy: Finished) -> None:
    snapshot = free_of(busy)
    zoneinfo = zoneinfo_of(busy)
    buddyinfo = {zone.zone: zone for zone in read_buddyinfo(busy.directory / "after.buddyinfo")}
    (types,) = read_pagetypeinfo(busy.directory / "after.pagetypeinfo")
    for zone, summary in zip(snapshot.zones, busy.summary["zones"], strict=True):
        blocks = [0] * layout.MAX_ORDER
        for (order, _), members in zone.free_lists.items():
            blocks[order] += len(members)
        assert tuple(blocks) == buddyinfo[zone.name].free_blocks
        by_type = [free.free_blocks for free in types.free if free.zone == zone.name]
        assert tuple(map(sum, zip(*by_type, strict=True))) == buddyinfo[zone.name].free_blocks
        assert zone.listed_pages == summary["free_pages"] == zoneinfo[zone.name].free
        assert zone.managed == summary["managed_pages"] == zoneinfo[zone.name].managed
        printed = zoneinfo[zone.name]
        assert printed.boost is not None
        unboosted = printed.wmark_low - printed.boost
        assert zone.wmark_low == summary["watermark_pages"]["low"] == unboosted
        counts = [pageset.count for pageset in zone.pagesets]
        assert counts == [pageset.count for pageset in zoneinfo[zone.name].pagesets]
        reported = sum(
            1 << order
            for (order, _), members in zone.free_lists.items()
            for block in members
            if block.reported
        )
        assert reported == summary["reported_pages"]
        assert summary["isolated_pages"] == 0


def test_after_free_can_start_another_soak(busy: Finished, tmp_path: Path) -> None:
    text = scenario_text(
        [STEADY | {"cpu": 0}],
        memory=None,
        duration="300ms",
        guest={"snapshot": str(busy.directory / "after.free"), "cpus": 2},
    )
    again = run_scenario_text(tmp_path, text)
    assert again.summary["verdict"] == "pass", again.summary["reason"]
    assert again.summary["guest"]["managed_pages"] == busy.summary["guest"]["managed_pages"]
    assert again.summary["alloc_requests"] > 0


def test_state_is_audited_while_the_soak_runs_and_at_its_end(busy: Finished) -> None:
    audits = busy.summary["audits"]
    assert audits["run"] >= 2
    assert audits["failed"] == 0
    assert audits["hold_seconds_max"] > 0
    rarest = max(1.0, 1000 * audits["hold_seconds_max"]) + 1e-9  # one was rounded, then both
    assert 1.0 <= audits["interval_seconds"] <= rarest


def test_every_page_was_verified(busy: Finished) -> None:
    integrity = busy.summary["integrity"]
    assert integrity["violations"] == 0
    assert integrity["pages_verified"] >= busy.summary["alloc_requests"]


# ---- processes and what they share ----


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Finished]:
    """What /proc shows of a run with four vCPUs, and its end."""
    text = scenario_text(
        [STEADY | {"cpu": cpu, "rate": 2_000} for cpu in range(4)],
        memory="64MiB",
        duration="1500ms",
        guest={"cpus": 4},
        limits=ANY_OUTCOME,
    )
    seen: dict[str, Any] = {}
    with LiveRun(tmp_path_factory.mktemp("looked-at"), text) as run:
        workers = run.await_workers(*all_names(4))
        run.await_started()
        seen["workers"] = workers
        seen["runner"] = run.pid
        seen["parents"] = {name: parent_of(pid) for name, pid in workers.items()}
        seen["maps"] = {pid: maps_of(pid) for pid in (run.pid, *workers.values())}
        seen["pids"] = run.segment.workers[layout.W_PID :: layout.WORKER_WORDS].tolist()
        seen["status"] = {name: ignored_signals(pid) for name, pid in workers.items()}
        finished = run.finish()
    return seen, finished


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def ignored_signals(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:"))


def maps_of(pid: int) -> dict[str, tuple[str, str, str]]:
    """Of each memory file of pagesoak that a process has mapped: where, how and which inode."""
    found = {}
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/memfd:pagesoak"):
            found[fields[5]] = (fields[0], fields[1], fields[4])
    return found


def test_each_vcpu_the_reporter_and_the_host_are_processes_of_their_own(
    looked_at: tuple[dict[str, Any], Finished],
) -> None:
    seen, _ = looked_at
    assert len(set(seen["workers"].values())) == 6
    assert set(seen["parents"].values()) == {seen["runner"]}


def test_all_of_them_share_segment_and_guest_ram_at_one_address(
    looked_at: tuple[dict[str, Any], Finished],
) -> None:
    seen, _ = looked_at
    runner = seen["maps"][seen["runner"]]
    assert set(runner) == {
        "/memfd:pagesoak-segment (deleted)",
        "/memfd:pagesoak-guest-ram (deleted)",
    }
    assert all(mapped == runner for mapped in seen["maps"].values())
    assert all(rights == "rw-s" for _, rights, _ in runner.values())


def test_the_segment_names_its_workers(looked_at: tuple[dict[str, Any], Finished]) -> None:
    seen, _ = looked_at
    workers = seen["workers"]
    wanted = [workers[f"soak-guest-{cpu}"] for cpu in range(4)]
    assert seen["pids"][:6] == [*wanted, workers["soak-reporter"], workers["soak-host"]]


def test_workers_leave_the_signals_of_a_terminal_to_the_runner(
    looked_at: tuple[dict[str, Any], Finished],
) -> None:
    seen, _ = looked_at
    both = 1 << 1 | 1 << 14  # SIGINT, SIGTERM
    assert all(ignored & both == both for ignored in seen["status"].values())


def test_none_of_them_is_left(looked_at: tuple[dict[str, Any], Finished]) -> None:
    seen, finished = looked_at
    assert finished.code == 0, finished.summary["reason"]
    assert [process_name(pid) for pid in seen["workers"].values()] == [""] * 6


def test_off_has_neither_host_nor_reporter(tmp_path: Path) -> None:
    text = scenario_text([STEADY | {"cpu": 0, "rate": 500}], duration="3s")  # idle vCPUs end
    with LiveRun(tmp_path, text, "--policy", "off") as run:
        run.await_started()
        names = set(run.workers())
        finished = run.finish()
    assert names == {"soak-guest-0"}
    assert finished.summary["policy"] == "off"
    assert finished.summary["report_calls"] == finished.summary["isolated_pages_max"] == 0
    assert finished.summary["window_seconds"] == {"count": 0, "p50": 0.0, "p99": 0.0, "max": 0.0}


# ---- guests of many sizes ----

SIZES: dict[str, tuple[str, dict[str, Any], list[dict[str, Any]]]] = {
    "16 MiB, one zone": ("16MiB", {}, [{"kind": "steady", "target": "2MiB"}]),
    "1 GiB, Movable": (
        "1GiB",
        {"movable": "512MiB"},
        [
            {"kind": "steady", "target": "200MiB"},
            BURSTS | {"leave_free": "500MiB", "burst": "100MiB"},
        ],
    ),
    "16 vCPUs": (
        "64MiB",
        {"cpus": 16},
        [{"kind": "steady", "target": "1MiB", "cpus": "all", "rate": 3_000}],
    ),
    "huge pages": (
        "256MiB",
        {"thp": "always"},
        [BURSTS | {"leave_free": "120MiB", "burst": "60MiB", "order": 9}],
    ),
}


@pytest.mark.parametrize("touch", [True, False], ids=["touched", "metadata"])
@pytest.mark.parametrize("name", SIZES)
def test_guests_of_any_size_keep_their_invariants(name: str, touch: bool, tmp_path: Path) -> None:
    memory, guest, loads = SIZES[name]
    text = scenario_text(
        loads,
        memory=memory,
        duration="1100ms",
        guest=guest | {"touch": touch},
        limits=ANY_OUTCOME,
    )
    finished = run_scenario_text(tmp_path, text)
    summary = finished.summary
    assert summary["reason"] is None
    assert summary["verdict"] == "pass"
    assert summary["audits"]["run"] >= 1
    assert summary["audits"]["failed"] == summary["integrity"]["violations"] == 0
    assert summary["alloc_requests"] > 100
    assert summary["reported_pages"] > 0
    assert bool(summary["integrity"]["pages_verified"]) == touch
    assert bool(summary["punched_bytes"]) == touch


def test_a_guest_of_64_gib_runs_on_metadata_alone(tmp_path: Path) -> None:
    """Audited so rarely that the locks are held for a thousandth of the time at most."""
    text = scenario_text(
        memory="64GiB",
        duration="1500ms",
        guest={"touch": False},
        reporting={"order": 9, "delay": "100ms"},
    )
    finished = run_scenario_text(tmp_path, text)
    summary = finished.summary
    assert summary["verdict"] == "pass", summary["reason"]
    assert summary["guest"]["memory_bytes"] == 64 << 30
    assert summary["reported_pages"] >= 2 * 32 * 1024
    assert summary["isolated_pages_max"] == 32 * 1024
    assert summary["integrity"]["pages_verified"] == summary["punched_bytes"] == 0
    assert summary["audits"]["run"] == 1
    assert summary["audits"]["interval_seconds"] > 1.5


def test_the_runner_of_a_guest_on_metadata_alone_maps_no_ram(tmp_path: Path) -> None:
    with LiveRun(tmp_path, scenario_text(duration="300ms"), "--no-touch") as run:
        run.await_started()
        mapped = set(maps_of(run.pid))
        finished = run.finish()
    assert mapped == {"/memfd:pagesoak-segment (deleted)"}
    assert finished.code == 0


def test_the_plain_core_runs_live_too(tmp_path: Path) -> None:
    text = scenario_text(
        [STEADY | {"cpu": cpu, "rate": 1_000} for cpu in range(2)],
        duration="700ms",
        guest={"cpus": 2},
        limits=ANY_OUTCOME,
    )
    path = write_scenario(tmp_path, text)
    arguments = ("run", path, "--json", "--results", tmp_path / "results")
    summary = pagesoak(*arguments, NUMBA_DISABLE_JIT="1").summary
    assert summary["core"] == "plain"
    assert summary["verdict"] == "pass", summary["reason"]
    assert summary["integrity"]["pages_verified"] > 100
    assert summary["punched_bytes"] > 0


# ---- parameters of reporting and host ----


def test_every_third_call_that_the_host_fails_reports_nothing(tmp_path: Path) -> None:
    text = scenario_text([STEADY | {"cpu": 0}], host={"error_every_calls": 3}, limits=ANY_OUTCOME)
    finished = run_scenario_text(tmp_path, text)
    summary = finished.summary
    assert summary["verdict"] == "pass", summary["reason"]
    calls, errors = summary["report_calls"], summary["report_errors"]
    assert errors == calls // 3 > 1
    failed = {event["request"] for event in finished.events("host-error")}
    assert failed == set(range(3, calls + 1, 3))
    drained = finished.events("drained")
    assert all(event["reported_pages"] == 0 for event in drained if event["request"] in failed)
    kept = sum(event["pages"] for event in drained if event["request"] not in failed)
    assert summary["reported_pages"] == kept
    assert not failed & {event["request"] for event in finished.events("host-punched")}


def test_every_second_scatterlist_that_cannot_be_had_costs_a_pass(tmp_path: Path) -> None:
    text = scenario_text(
        [STEADY | {"cpu": 0}],
        reporting={"list_allocation_fails_every": 2, "capacity": 8},
        limits=ANY_OUTCOME,
    )
    finished = run_scenario_text(tmp_path, text)
    summary = finished.summary
    assert summary["verdict"] == "pass", summary["reason"]
    assert summary["list_allocations_failed"] == summary["passes"] // 2 > 1
    calls = {event["pass"]: event["calls"] for event in finished.events("pass-end")}
    assert all(calls[number] == 0 for number in calls if number % 2 == 0)
    assert 0 < max(event["entries"] for event in finished.events("report")) <= 8


def test_a_pass_begins_no_sooner_than_the_delay_after_the_one_before(tmp_path: Path) -> None:
    text = scenario_text([STEADY | {"cpu": 0}], reporting={"delay": "200ms"})
    finished = run_scenario_text(tmp_path, text)
    starts = [event["monotonic_ns"] for event in finished.events("pass-start")]
    ends = [event["monotonic_ns"] for event in finished.events("pass-end")]
    assert len(starts) >= 2
    pairs = zip(starts[1:], ends, strict=False)
    assert all(start - end >= 200_000_000 for start, end in pairs)
    requested = finished.events("notify")[0]["monotonic_ns"]
    assert starts[0] - requested >= 200_000_000


def test_latency_per_mib_holds_pages_as_long_as_there_are_many(tmp_path: Path) -> None:
    text = scenario_text(
        [STEADY | {"cpu": 0, "rate": 500}], host={"latency_per_mib": "10ms"}, limits=ANY_OUTCOME
    )
    finished = run_scenario_text(tmp_path, text)
    pages = {event["request"]: event["pages"] for event in finished.events("report")}
    windows = {event["request"]: event["window_ns"] for event in finished.events("answer")}
    assert len(windows) >= 2
    last = max(windows)
    for request, window_ns in windows.items():
        if request != last:
            assert window_ns >= pages[request] * PAGE_BYTES * 10_000_000 >> 20


# ---- requests that get nothing ----


def test_a_window_that_begins_a_burst_is_why_it_dies(tmp_path: Path) -> None:
    """Every burst fits, but not while the host has what it needs."""
    loads = [BURSTS | {"leave_free": "16MiB", "burst": "9MiB", "jitter": 0}]
    text = scenario_text(loads, memory="64MiB", host={"latency_per_call": "200ms"})
    finished = run_scenario_text(tmp_path, text)
    summary = finished.summary
    assert finished.code == 1
    assert summary["verdict"] == "fail"
    assert summary["oom_events"]["isolated"] > 0
    assert summary["oom_events"]["exhausted"] == summary["oom_events"]["fragmented"] == 0
    assert any("oom_events_isolated_max" in broken for broken in summary["limits_broken"])
    assert summary["bursts"]["killed"] == summary["oom_events"]["isolated"]
    kills = finished.events("oom")
    assert len(kills) == summary["oom_events"]["isolated"]
    assert all(event["isolated_pages"] > 0 and event["cause"] == 0 for event in kills)
    assert all(event["margin_pages"] <= 0 < event["free_pages"] for event in kills)
    stalls = finished.events("stalled")
    assert len(stalls) >= len(kills)
    assert {event["cause"] for event in stalls if event["isolated_pages"]} == {0}

    control = run_scenario_text(tmp_path, text, "--policy", "off")
    assert control.code == 0
    assert sum(control.summary["oom_events"].values()) == 0
    assert control.summary["bursts"]["run"] > 3


def test_what_does_not_fit_is_exhausted_whoever_reports(tmp_path: Path) -> None:
    text = scenario_text(
        [BURSTS | {"leave_free": "8MiB", "burst": "16MiB", "jitter": 0}],
        reporting={"policy": "off"},
    )
    summary = run_scenario_text(tmp_path, text).summary
    assert summary["verdict"] == "pass"
    assert summary["oom_events"]["exhausted"] == summary["bursts"]["killed"] > 1
    assert summary["oom_events"]["isolated"] == summary["oom_events"]["fragmented"] == 0


def test_large_and_atomic_requests_fail_without_a_kill(tmp_path: Path) -> None:
    text = scenario_text(
        [STEADY | {"cpu": 0, "target": "24MiB", "orders": [10] * 11, "atomic_percent": 30}],
        reporting={"policy": "off"},
    )
    finished = run_scenario_text(tmp_path, text)
    summary = finished.summary
    assert summary["verdict"] == "pass"
    failures = summary["alloc_failures"]
    assert failures["fragmented"] + failures["exhausted"] > 100
    assert failures["isolated"] == 0
    recorded = finished.events("allocation-failed")
    assert {event["order"] for event in recorded} & {8, 9, 10}
    lost = sum(event["events"] for event in finished.events("events-lost"))
    counted = sum(failures.values())
    assert len(recorded) <= counted <= len(recorded) + lost


def test_huge_pages_that_cannot_be_had_are_fallbacks(tmp_path: Path) -> None:
    """A steady load of small blocks leaves few whole page blocks."""
    text = scenario_text(
        [
            {"kind": "steady", "target": "120MiB", "orders": [1, 1, 1, 1], "rate": 50_000},
            BURSTS | {"leave_free": "110MiB", "burst": "80MiB", "order": 9},
        ],
        memory="256MiB",
        guest={"thp": "always"},
        limits=ANY_OUTCOME,
    )
    summary = run_scenario_text(tmp_path, text).summary
    assert summary["verdict"] == "pass", summary["reason"]
    assert summary["fallbacks"] > 0


# ---- replays ----

W2 = ROOT / "tests" / "recordings" / "w2"
W2_ALLOCATIONS = 65_020
"""Of recording w2, from its first exact snapshot on."""
PAGE_EVENT = re.compile(r" (mm_page_alloc|mm_page_free): .* order=([0-9]+)")


def replay_text(speed: str, duration: str) -> str:
    load = {"kind": "replay", "recording": str(W2), "speed": "SPEED"}
    text = scenario_text(
        [load],
        memory=None,
        duration=duration,
        guest={"recording": str(W2)},
        reporting={"order": 9, "delay": "300ms"},
    )
    return text.replace('"SPEED"', speed)


@pytest.fixture(scope="module")
def recording() -> Recording:
    return load_recording(W2)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("replayed")
    return run_scenario_text(folder, replay_text('"fast"', "4s"))


def test_a_replay_makes_every_request(replayed: Finished) -> None:
    summary = replayed.summary
    assert summary["verdict"] == "pass", summary["reason"]
    assert summary["alloc_requests"] == W2_ALLOCATIONS
    assert summary["unmatched_frees"] == summary["requests_dropped"] == 0
    assert summary["integrity"]["violations"] == 0
    assert summary["guest"]["memory_bytes"] == pytest.approx(512 << 20, rel=0.01)


def pageset_pages(snapshot: FreeListSnapshot, zone: ZoneSnapshot) -> int:
    """Pages on the lists of a zone's pagesets."""
    return sum(
        len(pfns) << snapshot.pcp_order(index)
        for pageset in zone.pagesets
        for index, pfns in pageset.lists.items()
    )


def pages_in_use(snapshot: FreeListSnapshot) -> int:
    """Managed pages that are neither free nor in a pageset."""
    return sum(
        zone.managed - zone.listed_pages - pageset_pages(snapshot, zone) for zone in snapshot.zones
    )


def pages_kept_by_the_trace() -> int:
    """Pages allocated less pages freed in the trace of w2, from its first snapshot on."""
    pages = 0
    begun = False
    with gzip.open(W2 / "trace.txt.gz", "rt") as lines:
        for line in lines:
            begun = begun or " truth_capture: " in line
            event = PAGE_EVENT.search(line) if begun else None
            if event is not None:
                sign = 1 if event[1] == "mm_page_alloc" else -1
                pages += sign << int(event[2])
    return pages


def test_the_final_counts_of_a_replayed_guest_add_up(
    replayed: Finished, recording: Recording
) -> None:
    """What is in use at the end is what was at the start and what the trace took and kept."""
    after = free_of(replayed)
    assert recording.start is not None
    assert pages_in_use(after) == pages_in_use(recording.start) + pages_kept_by_the_trace()
    managed = {zone.name: zone.managed for zone in recording.start.zones}
    zoneinfo = zoneinfo_of(replayed)
    for zone in after.zones:
        info = zoneinfo[zone.name]
        assert zone.managed == info.managed == managed[zone.name]
        assert zone.listed_pages == zone.nr_free == info.free
        assert pageset_pages(after, zone) == sum(pageset.count for pageset in info.pagesets)
        assert (info.start_pfn, info.spanned) == (zone.start_pfn, zone.spanned)


def test_speed_is_a_factor_of_the_recorded_clock(tmp_path: Path, recording: Recording) -> None:
    """At every moment about as many requests were made as the trace has up to then."""
    speed = 8
    finished = run_scenario_text(tmp_path, replay_text(f"{speed}.0", "3.2s"))
    assert finished.summary["verdict"] == "pass", finished.summary["reason"]
    assert finished.summary["alloc_requests"] == W2_ALLOCATIONS
    requests = recording.requests
    times = [t for t, opcode in zip(requests.time_ns, requests.opcode, strict=True) if not opcode]

    def made(seconds: float) -> int:
        return bisect.bisect(times, int(seconds * speed * 1e9))

    with (finished.directory / "series.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 5
    for row in rows:
        seconds = float(row["elapsed_seconds"])
        assert made(seconds - 1.0) <= int(row["alloc_requests"]) <= made(seconds + 0.3)


def test_a_trace_without_a_snapshot_counts_what_it_cannot_match(tmp_path: Path) -> None:
    """Some pages are freed that were taken before the trace began."""
    load = {"kind": "replay", "trace": str(W2 / "trace.txt.gz"), "speed": "fast"}
    text = scenario_text([load], memory="512MiB", duration="2s", reporting={"policy": "off"})
    summary = run_scenario_text(tmp_path, text).summary
    assert summary["verdict"] == "pass", summary["reason"]
    assert summary["unmatched_frees"] > 0
    assert summary["alloc_requests"] > W2_ALLOCATIONS
    assert summary["integrity"]["violations"] == 0
