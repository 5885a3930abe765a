"""Reading OOM tables and their bursts: what is read, and what is named as wrong, with its line."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from pagesoak.base.errors import InputError
from pagesoak.study.oom_bursts import (
    RecordedBurst,
    check_counts,
    find_bursts,
    give_back_ns,
    read_bursts,
    requests_of,
    touch_page_ns,
)
from pagesoak.study.oom_table import OomRun, OomTable, read_oom_table

OOM = Path("tests/recordings/oom")
HEADER = (
    "table,boot,run,window,free_mib,burst_mib,hold_ms,gap_ms,secs,seed,thp,jitter,bursts_done,"
    "oom_kills,oom_kill_vmstat,allocstall_dma32,allocstall_movable,report_calls,mean_call_ms"
)
LINE = "X,b1,r0,100,150,100,150,1200,60,1,0,0,39,2,2,0,34,15,107.989"
MS = 1_000_000


def read(tmp_path: Path, *lines: str, header: str = HEADER) -> OomTable:
    """A table of these lines."""
    path = tmp_path / "per_run.csv"
    path.write_text("\n".join((header, *lines)) + "\n")
    return read_oom_table(path)


def test_the_open_tables_are_read() -> None:
    table = read_oom_table(OOM / "per_run.csv")
    assert table.faults == ()
    assert [sum(run.table == name for run in table.runs) for name in "ACR"] == [30, 16, 4]
    assert sum(run.kills for run in table.runs if run.table == "A") == 43
    assert {run.window_ms for run in table.runs if run.window == "off"} == {None}
    assert not any(run.is_stand_in for run in table.runs if run.table == "R")


def test_a_line(tmp_path: Path) -> None:
    (run,) = read(tmp_path, LINE.replace(",100,150,100,", ",100,150.5,100,")).runs
    assert run.window_ms == 100
    assert (run.bursts, run.kills, run.stalls, run.calls) == (41, 2, 34, 15)
    told = run.conditions
    assert (told.free_pages, told.burst_pages, told.jitter_percent) == (38528, 25600, 0)
    assert (told.hold_ns, told.gap_ns, told.run_ns) == (150 * MS, 1200 * MS, 60_000 * MS)
    assert not told.thp
    assert run.line == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",39,2,2,", ",39,2,", "expected 19 fields, found 18"),
        ("X,b1,", "X,,", "boot is empty"),
        (",150,1200,", ",150,1200ms,", "gap_ms is no number: '1200ms'"),
        (",150,1200,", ",150,-3,", "gap_ms is no number"),
        (",100,150,1200,", ",0,150,1200,", "burst_mib is 0"),
        (",60,1,", ",0,1,", "secs is 0"),
        (",1,0,0,39", ",1,2,0,39", "thp is 2, at most 1"),
        (",1,0,0,39", ",1,0,150,39", "jitter is 150, at most 100"),
        (",39,2,2,", ",39,2,3,", "oom_kills is 2, oom_kill_vmstat 3"),
        ("r0,100,", "r0,99999999,", "window is 99999999, at most 3600000"),
    ],
)
def test_a_line_that_cannot_be_right_is_left_out(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    good = LINE.replace("r0", "r1")
    table = read(tmp_path, LINE.replace(old, new, 1), good)
    assert [run.line for run in table.runs] == [3]
    (fault,) = table.faults
    assert fault.place.endswith("per_run.csv:2")
    assert message in fault.message


def test_the_same_run_twice(tmp_path: Path) -> None:
    table = read(tmp_path, LINE, LINE)
    assert len(table.runs) == 1
    assert table.faults[0].message == "run r0 of boot b1 stands in line 2 too"


def test_a_table_that_is_cut_off_keeps_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "per_run.csv"
    path.write_text(f"{HEADER}\n{LINE}\n{LINE[:20]}")
    table = read_oom_table(path)
    assert len(table.runs) == 1
    assert "cut off" in table.faults[0].message


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.replace("gap_ms", "gap_s"), "no column gap_ms"),
        (HEADER.replace(",thp", "").replace(",jitter", ""), "no column thp, jitter"),
        (HEADER + ",seed", "a column stands there twice"),
    ],
    ids=["unit", "two", "twice"],
)
def test_a_header_that_cannot_be_right(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        read(tmp_path, LINE, header=header)
    assert refused.value.line == 1


def test_an_empty_table(tmp_path: Path) -> None:
    path = tmp_path / "per_run.csv"
    path.write_text("")
    with pytest.raises(InputError, match="is empty"):
        read_oom_table(path)


# -- bursts ---------------------------------------------------------------------------------------


def first_run() -> OomRun:
    """The first run of the open tables."""
    return read_oom_table(OOM / "per_run.csv").runs[0]


def test_the_bursts_of_a_run() -> None:
    run = first_run()
    path = find_bursts(OOM, run)
    assert path is not None
    bursts = read_bursts(path)
    check_counts(run, bursts, path)
    assert bursts[0] == RecordedBurst(3328960189, 25600, 35369, 87810255, killed=False)
    assert touch_page_ns([bursts]) == 3427
    with pytest.raises(InputError, match=r"47 bursts, 7 killed; per_run.csv says 47, 6"):
        check_counts(run._replace(kills=6), bursts, path)


def burst(began_ms: int, *, killed: bool = False, touch_ms: int = 50) -> RecordedBurst:
    """A burst of 100 pages."""
    return RecordedBurst(began_ms * MS, 100, 0, touch_ms * MS, killed)


BURSTS: Sequence[RecordedBurst] = (burst(100), burst(330), burst(1000, killed=True), burst(1060))


def test_times_are_read_from_bursts_that_were_not_killed() -> None:
    killed = [burst(0, killed=True, touch_ms=9)]
    assert touch_page_ns([list(BURSTS), killed]) == 500_000
    assert touch_page_ns([killed]) is None
    assert give_back_ns([list(BURSTS)], 150 * MS, 0) == 30 * MS
    assert give_back_ns([list(BURSTS)], 150 * MS, 20 * MS) == 20 * MS
    assert give_back_ns([list(BURSTS)], 150 * MS, 900 * MS) == 0
    assert give_back_ns([killed], 150 * MS, 0) == 0


def test_requests_are_pauses_and_sizes() -> None:
    requests = requests_of(list(BURSTS), 150 * MS, 30 * MS, 7 * MS)
    assert requests.pauses_ns == (7 * MS, 0, 440 * MS, 10 * MS)
    assert requests.sizes_pages == (100,) * 4


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("event,t_ns,mib,free_pages_at_begin\n", 1, "no column touch_ns"),
        ("event,t_ns,mib,free_pages_at_begin,touch_ns\ndone,1,2,3\n", 2, "expected 5 fields"),
        ("event,t_ns,mib,free_pages_at_begin,touch_ns\ngone,1,2,3,4\n", 2, "unknown event 'gone'"),
        ("event,t_ns,mib,free_pages_at_begin,touch_ns\ndone,1,x,3,4\n", 2, "mib is no number"),
        ("event,t_ns,mib,free_pages_at_begin,touch_ns\ndone,-1,2,3,4\n", 2, "t_ns"),
        (
            "event,t_ns,mib,free_pages_at_begin,touch_ns\ndone,9,1,3,4\ndone,10,1,3,4\n",
            3,
            "begins before the last one was touched",
        ),
    ],
    ids=["column", "fields", "event", "mib", "time", "order"],
)
def test_bursts_that_cannot_be_right(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "X_w1_s1.burst.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as refused:
        read_bursts(path)
    assert refused.value.line == line
