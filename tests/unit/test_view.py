"""What the page shows of a run is what its files say, is bounded for a soak of a week, and nothing
damaged or hostile keeps it from being shown.
"""

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pagesoak.daemon import view, view_events
from pagesoak.daemon.page_facts import read_interval
from pagesoak.daemon.problem import ProblemError
from pagesoak.daemon.view import (
    COLUMNS,
    SPANS_MAX,
    Facts,
    Marks,
    Row,
    RunView,
    isolated_points,
    spans,
    thinned,
)
from pagesoak.daemon.view_events import EventView, Windows, merged_windows, thinned_marks
from pagesoak.engine.series import HEADER, ROWS_MAX
from tests.made_runs import STARTED_NS, event, killed_burst, lines, request, window, write_run

ALL = (0.0, math.inf)
MARKS = Marks("DMA32", 678, 847, 1_016)
OVER = Facts(MARKS, None, STARTED_NS, over=True)
WEEK_SECONDS = 7 * 86_400


def series(rows: list[tuple[float, int, int, int]]) -> str:
    """A series.csv of elapsed seconds, free pages, margin above min and isolated pages."""
    rest = "," * (HEADER.count(",") - 4)
    text = [f"{s},{free},{margin},0,{isolated}{rest}" for s, free, margin, isolated in rows]
    return "\n".join([HEADER, *text]) + "\n"


def document(folder: Path, facts: Facts = OVER, shown: tuple[float, float] = ALL) -> Any:
    return RunView(folder).document(facts, shown)


def test_windows_failures_and_curve_are_those_of_the_files(tmp_path: Path) -> None:
    text = series([(0.0, 9_000, 500, 0), (0.5, 8_000, -20, 25_600)])
    found = document(write_run(tmp_path, killed_burst(), series=text))
    assert found["seconds"] == [0.0, 0.5]
    assert found["free_pages"] == [678 + 500, 678 - 20]
    assert found["isolated_seconds"] == [0.0, 0.5, 3.0, 3.5]
    assert found["isolated_pages"] == [0, 25_600, 25_600, 0]
    assert found["windows"] == [(3.0, 3.5, 1.0)]
    killed, stalled = found["failures"]
    assert (killed["outcome"], killed["cause"], killed["seconds"]) == ("killed", "isolated", 3.4)
    assert "1,137 pages (4.4 MiB) free, 25,600 pages (100.0 MiB) isolated" in killed["text"]
    assert stalled["outcome"] == "stalled"
    assert [one["kind"] for one in found["events"]] == ["oom-kill", "oom"]


def test_events_are_read_on_from_where_the_last_look_ended(tmp_path: Path) -> None:
    directory = write_run(tmp_path, window(1_000, 1))
    looked = RunView(directory)
    assert len(looked.document(OVER, ALL)["windows"]) == 1
    first, second = lines(window(4_000, 2)), lines([request(5_000, "oom")])
    with (directory / "events.jsonl").open("a") as file:
        file.write(first + second[:20])
        file.flush()
        found = looked.document(OVER, ALL)
        assert (len(found["windows"]), found["failures"]) == (2, [])
        file.write(second[20:])
    assert len(looked.document(OVER, ALL)["failures"]) == 1


def test_a_pause_is_no_time_on_the_soaks_clock(tmp_path: Path) -> None:
    events = [
        *window(1_000, 1),
        event(2_000, 3, "pause"),
        {**event(7_000, 3, "set"), "load": 2},
        {**event(12_000, 3, "resume"), "paused_seconds": 10.0},
        *window(13_000, 2),
    ]
    found = document(write_run(tmp_path, events))
    assert [first for first, _, _ in found["windows"]] == [1.0, 3.0]
    happened = [(one["kind"], one["seconds"]) for one in found["events"]]
    assert happened == [("resume", 2.0), ("set", 2.0), ("pause", 2.0)]


def test_a_gap_in_the_record_makes_no_window(tmp_path: Path) -> None:
    first, second = window(1_000, 1), window(500_000, 2)
    found = document(write_run(tmp_path, [*first[:-2], *second[-2:]]))
    assert first[-3]["kind"] == "answer"
    assert second[-2]["kind"] == "drained"
    assert found["windows"] == []


def test_before_the_clock_starts_nothing_is_placed_in_time(tmp_path: Path) -> None:
    directory = write_run(tmp_path, window(1_000))
    looked = RunView(directory)
    assert looked.document(Facts(MARKS, None, None, over=False), ALL)["windows"] == []
    assert looked.document(OVER, ALL)["windows"] == [(1.0, 1.5, 1.0)]


def test_the_newest_point_of_a_run_that_goes_on_is_the_last(tmp_path: Path) -> None:
    directory = write_run(tmp_path, series=series([(0.0, 1, 1, 0)]))
    now = Facts(MARKS, Row(0.7, 42, 7), STARTED_NS, over=False)
    found = document(directory, now)
    assert (found["seconds"][-1], found["free_pages"][-1], found["last_seconds"]) == (0.7, 42, 0.7)


def test_a_part_is_shown_finer(tmp_path: Path) -> None:
    rows = [(n * 0.5, 5_000, n % 97, 0) for n in range(8_000)]
    directory = write_run(tmp_path, series=series(rows))
    part = document(directory, OVER, (100.0, 110.0))
    assert part["seconds"][0] == 100.0
    assert part["seconds"][-1] == 110.0
    assert len(part["seconds"]) == 21
    assert len(document(directory)["seconds"]) <= 4 * COLUMNS + 4


def test_thinning_loses_no_extreme() -> None:
    rows = [Row(n * 0.1, 1_000, 0) for n in range(20_000)]
    rows[7_777] = Row(777.7, 3, 0)
    rows[9_999] = Row(999.9, 1_000, 5_555)
    kept = thinned(rows, 0.0, 2_000.0)
    assert len(kept) <= 4 * COLUMNS + 4
    assert min(row.free_pages for row in kept) == 3
    assert max(row.isolated_pages for row in kept) == 5_555
    assert [row.seconds for row in kept] == sorted(row.seconds for row in kept)


def test_a_window_between_two_samples_is_seen_with_its_pages() -> None:
    rows = [Row(0.0, 9_000, 0), Row(0.5, 9_000, 0)]
    short = [Windows(0.1, 0.2, 0.1, 4_096), Windows(0.4, 0.9, 0.5, 512)]
    points = isolated_points(rows, short, 0.0, 0.6)
    assert points == [(0.0, 0), (0.1, 4_096), (0.2, 0), (0.4, 512), (0.5, 0), (0.6, 0)]


def test_a_week_of_windows_is_thinned_and_keeps_the_highest() -> None:
    windows = [Windows(float(n), n + 0.5, 0.5, n % 1_000) for n in range(8_000)]
    points = isolated_points([], windows, 0.0, 8_000.0)
    assert len(points) <= 3 * COLUMNS + 3
    assert max(pages for _, pages in points) == 999
    assert [seconds for seconds, _ in points] == sorted(seconds for seconds, _ in points)


def test_windows_that_are_merged_say_how_much_they_cover() -> None:
    windows = [Windows(float(n), n + 0.5, 0.5, 10 * n) for n in range(5)]
    assert merged_windows(windows, 0.9) == windows
    assert merged_windows(windows, 2) == [(0, 1.5, 1, 10), (2, 3.5, 1, 30), (4, 4.5, 0.5, 40)]
    apart = [Windows(0, 1, 1, 7), Windows(1.1, 2, 0.4, 8), Windows(50, 51, 1, 9)]
    assert spans(apart, 0, 100) == [(0, 2, 0.7), (50, 51, 1)]


def week(path: Path) -> None:
    """The events of a week with a window every four seconds and a kill every hour."""

    def text() -> Iterator[str]:
        for number in range(WEEK_SECONDS // 4):
            at_ms = number * 4_000.0
            answer = window(at_ms, number)[-3:]
            yield lines(answer)
            if number % 900 == 0:
                yield lines([request(at_ms + 100, "oom")])

    with path.open("w") as file:
        file.writelines(text())


@pytest.mark.slow
def test_a_week_is_bounded_in_memory_and_in_the_answer(tmp_path: Path) -> None:
    step = WEEK_SECONDS / ROWS_MAX
    rows = [(n * step, 5_000, n % 89 - 5, n % 7) for n in range(ROWS_MAX)]
    directory = write_run(tmp_path, series=series(rows))
    week(directory / "events.jsonl")
    looked = RunView(directory)
    looks = 1
    while (found := looked.document(OVER, ALL))["behind"]:
        looks += 1
    assert looks > 3
    assert looked._events is not None
    assert len(looked._events.windows) <= view_events.WINDOWS_MAX
    assert len(looked._events.marks) <= view_events.WINDOWS_MAX
    assert len(found["windows"]) <= SPANS_MAX
    assert len(json.dumps(found)) < 200_000
    begins = [one.from_seconds for one in looked._events.windows]
    assert max(after - before for before, after in pairwise(begins)) < WEEK_SECONDS / COLUMNS
    highest = [seconds for seconds, pages in _isolated(found) if pages == 25_600]
    assert max(after - before for before, after in pairwise(highest)) < 2 * WEEK_SECONDS / COLUMNS
    assert found["windows"][0][0] < 60
    covered = sum((last - first) * share for first, last, share in found["windows"])
    assert covered == pytest.approx(WEEK_SECONDS / 8, rel=0.01)
    assert found["windows"][-1][1] > WEEK_SECONDS - 60
    assert len(found["failures"]) == view_events.FAILURES_SHOWN_MAX
    assert found["last_seconds"] >= WEEK_SECONDS - 100


def _isolated(found: dict[str, Any]) -> Iterator[tuple[float, int]]:
    return zip(found["isolated_seconds"], found["isolated_pages"], strict=True)


def test_a_failure_of_another_kind_is_not_thinned_away() -> None:
    marks = [(n * 0.5, "killed") for n in range(1_000)]
    marks.insert(501, (250.2, "stalled"))
    kept = thinned_marks(marks, 10.0)
    assert len(kept) == 51
    assert (250.2, "stalled") in kept
    assert [seconds for seconds, _ in kept] == sorted(seconds for seconds, _ in kept)


def test_marks_of_failures_stay_bounded_and_begin_at_the_first(tmp_path: Path) -> None:
    events = [request(n * 10.0, "oom") for n in range(view_events.WINDOWS_MAX * 2)]
    looked = EventView(write_run(tmp_path, events) / "events.jsonl", STARTED_NS)
    looked.look()
    assert len(looked.marks) <= view_events.WINDOWS_MAX
    assert looked.marks[0][0] == 0.0


def test_marks_of_a_week_of_failures_are_everywhere_as_fine(tmp_path: Path) -> None:
    events = [request(n * 2.0, "oom") for n in range(12 * view_events.WINDOWS_MAX)]
    looked = EventView(write_run(tmp_path, events) / "events.jsonl", STARTED_NS)
    while not looked.size or looked.behind:
        looked.look()
    assert len(looked.marks) <= view_events.WINDOWS_MAX
    seconds = [each for each, _ in looked.marks]
    gaps = [after - before for before, after in pairwise(seconds)]
    assert max(gaps) < seconds[-1] / 500


def test_what_is_torn_damaged_or_hostile_is_left_out(tmp_path: Path) -> None:
    directory = write_run(tmp_path, killed_burst(), series="elapsed_seconds\nx\n\x00,,,\n")
    with (directory / "events.jsonl").open("a") as file:
        file.write('{"kind": "oom", "monotonic_ns": "x"}\n')
        file.write('{"monotonic_ns": 1, "kind": "oom", "cause": [], "order": {}}\n')
        file.write('{"monotonic_ns": 5000000000, "kind": "answer", "window_ns": null}\n')
        file.write("\x00\xff not json\n" + "x" * 300_000 + "\n")
        file.write("[" * 100_000)
    found = document(directory)
    assert found["seconds"] == []
    assert len(found["failures"]) == 2


def test_no_link_is_followed(tmp_path: Path) -> None:
    directory = write_run(tmp_path)
    (tmp_path / "secret").write_text(series([(1.0, 2, 3, 4)]))
    (directory / "series.csv").symlink_to(tmp_path / "secret")
    (directory / "events.jsonl").symlink_to(tmp_path / "secret")
    assert document(directory)["seconds"] == []


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "1e10", "x", ""])
def test_a_time_that_is_none_is_a_problem(text: str) -> None:
    with pytest.raises(ProblemError, match="must be a time"):
        read_interval({"from": text})


def test_an_interval_has_an_order() -> None:
    assert read_interval({"from": "1", "to": "2.5"}) == (1.0, 2.5)
    with pytest.raises(ProblemError, match="lies before"):
        read_interval({"from": "3", "to": "2.5"})


def test_a_summary_of_another_kind_gives_no_marks(tmp_path: Path) -> None:
    directory = write_run(tmp_path, summary={"zones": "none", "verdict": "pass"})
    record = type("Record", (), {"directory": str(directory)})
    assert view.kept_facts(record).marks.zone == ""  # type: ignore[arg-type]
