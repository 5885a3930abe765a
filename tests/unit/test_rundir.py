"""The directory of a run: its name and rights, its files, and what a failing disk leaves of it."""

import csv
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pagesoak import __version__
from pagesoak.base.errors import HarnessError, InputError, PagesoakError
from pagesoak.engine.run_files import AppendFile, AtCap, replace_file
from pagesoak.engine.run_sample import CauseCounts, RunSample, ZoneSample
from pagesoak.engine.rundir import RunDirectory, is_alive, run_name
from pagesoak.engine.series import COLUMNS, Series

STARTED = 1_773_500_966.9  # 2026-03-14 15:09:26.9 UTC
NAME = "20260314T150926Z-seed-512m-mainline-42"


def create(root: Path, **changes: Any) -> RunDirectory:
    given = {"started": STARTED, "scenario": "seed-512m", "policy": "mainline", "seed": 42}
    return RunDirectory.create(root, **{**given, **changes})


def sample(second: int, **changes: Any) -> RunSample:
    free = changes.pop("free_pages", 5_000)
    zones = (
        ZoneSample("DMA", 3_840, 3_400, 3_400, 87, 108),
        ZoneSample("DMA32", 118_000, free, free, 1_320, 1_650),
    )
    return RunSample(
        title="t",
        elapsed_seconds=float(second),
        total_seconds=None,
        zones=zones,
        isolated_pages=0,
        isolated_pages_max=0,
        report_calls=second,
        reported_pages=0,
        punched_bytes=0,
        alloc_requests=10 * second,
        alloc_requests_per_second=10.0,
        alloc_failures=CauseCounts(1, 2, 3),
        fallbacks=4,
        oom_events=CauseCounts(5, 6, 7),
        reporter_state="idle",
    )._replace(**changes)


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """Files end here, in the middle of a write: what a full disk does, without filling one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# -- the directory --------------------------------------------------------------------------------


def test_a_name_says_when_and_what(tmp_path: Path) -> None:
    with create(tmp_path) as directory:
        assert directory.run == NAME
        assert directory.path == tmp_path / NAME
        assert RunDirectory.label(STARTED) == "2026-03-14T15:09:26+00:00"


def test_runs_of_one_second_get_numbers(tmp_path: Path) -> None:
    runs = [create(tmp_path).run for _ in range(3)]
    assert runs == [NAME, f"{NAME}-2", f"{NAME}-3"]


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("../../etc/passwd", "etc-passwd"),
        ("a b\nc", "a-b-c"),
        ("...", "unnamed"),
        ("", "unnamed"),
        ("x" * 500, "x" * 40),
        ("grün", "gr-n"),
    ],
)
def test_a_name_is_one_plain_part_of_a_path(scenario: str, expected: str) -> None:
    assert run_name(STARTED, scenario, "p", 1) == f"20260314T150926Z-{expected}-p-1"


def test_a_name_that_was_chosen_is_taken_as_it_is_or_refused(tmp_path: Path) -> None:
    with create(tmp_path, name="mine") as directory:
        assert directory.path == tmp_path / "mine"
        assert directory.run == "mine"
    with pytest.raises(InputError, match="results cannot be kept here: File exists"):
        create(tmp_path, name="mine")


def test_a_directory_tells_whether_its_run_lives(tmp_path: Path) -> None:
    with create(tmp_path) as directory:
        assert is_alive(directory.path)
        child = os.fork()  # a worker has it open, too
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert is_alive(directory.path)
    assert not is_alive(directory.path)
    assert not is_alive(tmp_path / "nowhere")


def test_directory_and_files_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with create(tmp_path / "results") as directory:
            directory.write_scenario("# nothing\n")
            directory.write_event(1, 0, "start", {})
            directory.write_sample(sample(0))
            directory.write_summary({})
    finally:
        os.umask(before)
    assert directory.path.stat().st_mode & 0o777 == 0o700
    files = list(directory.path.iterdir())
    assert len(files) == 4
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "results"
    root.write_text("mine")
    for place in (root, root / "below"):
        with pytest.raises(InputError, match="results cannot be kept here") as refusal:
            create(place)
        assert str(refusal.value).startswith(f"{place}: ")
    assert tree(tmp_path) == ["results"]
    assert root.read_text() == "mine"


def test_a_root_that_cannot_be_written_is_refused() -> None:
    place = Path("/proc/self/results")  # where not even root can make a directory
    with pytest.raises(InputError, match="results cannot be kept here"):
        create(place)


def test_a_refusal_leaves_no_half_made_root(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="File name too long"):
        create(tmp_path / "a" / "b" / ("c" * 300))
    assert tree(tmp_path) == []


def test_remove_takes_everything_it_made_and_no_more(tmp_path: Path) -> None:
    directory = create(tmp_path / "a" / "b")
    directory.write_scenario("x")
    directory.write_event(1, 0, "start", {})
    directory.remove()
    assert tree(tmp_path) == []

    create(tmp_path / "a")
    second = create(tmp_path / "a")
    second.remove()
    assert tree(tmp_path) == ["a", f"a/{NAME}"]


def test_results_are_never_removed(tmp_path: Path) -> None:
    with create(tmp_path) as directory:
        directory.write_summary({"verdict": "pass"})
        with pytest.raises(HarnessError, match=r"summary\.json"):
            directory.remove()
    with create(tmp_path) as directory:
        directory.evidence.mkdir()
        with pytest.raises(HarnessError, match="evidence"):
            directory.remove()


# -- its files ------------------------------------------------------------------------------------


def test_the_scenario_is_kept_word_for_word(tmp_path: Path) -> None:
    text = 'name = "grün"\n\n# a comment\n'
    with create(tmp_path) as directory:
        directory.write_scenario(text)
    assert (directory.path / "scenario.toml").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("core", ["compiled", "plain"])
def test_the_identity_says_what_ran_where(tmp_path: Path, core: str) -> None:
    with create(tmp_path) as directory:
        directory.write_identity(command=["pagesoak", "run"], core=core, guest={"cpus": 2})
    identity = json.loads((directory.path / "run.json").read_text())
    assert identity["format"] == 1
    assert identity["run"] == NAME
    assert identity["started"] == "2026-03-14T15:09:26+00:00"
    assert identity["pagesoak"] == __version__
    assert identity["command"] == ["pagesoak", "run"]
    assert identity["guest"] == {"cpus": 2}
    assert identity["kernel"].endswith(os.uname().release)
    assert identity["host_cpus"] == len(os.sched_getaffinity(0))
    assert identity["core"] == core
    assert (identity["numba"] == "plain") == (core == "plain")


def test_events_are_there_as_soon_as_they_are_written(tmp_path: Path) -> None:
    with create(tmp_path) as directory:
        directory.write_event(5, 1, "oom", {"cause": "isolated", "order": 0})
        directory.write_event(7, 2, "text", {"said": "two\nlines"})
        lines = (directory.path / "events.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [
            {"monotonic_ns": 5, "worker": 1, "kind": "oom", "cause": "isolated", "order": 0},
            {"monotonic_ns": 7, "worker": 2, "kind": "text", "said": "two\nlines"},
        ]
        assert directory.events_lost == 0


def test_events_wait_for_a_full_disk(tmp_path: Path) -> None:
    with create(tmp_path) as directory:
        with file_size_limit(100):
            for number in range(10):
                directory.write_event(number, 0, "tick", {})
        directory.write_event(10, 0, "tick", {})
        lines = (directory.path / "events.jsonl").read_text().splitlines()
        assert [json.loads(line)["monotonic_ns"] for line in lines] == list(range(11))
        assert directory.events_lost == 0


def test_a_summary_is_whole_or_not_there(tmp_path: Path) -> None:
    with create(tmp_path) as directory:
        directory.write_summary({"verdict": "pass", "figures": list(range(100))})
        before = directory.summary.read_text()
        with (
            file_size_limit(50),
            pytest.raises(PagesoakError, match=r"summary\.json: cannot be written"),
        ):
            directory.write_summary({"verdict": "fail", "figures": list(range(200))})
        assert directory.summary.read_text() == before
        assert tree(directory.path) == ["summary.json"]
        assert json.loads(before)["verdict"] == "pass"


def test_a_figure_that_is_no_number_never_gets_into_a_summary(tmp_path: Path) -> None:
    with create(tmp_path) as directory:
        with pytest.raises(ValueError, match="not JSON compliant"):
            directory.write_summary({"p99": float("nan")})
        assert tree(directory.path) == []


# -- the series -----------------------------------------------------------------------------------


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sample_is_a_row(tmp_path: Path) -> None:
    with create(tmp_path) as directory:
        directory.write_sample(sample(1, free_pages=1_000, isolated_pages=7))
        directory.write_sample(sample(2))
        first, second = rows(directory.path / "series.csv")
    assert list(first) == [column.name for column in COLUMNS]
    assert first == {
        "elapsed_seconds": "1.0",
        "free_pages": "4400",
        "min_margin_pages": "-320",
        "low_margin_pages": "-650",
        "isolated_pages": "7",
        "isolated_pages_max": "0",
        "report_calls": "1",
        "reported_pages": "0",
        "punched_bytes": "0",
        "alloc_requests": "10",
        "alloc_failures_isolated": "1",
        "alloc_failures_fragmented": "2",
        "alloc_failures_exhausted": "3",
        "fallbacks": "4",
        "oom_events_isolated": "5",
        "oom_events_fragmented": "6",
        "oom_events_exhausted": "7",
    }
    assert second["elapsed_seconds"] == "2.0"


def test_a_long_series_stays_small_and_keeps_its_depth(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    series = Series(path, rows_max=8)
    for second in range(1, 1_001):
        deepest = second == 501
        series.add(
            sample(
                second,
                free_pages=11 if deepest else 5_000,
                isolated_pages=900 if deepest else 0,
            )
        )
        assert len(rows(path)) < 8
    series.close()
    found = rows(path)
    assert 4 <= len(found) <= 8
    times = [float(row["elapsed_seconds"]) for row in found]
    assert times[:-1] == [256.0 * number for number in range(1, len(times))]
    assert times[-1] == 1_000.0
    assert found[-1]["alloc_requests"] == "10000"
    (deep,) = [row for row in found if row["isolated_pages"] == "900"]
    assert deep["free_pages"] == str(3_400 + 11)
    assert deep["min_margin_pages"] == str(11 - 1_320)
    assert float(deep["elapsed_seconds"]) >= 501
    assert tree(tmp_path) == ["series.csv"]


def test_a_series_comes_back_whole_after_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    series = Series(path, rows_max=8)
    with file_size_limit(50):
        for second in range(1, 5):
            series.add(sample(second))
    for second in range(5, 9):
        series.add(sample(second))
    series.close()
    assert [row["elapsed_seconds"] for row in rows(path)] == ["2.0", "4.0", "6.0", "8.0"]


# -- how files are written ------------------------------------------------------------------------


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "f"
    file = AppendFile(path, bytes_max=1_000, at_cap=AtCap.REFUSE)
    assert file.append("first")
    with file_size_limit(10):
        assert not file.append("second")
        assert path.read_text() == "first\n"
    assert file.append("third")
    assert path.read_text() == "first\nthird\n"
    assert file.lost_lines == 1


def test_a_line_an_earlier_writer_left_torn_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("whole\nhal")
    file = AppendFile(path, bytes_max=1_000, at_cap=AtCap.REFUSE)
    assert file.append("next")
    assert file.append("last")
    assert path.read_text() == "whole\nhal\nnext\nlast\n"


def test_a_full_file_refuses_for_good(tmp_path: Path) -> None:
    path = tmp_path / "f"
    file = AppendFile(path, bytes_max=12, at_cap=AtCap.REFUSE, pending_lines_max=10)
    assert [file.append("12345") for _ in range(4)] == [True, True, False, False]
    assert (file.lost_lines, file.pending_lines) == (2, 0)
    assert path.read_text() == "12345\n12345\n"


def test_a_rotating_file_keeps_one_older(tmp_path: Path) -> None:
    path = tmp_path / "f"
    file = AppendFile(path, bytes_max=12, at_cap=AtCap.ROTATE)
    assert all(file.append(f"line{number}") for number in range(1, 6))
    assert path.read_text() == "line5\n"
    assert (tmp_path / "f.1").read_text() == "line3\nline4\n"
    assert file.lost_lines == 0


def test_what_waits_is_bounded_counted_and_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    file = AppendFile(folder / "f", bytes_max=1_000, at_cap=AtCap.REFUSE, pending_lines_max=2)
    assert [file.append(text) for text in "abc"] == [False] * 3
    assert (file.pending_lines, file.lost_lines) == (2, 1)
    folder.mkdir()
    assert file.append("d")
    assert (folder / "f").read_text() == "a\nb\nd\n"
    file.close()
    assert not file.append("e")
    assert file.lost_lines == 2


def test_what_still_waits_at_the_end_is_lost(tmp_path: Path) -> None:
    file = AppendFile(
        tmp_path / "nowhere" / "f", bytes_max=99, at_cap=AtCap.REFUSE, pending_lines_max=5
    )
    file.append("a")
    file.close()
    assert (file.pending_lines, file.lost_lines) == (0, 1)


def test_a_replaced_file_is_the_old_one_until_it_is_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "f"
    replace_file(path, "old\n")
    with path.open() as reader:
        replace_file(path, "new\n")
        assert reader.read() == "old\n"
    assert path.read_text() == "new\n"
    with file_size_limit(2), pytest.raises(OSError, match="File too large"):
        replace_file(path, "too long\n")
    assert path.read_text() == "new\n"
    assert tree(tmp_path) == ["f"]


def test_a_replaced_file_is_on_the_disk_before_it_has_its_name_and_then_its_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    replace_file(path, "new\n")
    assert synced == [(".f.new", False), (tmp_path.name, True)]
