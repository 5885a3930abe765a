"""The index of runs: made from their directories, never in the way of a soak."""

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pagesoak.daemon.index import FILE_NAME, Index
from pagesoak.daemon.record import Record, State, goes_on, read_record
from pagesoak.engine.rundir import RunDirectory, is_alive

SCENARIO = 'name = "small"\nduration = "1h"\nseed = 3\n[reporting]\npolicy = "off"\n'
SUMMARY = {
    "verdict": "fail",
    "interrupted": False,
    "reason": None,
    "finished": "2026-03-14T16:09:26+00:00",
    "duration_seconds": 3600.0,
}


def make_run(results: Path, name: str, summary: dict[str, Any] | None = SUMMARY) -> RunDirectory:
    """A run's directory that is still held; `close` lets it go."""
    directory = RunDirectory.create(
        results, started=1773500966.0, scenario="small", policy="off", seed=3, name=name
    )
    directory.write_scenario(SCENARIO)
    directory.write_identity(command=["pagesoak"], core="plain", guest={})
    if summary is not None:
        directory.write_summary(summary)
    return directory


def record(run: str, state: State = State.RUNNING) -> Record:
    return Record(
        run=run, state=state, scenario="small", policy="off", seed=1, duration_seconds=1.0,
        started="2026-03-14T15:09:26+00:00", directory=f"/runs/{run}",
    )  # fmt: skip


def test_an_index_that_is_lost_is_made_again(tmp_path: Path) -> None:
    make_run(tmp_path, "one").close()
    make_run(tmp_path, "two").close()
    index = Index(tmp_path)
    assert index.catch_up() == []
    before = index.all()
    assert [(each.run, each.state, each.verdict) for each in before] == [
        ("one", "ended", "fail"),
        ("two", "ended", "fail"),
    ]
    index.close()
    (tmp_path / FILE_NAME).unlink()
    again = Index(tmp_path)
    again.catch_up()
    assert again.all() == before
    again.close()


@pytest.mark.parametrize("damage", ["text", "version", "pages"])
def test_a_damaged_index_is_moved_aside_and_never_overwritten(tmp_path: Path, damage: str) -> None:
    make_run(tmp_path, "one").close()
    index = Index(tmp_path)
    index.catch_up()
    index.close()
    file = tmp_path / FILE_NAME
    if damage == "text":
        file.write_text("precious " * 1000)
    elif damage == "version":
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        content = bytearray(file.read_bytes())
        content[4096:] = b"\xff" * (len(content) - 4096)
        file.write_bytes(content)
    kept = file.read_bytes()
    mended = Index(tmp_path)
    assert mended.moved_aside is not None
    assert mended.moved_aside.read_bytes() == kept
    mended.catch_up()
    assert [each.run for each in mended.all()] == ["one"]
    mended.close()


def test_an_index_that_somebody_locks_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagesoak.daemon.index.BUSY_SECONDS", 0.1)
    Index(tmp_path).close()
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    index = Index(tmp_path)
    assert "locked" in str(index.problem)
    assert not index.store(record("one"))
    assert [each.run for each in index.all()] == ["one"]
    other.close()
    assert index.retry()
    assert index.problem is None
    assert index.waiting == 0
    index.close()
    assert sorted(path.name for path in tmp_path.glob("*old*")) == []


def test_a_run_without_summary_is_going_or_ended_uncleanly(tmp_path: Path) -> None:
    directory = make_run(tmp_path, "one", summary=None)
    index = Index(tmp_path)
    assert index.catch_up() == []  # somebody has it
    going = index.get("one")
    assert going is not None
    assert going.state is State.RUNNING
    directory.close()
    assert [each.run for each in index.catch_up()] == ["one"]
    assert index.catch_up() == []  # it is said once
    index.close()


def test_a_run_that_the_index_last_saw_running_is_looked_at_again(tmp_path: Path) -> None:
    index = Index(tmp_path)
    make_run(tmp_path, "one").close()
    index.store(record("one"))
    assert index.catch_up() == []
    ended = index.get("one")
    assert ended is not None
    assert (ended.state, ended.verdict, ended.seed) == (State.ENDED, "fail", 3)
    index.close()


@pytest.mark.parametrize("summary", [None, SUMMARY])
def test_a_run_of_another_process_is_seen_to_end(
    tmp_path: Path, summary: dict[str, Any] | None
) -> None:
    directory = make_run(tmp_path, "one", summary=None)
    index = Index(tmp_path)
    index.catch_up()
    assert index.look_elsewhere() == []  # it goes on
    if summary is not None:
        directory.write_summary(summary)
    directory.close()
    (ended,) = index.look_elsewhere()
    assert ended == index.get("one")
    expected = (State.UNCLEAN, None) if summary is None else (State.ENDED, "fail")
    assert (ended.state, ended.verdict) == expected
    assert index.look_elsewhere() == []  # it is said once
    index.close()


def test_only_runs_of_other_processes_are_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        make_run(tmp_path, f"over-{number}").close()
    held = [make_run(tmp_path, name, summary=None) for name in ("gone", "mine", "one")]
    index = Index(tmp_path)
    index.catch_up()
    looked_at = []

    def noted(directory: Path) -> bool:
        looked_at.append(directory.name)
        return goes_on(directory)

    monkeypatch.setattr("pagesoak.daemon.index.goes_on", noted)
    held[0].remove()
    assert index.look_elsewhere(["mine"]) == []
    assert looked_at == ["gone", "one"]
    assert index.get("gone") is None
    assert index.look_elsewhere() == []
    assert looked_at == ["gone", "one", "one"]
    for directory in held:
        directory.close()
    index.close()


def test_a_run_that_ends_while_it_is_looked_at_is_not_unclean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = make_run(tmp_path, "one", summary=None)

    def ends_now(path: Path) -> bool:
        directory.write_summary(SUMMARY)
        directory.close()
        return is_alive(path)

    monkeypatch.setattr("pagesoak.daemon.record.is_alive", ends_now)
    found = read_record(tmp_path / "one")
    assert found is not None
    assert found.state is State.ENDED


def test_a_run_whose_directory_is_gone_is_forgotten(tmp_path: Path) -> None:
    index = Index(tmp_path)
    index.store(record("gone", State.ENDED))
    index.catch_up()
    assert index.all() == []
    index.close()


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"verdict": "pass"})])
def test_a_summary_that_cannot_be_read_is_said(tmp_path: Path, content: str) -> None:
    directory = make_run(tmp_path, "one")
    directory.summary.write_text(content)
    directory.close()
    found = read_record(tmp_path / "one")
    assert found is not None
    assert found.state is State.UNCLEAN
    assert "summary cannot be read" in str(found.reason)


def test_folders_that_are_no_runs_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    index = Index(tmp_path)
    assert index.catch_up() == []
    assert index.all() == []
    index.close()


def test_what_the_disk_refuses_waits_and_is_stored_later(tmp_path: Path) -> None:
    index = Index(tmp_path)
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        pages = other.execute("PRAGMA page_count").fetchone()[0]
    other.close()
    index._connection.execute(f"PRAGMA max_page_count = {pages}")  # a full disk, for SQLite
    names = [f"run-{number}" for number in range(200)]
    stored = [index.store(record(name)) for name in names]
    assert not all(stored)
    assert index.waiting > 0
    assert {each.run for each in index.all()} == {*names}
    assert index.get(names[-1]) is not None
    index._connection.execute("PRAGMA max_page_count = 100000")
    assert index.retry()
    assert index.waiting == 0
    index.close()
    again = Index(tmp_path)
    assert {each.run for each in again.all()} == {*names}
    again.close()


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        index = Index(tmp_path)
        for number in range(10**6):
            if index.store(record(f"run-{number}")):
                os.write(writer, f"{number}\n".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        acknowledged = [int(said.readline()) for _ in range(20)]
        os.kill(child, 9)
        os.waitpid(child, 0)
    index = Index(tmp_path)
    assert index.moved_aside is None
    assert {f"run-{number}" for number in acknowledged} <= {each.run for each in index.all()}
    index.close()
