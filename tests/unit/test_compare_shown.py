"""What a comparison says and shows: sentences, tables, plots, the page, the picture."""

import base64
import hashlib
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from pagesoak.cli.compare_text import octaves, table_lines, text_lines
from pagesoak.study.compare import Comparison
from pagesoak.study.compare_figures import Run
from pagesoak.study.compare_page import page_text
from pagesoak.study.compare_picture import whole_picture
from pagesoak.study.compare_plan import make_plan
from pagesoak.study.compare_table import Row, difference_rows, figure_rows
from pagesoak.study.compare_totals import totals_of
from pagesoak.study.compare_words import mebibytes, percent, sentences, short
from pagesoak.study.drawing import picture_bytes
from tests.compare_helper import SCENARIO, comparison, run, scenario

MIB = 1 << 20
KILLS = (5, 4, 6, 3, 5, 4, 6, 5)


def runs(kills: Sequence[int], *, mib: int = 0, margin: int = 100) -> list[Run]:
    return [
        run(seed, isolated=count, punched_bytes=mib * MIB, margin=margin)
        for seed, count in enumerate(kills, 1)
    ]


def two(off: Sequence[int] = (0,) * 8, mainline: Sequence[int] = KILLS) -> Comparison:
    return comparison("off,mainline", runs(off, margin=8000), runs(mainline, mib=1000, margin=-26))


def found(of: Comparison) -> str:
    return "\n".join(sentences(of))


# ---- sentences ----


def test_who_was_killed_comes_first_with_its_interval() -> None:
    first, second, *_ = sentences(two())
    assert re.fullmatch(
        r"Under off none of 320 bursts was killed because pages were isolated; "
        r"under mainline 38 of 320 \(11\.9 %, 95 % interval \d+\.\d to \d+\.\d %\)\.",
        first,
    )
    assert re.fullmatch(
        r"off: 4\.8 fewer kills because of isolated pages a run than mainline "
        r"\(95 % interval 3\.\d to 5\.\d; fewer in 8 of 8 seeds\)\.",
        second,
    )


def test_a_difference_that_may_be_chance_is_not_claimed() -> None:
    made = comparison("mainline,halving", runs(KILLS), runs((4, 5, 5, 4, 6, 3, 7, 5)))
    assert "halving: no difference to mainline in kills could be told with 8 seeds" in found(made)
    assert "fewer" not in found(made)


def test_none_on_both_sides_says_how_much_may_have_been_missed() -> None:
    nobody = two(mainline=(0,) * 8)
    assert "off: no kill, and none under mainline. Up to 31.2 % of such runs may have" in found(
        nobody
    )


def test_too_few_seeds_are_said_and_no_interval_is_shown() -> None:
    few = two((0, 0), (5, 6))
    assert "off: -5.5 kills a run beside mainline, in 2 seeds: too few" in found(few)
    assert "2 seeds: too few for any interval; at least 6 are needed" in found(few)
    assert "95 %" not in found(few)


def test_more_kills_are_more() -> None:
    worse = comparison("mainline,reserve", runs((0,) * 8), runs(KILLS))
    assert re.search(r"reserve: 4\.8 more kills .* than mainline .*; more in 8 of 8", found(worse))


def test_other_causes_are_named_and_no_share_of_bursts_is_made_of_them() -> None:
    others = [run(seed, isolated=1, exhausted=2, killed=1) for seed in range(1, 9)]
    made = comparison("off,mainline", runs((0,) * 8), others)
    text = found(made)
    assert "under mainline 8 OOM kills in 8m (60 an hour, 95 % interval 60 to 60)" in text
    assert "Under mainline 16 kills had another cause: 0 fragmented, 16 exhausted." in text


def test_how_close_and_what_was_given_back() -> None:
    text = found(two())
    assert "off 8,000 pages above it; mainline 26 pages below it." in text
    assert "mainline gave back 1,000 MiB a run; off nothing." in text
    more = comparison("mainline,reserve", runs(KILLS, mib=1000), runs(KILLS, mib=1250))
    assert "reserve 250 MiB (25.0 %) more (95 % interval 250 to 250 MiB)" in found(more)


def test_waits_are_said() -> None:
    waiting = [run(seed, reporter_waits=12, oom_waits=2) for seed in range(1, 9)]
    text = found(comparison("off,mainline", waiting, runs(KILLS)))
    assert "Under off reporting left a zone alone, waiting, 12 times a run." in text
    assert "instead of killing, 2 times a run, 0.5 s together." in text


def test_an_interrupted_comparison_says_so() -> None:
    half = comparison("off,mainline", runs((0,) * 8), runs(KILLS[:7]), interrupted=True)
    assert "Interrupted: 15 of 16 runs were made." in found(half)


def test_only_seeds_that_both_have_are_compared() -> None:
    without_the_first = runs(KILLS)[1:]
    made = comparison("off,mainline", runs((9, *[0] * 7)), without_the_first)
    kills = made.of(0, "oom_isolated")
    assert kills is not None
    assert (kills.difference.seeds, kills.difference.lower) == (7, 7)
    assert kills.difference.mean == Fraction(-sum(KILLS[1:]), 7)


def test_windows_that_events_do_not_show_are_said() -> None:
    def lossy(windows: int) -> str:
        made = [run(seed, windows_ns=(5, 5), windows=windows) for seed in range(1, 9)]
        return found(comparison("off,mainline", runs((0,) * 8), made))

    assert "Under mainline events were lost: 16 windows without a length" in lossy(4)
    assert "lost" not in lossy(3)  # one may close while the run is being ended


def test_a_run_without_a_burst_leaves_the_share_without_an_interval() -> None:
    few = [run(seed, isolated=1, bursts=10) for seed in range(1, 8)]
    few.append(run(8, bursts=0))
    text = found(comparison("off,mainline", runs((0,) * 8), few))
    assert "under mainline 7 of 70 (10.0 %)" in text


def test_lengths_have_three_digits() -> None:
    long = [run(seed, windows_ns=(2**31,), windows=1) for seed in range(1, 9)]
    lines = text_lines(comparison("off,mainline", runs((0,) * 8), long), None)
    assert "windows by length, a column for each doubling from 2,147 to 4,295 ms:" in lines


def test_live_runs_are_said_to_differ_by_themselves() -> None:
    plan = make_plan(scenario(), "off,mainline", seeds=8)
    live = Comparison(plan, (tuple(runs((0,) * 8)), tuple(runs(KILLS))), False)
    assert "part of each difference is the machine's" in found(live)
    assert "the machine's" not in found(two())


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (short(4.75), "4.8"),
        (short(4.0), "4"),
        (short(1234.5), "1,234"),
        (percent(0.1188), "11.9"),
        (percent(0.0042), "0.42"),
        (percent(0), "0.0"),
        (mebibytes(1.5 * MIB), "1.5 MiB"),
    ],
)
def test_numbers_as_people_read_them(shown: str, text: str) -> None:
    assert shown == text


# ---- totals ----


def test_totals_are_sums_extremes_and_rates() -> None:
    totals = totals_of([run(1, isolated=2, margin=5), run(2, isolated=1, margin=-7)])
    assert totals is not None
    assert totals.oom_events == {"isolated": 3, "fragmented": 0, "exhausted": 0}
    assert totals.margins_pages_min == {"min": -7, "low": -17, "high": -27}
    assert totals.isolated_kills_per_hour.value == 90
    assert totals.isolated_kills_per_burst is not None
    assert totals.isolated_kills_per_burst.value == pytest.approx(3 / 80)
    assert (totals.runs_failed, totals.runs_with_isolated_kill) == (2, 2)
    assert totals_of([]) is None


# ---- tables and plots ----


def test_a_table_has_a_column_for_each_variant_and_no_empty_rows() -> None:
    head, *rows = figure_rows(two())
    assert head.cells == ("off", "mainline")
    titles = [row.title for row in rows]
    assert "bursts" in titles
    assert not {"reporter's waits", "waits before a kill", "windows", "failures by cause*"} & set(
        titles
    )
    cells = dict(zip(titles, (row.cells for row in rows), strict=True))
    assert cells["bursts"] == ("320, 0 killed", "320, 38 killed")
    assert cells["closest to min, low, high, pages"][1] == "-26, -36, -46"


def test_differences_mark_what_can_be_told() -> None:
    head, *rows = difference_rows(two())
    assert head.cells == ("mainline", "off")
    cells = {row.title: row.cells for row in rows}
    assert cells["kills, isolated"][0] == "4.8"
    assert re.fullmatch(r"-4\.8 \(-5\.\d to -3\.\d\) \*", cells["kills, isolated"][1])
    assert "bursts run" in cells
    assert cells["bursts run"] == ("40", "0 (0 to 0)")


def test_a_table_that_is_too_wide_goes_on_below() -> None:
    rows = [Row("", ("first + one=1", "second")), Row("a figure", ("1", "2"))]
    assert table_lines(rows, None) == [
        "          first    second",
        "          + one=1",
        "a figure  1        2",
    ]
    assert table_lines(rows, 20) == [
        "          first", "          + one=1", "a figure  1", "",
        "          second", "a figure  2",
    ]  # fmt: skip


def test_lines_fit_the_terminal() -> None:
    lines = text_lines(two(), 60)
    assert max(map(len, lines)) <= 60
    assert any("OOM kills an hour" in line for line in lines)


def test_window_lengths_are_counted_by_doublings() -> None:
    assert octaves([1, 2, 3, 4, 1023, 1024]) == {0: 1, 1: 2, 2: 1, 9: 1, 10: 1}


def test_a_comparison_without_a_run_has_words_only() -> None:
    nothing = comparison("off,mainline", (), (), interrupted=True)
    lines = text_lines(nothing, None)
    assert "Interrupted: 0 of 2 runs were made." in lines
    assert nothing.as_json()["variants"][0]["totals"] is None
    assert "No run was made" in page(nothing)


# ---- the page and the picture ----


def page(of: Comparison) -> str:
    document = {"started": "now", "directory": "here", "found": sentences(of)}
    return page_text(of, document, ["compare", "made.toml", "--policies", "a b"])


def kept(of: Comparison, folder: Path) -> Comparison:
    """The same with directories in which a run's identity stands."""
    names = ("pagesoak", "python", "numba", "kernel", "machine", "host_cpus")
    fields = ", ".join(f'"{name}": "{name} <b>"' for name in names)
    (folder / "run.json").write_text("{" + fields + "}")
    for of_one in of.runs:
        for one in of_one:
            one.summary["directory"] = str(folder)
    return of


def hostile(folder: Path) -> Comparison:
    """A scenario, a policy's file and a label that try to be more than text."""
    file = folder / "<img src=x onerror=alert(1)>$x_1$.py"
    file.write_text("from pagesoak.reporter.policies.mainline import Mainline as M\n")
    text = SCENARIO.replace('"a made one"', '"' + "<script>alert(1)</script> \\u001b[31m" + '"')
    plan = make_plan(scenario(text), f"off,{file}:M", seeds=8, virtual=True)
    return Comparison(plan, (tuple(runs((0,) * 8)), tuple(runs(KILLS))), False)


def test_the_page_asks_nobody_and_runs_nothing(tmp_path: Path) -> None:
    text = page(kept(two(), tmp_path))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert "<script" not in text
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "style=" not in re.sub(r"<meta[^>]*>|base64,[^\"]*", "", text)
    assert text.count("data:image/svg+xml;base64,") == 3
    assert "prefers-color-scheme: dark" in text


def test_the_page_says_what_was_found_and_how_to_do_it_again(tmp_path: Path) -> None:
    made = kept(two(), tmp_path)
    text = page(made)
    assert "under mainline 38 of 320 (11.9 %" in text
    assert "pagesoak compare made.toml --policies &#x27;a b&#x27;" in text
    assert "latency_per_call = &quot;100ms&quot;" in text
    assert "kernel of this machine kernel &lt;b&gt;" in text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    made = kept(hostile(tmp_path), tmp_path)
    text = page(made)
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "\x1b" not in text
    assert "\x1b" not in "\n".join(text_lines(made, None))
    assert picture_bytes(whole_picture(made), ".svg").startswith(b"<?xml")


def test_a_picture_is_the_same_bytes_each_time() -> None:
    made = comparison(
        "off,mainline,halving",
        runs((0,) * 8),
        [run(seed, windows_ns=(10**8, 10**9 * seed)) for seed in range(1, 9)],
        runs(KILLS),
    )
    first = picture_bytes(whole_picture(made), ".png")
    assert first.startswith(b"\x89PNG")
    assert picture_bytes(whole_picture(made), ".png") == first


def test_a_variant_without_a_run_is_left_out_of_the_picture() -> None:
    half = comparison("off,mainline", runs((0,) * 2), (), interrupted=True)
    assert len(whole_picture(half).axes) == 3
