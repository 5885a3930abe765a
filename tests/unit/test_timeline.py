"""`pagesoak timeline`: what is drawn is what was recorded, in a bounded number of points and the
same bytes each time; and bad input to both commands that look at a finished run.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from pagesoak.cli.main import main
from pagesoak.study import drawing
from pagesoak.study.run_record import open_run
from pagesoak.study.thinning import BUCKETS, Curve, Interval, Marks, Span, Spans
from pagesoak.study.timeline import Picture, picture_of
from pagesoak.study.timeline_picture import draw
from tests.made_runs import (
    MS,
    REPORTER,
    STARTED_NS,
    SUMMARY,
    VCPU,
    event,
    killed_burst,
    request,
    window,
    write_run,
)

SECOND = 1_000 * MS
WHOLE = Interval(0, BUCKETS * MS)
HEADER = "elapsed_seconds,free_pages,min_margin_pages,isolated_pages"


def picture(directory: Path, **options: int) -> Picture:
    return picture_of(open_run(str(directory), directory.parent), **options)


def drawn(directory: Path, suffix: str = ".svg", **options: int) -> bytes:
    found = picture(directory, **options)
    figure = draw(found.explanation.record, found.timeline, found.explanation.words, found.notes)
    return drawing.picture_bytes(figure, suffix)


def series(rows: Sequence[tuple[float, int, int, int]]) -> str:
    return "\n".join([HEADER, *(",".join(map(str, row)) for row in rows)]) + "\n"


# ---- points ----


def test_a_curve_of_a_million_points_keeps_every_extreme_in_few_points() -> None:
    chosen = random.Random(1)  # noqa: S311 - a noise, no secret
    curve = Curve(WHOLE)
    extremes = {}
    for number in range(200_000):
        time_ns = number * WHOLE.to_ns // 200_000
        value = chosen.randrange(1_000_000)
        curve.add(time_ns, value)
        low, high = extremes.get(WHOLE.bucket(time_ns), (value, value))
        extremes[WHOLE.bucket(time_ns)] = min(low, value), max(high, value)
    points = curve.points()
    assert len(points) <= 4 * BUCKETS
    assert points == sorted(points, key=lambda point: point[0])
    kept: dict[int, list[int]] = {}
    for time_ns, value in points:
        kept.setdefault(WHOLE.bucket(time_ns), []).append(value)
    assert {bucket: (min(v), max(v)) for bucket, v in kept.items()} == extremes


def test_a_curve_of_few_points_is_what_was_added_and_reaches_the_rims() -> None:
    curve = Curve(Interval(10, 20))
    for time_ns in (1, 5, 12, 15, 23, 30):
        curve.add(time_ns, time_ns)
    assert curve.points() == [(5, 5), (12, 12), (15, 15), (23, 23)]


def test_a_step_at_one_moment_keeps_its_direction() -> None:
    curve = Curve(WHOLE)
    for value in (0, 700, 700, 0):
        curve.add(5, value)
    assert [value for _, value in curve.points()] == [0, 700, 0]


def test_spans_closer_than_a_column_become_one_and_are_counted() -> None:
    spans = Spans(WHOLE)
    for number in range(1_000):
        spans.add(Span(number * 1_000, number * 1_000 + 500, "served"))
    spans.add(Span(900 * MS, 901 * MS, "killed"))
    assert spans.found == [Span(0, 999_500, "served"), Span(900 * MS, 901 * MS, "killed")]
    assert spans.count == 1_001


def test_marks_are_one_to_a_column_and_kind_with_their_number_and_lowest_value() -> None:
    marks = Marks(WHOLE)
    for value in (9, 3, 7):
        marks.add(100, value, "killed isolated")
    marks.add(100, 1, "stalled isolated")
    marks.add(-1, 1, "stalled isolated")
    assert [(mark.kind, mark.value, mark.times) for mark in marks.found()] == [
        ("stalled isolated", 1, 1),
        ("killed isolated", 3, 3),
    ]


# ---- what is gathered ----


def test_isolated_pages_rise_and_fall_with_the_window(tmp_path: Path) -> None:
    found = picture(write_run(tmp_path, killed_burst())).timeline
    at = [((time_ns - STARTED_NS) / SECOND, pages) for time_ns, pages in found.isolated.points()]
    assert at[:2] == [(3.0, 0), (3.0, 25_600)]
    assert at[-3:] == [(3.5, 25_600), (3.5, 0), (10.0, 0)]
    assert [(span.from_ns, span.to_ns) for span in found.windows.found] == [
        (STARTED_NS + 3 * SECOND, STARTED_NS + 3_500 * MS)
    ]


def test_rows_of_the_series_add_nothing_to_what_events_say(tmp_path: Path) -> None:
    """A merged row has the most that was isolated in its time, which was at some moment of it."""
    rows = series([(1.0, 30_000, 29_000, 25_600), (3.0, 30_000, 29_000, 25_600)])
    found = picture(write_run(tmp_path, killed_burst(), series=rows)).timeline
    isolated = [time_ns for time_ns, pages in found.isolated.points() if pages]
    assert min(isolated) == STARTED_NS + 3 * SECOND
    assert max(isolated) == STARTED_NS + 3_500 * MS


def test_free_pages_are_those_of_the_zone_with_the_watermarks(tmp_path: Path) -> None:
    rows = [(0.0, 38_397, 33_879, 0), (0.5, 38_397, 33_879, 0)]
    directory = write_run(tmp_path, killed_burst(), series=series(rows))
    points = dict(picture(directory).timeline.free.points())
    dma = 38_397 - 33_879 - 678
    assert points[STARTED_NS] == 33_879 + 678
    assert points[STARTED_NS + 3_350 * MS] == 12_590 - dma
    assert points[STARTED_NS + 3_500 * MS] == 33_741  # the reporter says it of the zone itself
    # DMA refused the page as well, so it has at most 21 + 464, whatever it had at the sample.
    assert points[STARTED_NS + 3_400 * MS] == 1_137 - 485


def test_a_second_large_zone_leaves_the_all_zone_figures_out(tmp_path: Path) -> None:
    zones = [SUMMARY["zones"][1] | {"zone": "DMA32", "managed_pages": 90_000}, SUMMARY["zones"][1]]
    rows = [(0.0, 38_397, 3_000, 0)]
    directory = write_run(
        tmp_path, killed_burst(), summary=SUMMARY | {"zones": zones}, series=series(rows)
    )
    points = dict(picture(directory).timeline.free.points())
    assert STARTED_NS + 3_350 * MS not in points
    assert points[STARTED_NS + 3_500 * MS] == 33_741


def test_a_window_that_is_still_open_is_shown_to_the_end_of_the_record(tmp_path: Path) -> None:
    events = [*window(3_000)[:4], event(4_000, VCPU, "burst-begin", load=1, pages=1,
              free_pages=1, isolated_pages=1)]  # fmt: skip
    found = picture(write_run(tmp_path, events)).timeline
    assert found.windows.found == [Span(STARTED_NS + 3 * SECOND, STARTED_NS + 4 * SECOND)]
    assert found.calls.count == 1


def test_a_failure_is_shown_with_its_window_and_some_time_on_each_side(tmp_path: Path) -> None:
    found = picture(write_run(tmp_path, killed_burst()), failure=1).document([])
    assert (found["from_seconds"], found["to_seconds"]) == (2.75, 3.75)
    assert found["failures"] == {"killed isolated": 1}


def test_damaged_samples_are_noted_and_the_rest_is_drawn(tmp_path: Path) -> None:
    rows = series([(0.0, 38_397, 33_879, 0), (0.5, 38_397, 33_879, 0)])
    bad = "x,1,2,3\n1.0,1\n1e999,1,2,3\n2.0,1,2,99999999999999999999\n"
    found = picture(write_run(tmp_path, series=rows + bad))
    assert found.timeline.samples == 2
    assert found.notes == ("there is no events.jsonl: nothing happened, or it was removed",
                           "series.csv: 4 rows are damaged: left out")  # fmt: skip


# ---- the picture ----


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_picture_of_a_run_is_the_same_bytes_each_time(tmp_path: Path, suffix: str) -> None:
    directory = write_run(tmp_path, killed_burst())
    assert drawn(directory, suffix) == drawn(directory, suffix)


@pytest.mark.parametrize("summary", [SUMMARY, None], ids=["whole", "no summary"])
def test_an_empty_run_is_drawn(tmp_path: Path, summary: dict[str, Any] | None) -> None:
    assert drawn(write_run(tmp_path, summary=summary)).startswith(b"<?xml")


def test_hostile_names_are_text_in_the_picture_and_never_markup_or_mathematics(
    tmp_path: Path,
) -> None:
    hostile = "<script>--></svg>&$\\frac{$\x1b\u4e2d"
    directory = write_run(
        tmp_path, killed_burst(), summary=SUMMARY | {"scenario": hostile, "policy": "--" * 99}
    )
    root = ET.fromstring(drawn(directory))  # noqa: S314 - our own file; that it parses is the test
    assert root.tag.endswith("svg")
    assert not [node for node in root.iter() if "script" in str(node.tag)]
    assert drawing.plain_text(hostile) == "<script>--></svg>&$\\frac{$\\x1b\\u4e2d"


def test_a_picture_of_many_failures_and_lost_events_is_drawn_within_bounds(tmp_path: Path) -> None:
    events = [
        *(request(number * 0.5, "stalled", cause=number % 3) for number in range(10_000)),
        *(event(number * 1.0, REPORTER, "events-lost", events=1) for number in range(5_000)),
    ]
    assert len(drawn(write_run(tmp_path, events))) < 4_000_000


# ---- the command line ----


def called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["pagesoak", *map(str, arguments)])
    try:
        code = main()
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


Call = tuple[pytest.MonkeyPatch, pytest.CaptureFixture[str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return monkeypatch, capsys


def test_without_an_output_both_pictures_go_into_the_runs_directory(
    tmp_path: Path, call: Call
) -> None:
    directory = write_run(tmp_path, killed_burst())
    code, out, _ = called(*call, "timeline", "latest", "--results", tmp_path)
    assert code == 0
    assert out.split() == [str(directory / f"timeline.{kind}") for kind in ("png", "svg")]
    assert all(Path(path).stat().st_size for path in out.split())


def test_json_is_one_object_on_the_last_line(tmp_path: Path, call: Call) -> None:
    directory = write_run(tmp_path, killed_burst())
    picture_file = tmp_path / "a.svg"
    _, out, _ = called(
        *call, "timeline", directory, "-o", picture_file, "--from", "3s", "--to", "3.2s", "--json"
    )
    (line,) = out.splitlines()
    found = json.loads(line)
    assert (found["files"], found["from_seconds"], found["to_seconds"], found["windows"]) == (
        [str(picture_file)], 3.0, 3.2, 1,
    )  # fmt: skip
    _, out, _ = called(*call, "explain", directory, "--json")
    assert json.loads(out)["failure"]["cause"] == "isolated"
    assert "failures" not in json.loads(out)


BAD = {
    "no such run": (["explain", "nothing"], "nothing: no such run"),
    "no such failure": (["explain", "latest", "--failure", "7"], "--failure: no failure 7"),
    "failure 0": (["timeline", "latest", "--failure", "0"], "--failure: no failure 0"),
    "another picture": (["timeline", "latest", "-o", "a.pdf"], "must end in .png or .svg"),
    "no folder": (["timeline", "latest", "-o", "no/a.png"], "--output: cannot be written"),
    "no time": (["timeline", "latest", "--from", "soon"], "--from: 'soon' is not a duration"),
    "no interval": (["timeline", "latest", "--from", "9s", "--to", "7s"], "nothing lies between"),
    "after the end": (["timeline", "latest", "--from", "1h"], "--from: nothing lies between"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_message_and_exit_code_2(tmp_path: Path, call: Call, case: str) -> None:
    write_run(tmp_path, killed_burst())
    call[0].chdir(tmp_path)
    arguments, words = BAD[case]
    code, out, err = called(*call, *arguments, "--results", str(tmp_path))
    assert (code, out) == (2, "")
    (message,) = err.splitlines()
    assert message.startswith("pagesoak: ")
    assert words in message
