"""Which results are removed: the oldest, by age and by size; and what is never touched."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

import pytest

from pagesoak.daemon.record import Record, read_record
from pagesoak.daemon.retention import (
    CLOCK_STRAY_SECONDS_MAX,
    REMOVED_AT_ONCE_MAX,
    Kept,
    Retention,
    remove,
    size_bytes,
    to_remove,
    trusted_now,
)
from tests.unit.test_daemon_index import make_run

FOREVER = 1e18
NO_LIMIT = 1 << 60


def record_of(results: Path, name: str) -> Record:
    found = read_record(results / name)
    assert found is not None
    return found


def ended_run(results: Path, name: str, kib: int = 0) -> Record:
    """A run that is over; with so much in its events."""
    make_run(results, name).close()
    (results / name / "events.jsonl").write_bytes(b"x" * (kib << 10))
    return record_of(results, name)


def collected(results: Path, records: list[Record], busy: Collection[str] = ()) -> set[str]:
    """What is gone when everything has to go."""
    return set(Retention(results).collect(records, busy, None, FOREVER, 0))


# ---- the choice ----


def test_the_oldest_go_until_the_rest_fits() -> None:
    kept = [Kept("new", 30, 100), Kept("old", 10, 100), Kept("middle", 20, 100)]
    assert to_remove(kept, None, FOREVER, 300, 300) == []
    assert to_remove(kept, None, FOREVER, 299, 300) == ["old"]
    assert to_remove(kept, None, FOREVER, 150, 300) == ["old", "middle"]
    assert to_remove(kept, None, FOREVER, 150, 1300) == ["old", "middle", "new"]


def test_what_is_too_old_goes_whatever_its_size() -> None:
    kept = [Kept("old", 10, 1), Kept("edge", 50, 1), Kept("new", 51, 1)]
    assert to_remove(kept, 100, 50, NO_LIMIT, 3) == ["old"]
    assert to_remove(kept, 101, 50, NO_LIMIT, 3) == ["old", "edge"]
    assert to_remove(kept, None, 50, NO_LIMIT, 3) == []


def test_so_many_go_at_once_and_no_more() -> None:
    kept = [Kept(f"{number:04}", number, 1) for number in range(1000)]
    assert to_remove(kept, None, FOREVER, 0, 1000) == [
        f"{number:04}" for number in range(REMOVED_AT_ONCE_MAX)
    ]


@pytest.mark.parametrize("jump_seconds", [-4e7, -3700, 3700, 4e7])
def test_a_clock_that_was_stepped_says_nothing_about_age(jump_seconds: float) -> None:
    assert abs(jump_seconds) > CLOCK_STRAY_SECONDS_MAX
    assert trusted_now(1000 + 50 + jump_seconds, 150, 1000, 100) is None
    assert trusted_now(1000 + 50 + 10, 150, 1000, 100) == 1060


# ---- what is on the disk ----


def test_runs_that_are_over_go_and_those_that_go_on_stay(tmp_path: Path) -> None:
    over, busy = ended_run(tmp_path, "over"), ended_run(tmp_path, "busy")
    worked_in = make_run(tmp_path, "worked-in")
    records = [over, busy, record_of(tmp_path, "worked-in")]
    assert collected(tmp_path, records, {"busy"}) == {"over"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["busy", "worked-in"]
    worked_in.close()


def test_what_is_kept_is_measured(tmp_path: Path) -> None:
    records = [ended_run(tmp_path, "one", 200), ended_run(tmp_path, "two", 100)]
    retention = Retention(tmp_path)
    assert retention.collect(records, (), None, FOREVER, NO_LIMIT) == []
    before = retention.used_bytes
    assert before >= 300 << 10
    (gone,) = retention.collect(records, (), None, FOREVER, before - 1)
    assert retention.used_bytes < before
    assert retention.removed == 1
    assert not (tmp_path / gone).exists()


def test_a_link_in_place_of_a_run_is_neither_followed_nor_removed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    results = tmp_path / "runs"
    results.mkdir()
    record = ended_run(results, "one")
    shutil.move(results / "one", precious)
    (results / "one").symlink_to(precious)
    assert collected(results, [record]) == set()
    assert (results / "one").is_symlink()
    assert (precious / "summary.json").exists()


def test_links_inside_a_run_are_removed_and_what_they_lead_to_stays(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis").write_text("years of work")
    results = tmp_path / "runs"
    results.mkdir()
    record = ended_run(results, "one")
    (results / "one" / "folder").symlink_to(precious)
    (results / "one" / "file").symlink_to(precious / "thesis")
    (results / "one" / "loop").symlink_to(results / "one")
    assert collected(results, [record]) == {"one"}
    assert (precious / "thesis").read_text() == "years of work"


@pytest.mark.parametrize("missing", ["run.json", "scenario.toml"])
def test_a_folder_that_is_no_run_any_more_stays(tmp_path: Path, missing: str) -> None:
    record = ended_run(tmp_path, "one")
    (tmp_path / "one" / missing).unlink()
    assert collected(tmp_path, [record]) == set()
    assert (tmp_path / "one").is_dir()


def test_a_file_or_nothing_in_place_of_a_run_is_no_run(tmp_path: Path) -> None:
    records = [ended_run(tmp_path, "file"), ended_run(tmp_path, "gone")]
    shutil.rmtree(tmp_path / "file")
    shutil.rmtree(tmp_path / "gone")
    (tmp_path / "file").write_text("a letter")
    assert collected(tmp_path, records) == set()
    assert (tmp_path / "file").read_text() == "a letter"


def test_folders_that_the_index_does_not_know_are_never_looked_at(tmp_path: Path) -> None:
    ended_run(tmp_path, "unknown", 100)
    (tmp_path / "photos").mkdir()
    retention = Retention(tmp_path)
    assert retention.collect([], (), None, FOREVER, 0) == []
    assert retention.used_bytes == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "unknown"]


def test_another_users_folder_is_not_ours_to_remove(tmp_path: Path) -> None:
    ended_run(tmp_path, "one")
    assert size_bytes(tmp_path / "one", os.geteuid()) is not None
    assert size_bytes(tmp_path / "one", os.geteuid() + 1) is None


def test_a_directory_that_somebody_works_in_is_not_removed(tmp_path: Path) -> None:
    directory = make_run(tmp_path, "one")
    assert not remove(tmp_path / "one")
    directory.close()
    assert remove(tmp_path / "one")
