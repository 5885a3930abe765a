"""What is read from the directory of a run: windows, kills, waits, and the course over time."""

import json
from pathlib import Path
from typing import Any

from pagesoak.engine.series import HEADER
from pagesoak.study.compare_course import course_of, squeezed
from pagesoak.study.compare_figures import FIGURES, STRETCHES, Run, quantile_ns, read_run
from tests.compare_helper import run, summary

SECOND = 1_000_000_000
FIGURE = {figure.key: figure.value for figure in FIGURES}


def event(at_seconds: float, kind: str, **fields: Any) -> str:
    at_ns = SECOND + int(at_seconds * SECOND)
    return json.dumps({"monotonic_ns": at_ns, "worker": 0, "kind": kind, **fields})


def made_run(folder: Path, *events: str, rows: tuple[str, ...] = ()) -> Run:
    """A run of 60 s of these events and rows of the series, whose clock starts at 1 s."""
    if events:
        (folder / "events.jsonl").write_text("\n".join(events) + "\n")
    if rows:
        columns = HEADER.count(",") + 1
        lines = [row + ",0" * (columns - row.count(",") - 1) for row in rows]
        (folder / "series.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return read_run(1, summary(directory=str(folder)), 60 * SECOND)


def window(begin: float, end: float, pages: int) -> list[str]:
    return [
        event(begin, "isolated", zone=1, order=9, entries=1, pages=10, free_pages=900),
        event(begin + 0.05, "isolated", zone=1, order=10, entries=1, pages=pages, free_pages=700),
        event(begin + 0.05, "report", request=1, entries=2, free_pages=700, isolated_pages=pages),
        event(end, "drained", request=1, entries=2, free_pages=900),
    ]


def test_a_window_lasts_from_the_first_isolation_until_all_is_back(tmp_path: Path) -> None:
    found = made_run(tmp_path, *window(2, 2.5, 512), *window(10, 10.25, 64))
    assert found.windows_ns == (SECOND // 2, SECOND // 4)
    assert FIGURE["windows"](found) == 2
    assert FIGURE["window_open_ns"](found) == SECOND * 3 // 4


def test_a_window_that_is_open_at_the_end_does_not_count(tmp_path: Path) -> None:
    assert made_run(tmp_path, *window(59, 60, 512)[:3]).windows_ns == ()
    cut_short = made_run(tmp_path, *window(59, 60.1, 512))
    assert cut_short.windows_ns == ()
    assert cut_short.isolated_pages[-1] == 512


def test_isolated_pages_fill_the_stretches_of_their_window(tmp_path: Path) -> None:
    found = made_run(tmp_path, *window(2, 3.6, 512))
    assert [at for at, pages in enumerate(found.isolated_pages) if pages] == [4, 5, 6, 7]
    assert set(found.isolated_pages) == {0, 512}


def test_headroom_is_the_least_of_samples_and_events(tmp_path: Path) -> None:
    rows = ("0.0,6000,5000", "2.0,6000,5000", "2.1,6000,4000", "4.0,5500,4500")
    kill = event(
        6, "oom", order=0, gfp=1, free_pages=1, isolated_pages=2, margin_pages=-3, cause=0
    )
    taken = event(8, "burst-taken", load=0, pages=9, free_pages=1500, isolated_pages=0)
    lower = event(9, "burst-taken", load=0, pages=9, free_pages=900, isolated_pages=0)
    found = made_run(tmp_path, *window(3, 3.2, 5), kill, taken, lower, rows=rows)
    known = {at: pages for at, pages in enumerate(found.headroom_pages) if pages is not None}
    # the window: 700 free of zone 1, whose min is 600; the burst: 1500 of all zones, 400 of them
    # of the others by the sample before; never below the least that was counted, 100
    assert known == {0: 5000, 4: 4000, 6: 100, 8: 4500, 12: -3, 16: 500, 18: 100}


def test_kills_are_dated(tmp_path: Path) -> None:
    fields = {"order": 0, "gfp": 1, "free_pages": 1, "isolated_pages": 2, "cause": 0}
    kill = event(6, "oom", margin_pages=-3, **fields)
    stalled = event(7, "stalled", margin_pages=-4, **fields)
    found = made_run(tmp_path, kill, stalled)
    assert found.kills_at_ns == (6 * SECOND,)


def test_a_run_in_which_nothing_happened_has_no_files(tmp_path: Path) -> None:
    found = made_run(tmp_path)
    assert set(found.isolated_pages) == {0}
    assert set(found.headroom_pages) == {None}
    assert FIGURE["window_max_ns"](found) == 0


def test_quantiles_are_exact() -> None:
    assert [quantile_ns((4, 1, 3, 2), of) for of in (50, 99)] == [2, 4]
    assert quantile_ns((), 50) == 0
    assert quantile_ns(tuple(range(1, 201)), 99) == 198


def test_waits_are_those_of_the_summary() -> None:
    found = run(1, reporter_waits=3, oom_waits=5)
    keys = ("reporter_waits", "oom_waits", "oom_waits_ns")
    assert [FIGURE[key](found) for key in keys] == [3, 5, SECOND * 5 // 4]


def test_reported_at_the_end_is_that_of_all_zones() -> None:
    assert FIGURE["reported_at_end_pages"](run(1)) == 510


# ---- the course ----


def test_a_course_has_the_first_seed_and_the_extremes_of_all() -> None:
    unknown = [None] * (STRETCHES - 2)
    zeros = [0] * (STRETCHES - 2)
    one = with_course(run(3), [5, None, *unknown], [7, 1, *zeros])
    other = with_course(run(4), [9, 2, *unknown], [3, 4, *zeros])
    course = course_of([one, other])
    assert course is not None
    assert course.seed == 3
    assert list(course.headroom_pages[:3]) == [5, None, None]
    assert list(course.headroom_pages_min[:3]) == [5, 2, None]
    assert list(course.isolated_pages_max[:3]) == [7, 4, 0]
    assert course_of([]) is None


def with_course(of: Run, headroom: list[int | None], isolated: list[int]) -> Run:
    return Run(of.seed, of.summary, (), (), tuple(headroom), tuple(isolated))


def test_a_course_in_fewer_columns_keeps_the_extremes() -> None:
    values = [None, 3, 1, None, *([None] * (STRETCHES - 4))]
    assert squeezed(values, STRETCHES, min)[:5] == [3, 3, 1, 1, 1]
    assert squeezed(values, STRETCHES // 2, min)[:3] == [3, 1, 1]
    assert len(squeezed(values, 50, min)) <= 50
