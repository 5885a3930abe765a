"""The check of OOM tables: what is compared, what is named and left out, and that it can fail."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pagesoak.allocator.free_read import read_free_lists
from pagesoak.allocator.profile import FREE_PAGES_ARE_RECLAIMABLE, PROFILES, Profile
from pagesoak.base.errors import InputError
from pagesoak.reporter.policies.mainline import Mainline
from pagesoak.reporter.policies.off import Off
from pagesoak.reporter.policy import BUDGET_BY_LIST, TAKE_ALL, Hold, HoldView, Policy
from pagesoak.study import oom_prediction
from pagesoak.study.fidelity import KIND_OOM, check_recording, kind_of
from pagesoak.study.fidelity_oom import check_oom
from pagesoak.study.fidelity_result import CheckResult, holds
from pagesoak.study.oom_boots import BootPlan, RunPlan, Simulated, Times, simulate_boots
from pagesoak.study.oom_prediction import Row, TableInputs, TablePrediction, rows_of
from pagesoak.study.oom_table import OomRun, read_oom_table

OOM = Path("tests/recordings/oom")
FEW_SEEDS = 4
PAGESET_BATCH = 31
"""A kill comes within a refill of the mark."""


def copy_of(tmp_path: Path, *, raw: bool = False) -> Path:
    """The open tables, to be changed; without the bursts unless `raw`."""
    folder = tmp_path / "oom"
    ignore = None if raw else shutil.ignore_patterns("raw")
    shutil.copytree(OOM, folder, ignore=ignore)
    return folder


def keep(folder: Path, *tables: str) -> None:
    """Leave only the lines of some tables."""
    path = folder / "per_run.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], *(line for line in lines if line[0] in tables)]))


def reasons(result: CheckResult) -> list[str]:
    """Why something was not checked."""
    return [left_out.reason for left_out in result.not_checked]


def test_its_kind_is_told_by_its_file() -> None:
    assert kind_of(OOM) == KIND_OOM


def test_rows_of_another_device_are_not_checked(tmp_path: Path) -> None:
    folder = copy_of(tmp_path)
    keep(folder, "R")
    result = check_recording(folder)
    assert result.as_json()["oom"] == []
    assert [(n.what, n.number) for n in result.not_checked] == [
        ("window slowballoon", 2),
        ("window balloon", 2),
    ]
    assert all("timers stand still" in n.reason for n in result.not_checked)
    assert holds(result)


def test_a_table_without_the_lists_of_its_boot(tmp_path: Path) -> None:
    folder = copy_of(tmp_path)
    keep(folder, "C")
    (folder / "boot_C.before.free.gz").unlink()
    result = check_oom(folder)
    assert result.as_json()["oom"] == []
    assert reasons(result) == ["no free lists of its boot (boot_C.before.free)"]
    assert result.not_checked[0].number == 4


def test_an_unknown_kernel_is_named_with_its_place(tmp_path: Path) -> None:
    folder = copy_of(tmp_path)
    keep(folder, "C")
    path = folder / "boot_C.run.json"
    path.write_text(path.read_text().replace("vmlinuz-6.1.0-56", "vmlinuz-5.3.0-56"))
    result = check_oom(folder)
    assert [fault.place for fault in result.faults] == [str(path)]
    assert "kernel 5.3 is not modelled" in result.faults[0].message
    assert result.not_checked[0].number == 4
    assert not holds(result)


def test_a_kernel_that_nothing_names_is_assumed_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_prediction: TablePrediction, _row: Row) -> None:
        raise InputError("the hog cannot leave so little")

    monkeypatch.setattr(TablePrediction, "of", refuse)
    folder = copy_of(tmp_path)
    keep(folder, "C")
    (folder / "boot_C.run.json").unlink()
    result = check_oom(folder)
    assert result.kernel == ""
    assert result.notes == ("table C names no kernel: 6.1 is assumed",)
    assert reasons(result) == ["the hog cannot leave so little"] * 4


def test_bursts_that_are_not_those_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(prediction: TablePrediction, _row: Row) -> None:
        seen.append(prediction.inputs.bursts)
        raise InputError("enough")

    monkeypatch.setattr(TablePrediction, "of", look)
    folder = copy_of(tmp_path, raw=True)
    keep(folder, "C")
    path = folder / "raw" / "C_w500_s1.burst.csv.gz"
    path.unlink()
    path.with_suffix("").write_text("event,t_ns,mib,free_pages_at_begin,touch_ns\n")
    result = check_oom(folder)
    (fault,) = result.faults
    assert fault.place == str(path.with_suffix(""))
    assert fault.message == "0 bursts, 0 killed; per_run.csv says 33, 2"
    assert len(seen[0]) == 15


def test_a_folder_whose_table_is_damaged(tmp_path: Path) -> None:
    folder = copy_of(tmp_path)
    keep(folder, "R")
    path = folder / "per_run.csv"
    path.write_text(path.read_text() + "R,oomR_s9,r0\n")
    result = check_oom(folder)
    assert [fault.place for fault in result.faults] == [f"{path}:6"]
    assert result.not_checked[0].number == 1


# -- predictions that rest on a few boots ---------------------------------------------------------


@pytest.fixture
def few_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few boots do where the count is not in doubt."""
    monkeypatch.setattr(oom_prediction, "DRAWN_SEEDS", FEW_SEEDS)
    monkeypatch.setattr(oom_prediction, "RECORDED_SEEDS", FEW_SEEDS)
    monkeypatch.setattr(oom_prediction, "processes", lambda: 1)


@pytest.mark.slow
@pytest.mark.usefixtures("few_seeds")
def test_a_table_without_its_bursts_goes_by_its_columns(tmp_path: Path) -> None:
    folder = copy_of(tmp_path)
    keep(folder, "C")
    rows = {row["window_ms"]: row for row in check_oom(folder).as_json()["oom"]}
    assert set(rows) == {500, None, 100, 0}
    assert {row["pauses"] for row in rows.values()} == {"drawn"}
    assert rows[None]["predicted_high"] == rows[0]["predicted_high"] == 0
    assert rows[500]["predicted_low"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("few_seeds")
def test_counts_of_another_kernel_are_inconsistent(tmp_path: Path) -> None:
    folder = copy_of(tmp_path)
    keep(folder, "C")
    path = folder / "per_run.csv"
    lines = path.read_text().splitlines()
    columns = lines[0].split(",")
    changed = []
    for line in lines[1:]:
        fields = dict(zip(columns, line.split(","), strict=True))
        if fields["window"] in ("500", "0"):
            fields["oom_kills"] = fields["oom_kill_vmstat"] = "25"
        changed.append(",".join(fields.values()))
    path.write_text("\n".join([lines[0], *changed]) + "\n")
    result = check_oom(folder)
    rows = {row["window_ms"]: row["consistent"] for row in result.as_json()["oom"]}
    assert rows == {500: False, None: True, 100: rows[100], 0: False}
    assert not holds(result)
    assert "table C, window 500" in {divergence.doing for divergence in result.divergences}


# -- wrong models ---------------------------------------------------------------------------------


class OneEntry(Mainline):
    """A reporter that never isolates more than a block at a time."""

    def at_hold(self, _order: int, _view: HoldView, _context: Any) -> Hold:
        """One entry."""
        return Hold(1, TAKE_ALL, BUDGET_BY_LIST)


def open_runs(table: str) -> tuple[OomRun, ...]:
    """The runs of an open table."""
    return tuple(run for run in read_oom_table(OOM / "per_run.csv").runs if run.table == table)


def predicted(
    table: str, window: str, policy: Policy, profile: Profile
) -> tuple[Row, oom_prediction.Prediction]:
    """A row of an open table, and what another model expects of it."""
    runs = open_runs(table)
    snapshot = read_free_lists(OOM / f"boot_{table}.before.free.gz")
    prediction = TablePrediction(TableInputs(runs, snapshot, profile, {}, policy))
    row = next(row for row in rows_of(runs) if row.window == window)
    return row, prediction.of(row)


@pytest.mark.slow
@pytest.mark.usefixtures("few_seeds")
@pytest.mark.parametrize("policy", [OneEntry(), Off()], ids=["one-entry", "off"])
def test_a_reporter_that_isolates_next_to_nothing_is_inconsistent(policy: Policy) -> None:
    row, prediction = predicted("C", "500", policy, PROFILES["6.1"])
    assert not prediction.expected.holds(row.kills)


@pytest.mark.slow
@pytest.mark.usefixtures("few_seeds")
def test_stalls_per_kill_follow_from_the_retry_rule() -> None:
    """17 by the rule of the recorded kernel; 1 where free pages do not count as reclaimable."""
    profile = PROFILES["6.1"]
    older = Profile("6.1", profile.rules & ~FREE_PAGES_ARE_RECLAIMABLE)
    for rules, stalls_per_kill in ((profile, 17), (older, 1)):
        runs = predicted("C", "500", Mainline(), rules)[1].all_runs()
        stalls = [stalls for run in runs for stalls in run.stalls_of_killed]
        assert set(stalls) == {stalls_per_kill}
        assert sum(stalls) == sum(sum(run.stalls) for run in runs)


# -- boots ----------------------------------------------------------------------------------------


def boots(seeds: Sequence[int], processes: int) -> list[Simulated]:
    """Short boots of table C."""
    runs = open_runs("C")[:2]
    plan = BootPlan(
        read_free_lists(OOM / "boot_C.before.free.gz"),
        PROFILES["6.1"],
        Times(5_000, 1_000),
        tuple(
            RunPlan(
                run.window_ms,
                replace(run.conditions, run_ns=5_000_000_000),
                (run.conditions.burst_pages,),
            )
            for run in runs
        ),
    )
    return simulate_boots(plan, seeds, processes)


@pytest.mark.slow
def test_boots_are_the_same_whatever_the_number_of_processes() -> None:
    alone = boots(range(1, 7), 1)
    assert boots(range(1, 7), 2) == alone
    assert alone[0] != alone[1]
    assert [len(run.calls) > 0 for run in alone[0]] == [True, False]


@pytest.mark.slow
@pytest.mark.timeout(900)  # half a minute of two processors, and more where others want them too
def test_the_open_tables_are_consistent() -> None:
    result = check_oom(OOM)
    document = json.loads(json.dumps(result.as_json()))
    rows = {(row["table"], row["window_ms"]): row for row in document["oom"]}
    assert set(rows) == {
        *(("A", window_ms) for window_ms in (500, 100, None, 10, 0)),
        *(("C", window_ms) for window_ms in (500, None, 100, 0)),
    }
    for (_, window_ms), row in rows.items():
        assert row["consistent"]
        assert row["predicted_low"] <= row["recorded_kills"] <= row["predicted_high"]
        if window_ms in (500, 100):
            assert row["predicted_high"] <= 4 * max(row["predicted_low"], 1)
            assert row["stalls_per_kill"] == 17
        else:
            assert row["predicted_high"] == 0
    assert rows["A", 100]["call_ms"] == 108
    assert rows["A", 500]["call_ms"] == 512
    assert rows["A", 10]["call_ms"] == 20
    beside = {(b["table"], b["window_ms"], b["figure"]): b for b in document["beside"]}
    least = beside["A", 500, "fewest free pages at a kill"]
    assert abs(least["expected"] - least["recorded"]) <= PAGESET_BATCH
    assert holds(result)
