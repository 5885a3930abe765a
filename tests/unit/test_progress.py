"""The progress view: what it says at each width, and where it keeps quiet."""

import io
import os
import pty
import subprocess
import sys
import threading

import pytest
from rich.console import Console

from pagesoak.engine.progress import CauseCounts, Progress, RunSample, ZoneSample, render

SAMPLE = RunSample(
    title="recorded-w2, mainline",
    elapsed_seconds=83.4,
    total_seconds=600.0,
    zones=(
        ZoneSample("DMA", 3_840, 3_400, 3_300, 87, 108),
        ZoneSample("DMA32", 118_000, 1_210, 310, 1_320, 1_650),
    ),
    isolated_pages=31_744,
    isolated_pages_max=32_768,
    report_calls=41,
    reported_pages=1_280_000,
    punched_bytes=2_097_152_000,
    alloc_requests=5_123_456,
    alloc_requests_per_second=61_234.7,
    alloc_failures=CauseCounts(isolated=3, exhausted=1),
    fallbacks=12,
    oom_events=CauseCounts(isolated=2),
    reporter_state="active",
)


def shown(sample: RunSample, width: int) -> str:
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(render(sample))
    return console.export_text()


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [200, 80, 72, 71, 40])
def test_every_figure_is_there_at_every_sensible_width(width: int) -> None:
    text = shown(SAMPLE, width)
    assert all(len(line) <= width for line in text.splitlines())
    flat = words(text)
    for piece in (
        "recorded-w2, mainline 1:23 / 10:00",
        "DMA 3,400 +3,313 +3,292",
        "DMA32 1,210 -110 -440",
        "reporter active",
        "isolated pages 31,744 (max 32,768)",
        "report calls 41",
        "reported 5,000 MiB",
        "punched 2,000 MiB",
        "requests 5,123,456 (61,235/s)",
        "failures 3 isolated, 1 exhausted",
        "OOM events 2 isolated",
        "fallbacks 12",
    ):
        assert piece in flat, piece


def test_a_wide_console_has_the_lowest_free_counts_and_the_halves_side_by_side() -> None:
    wide, narrow = shown(SAMPLE, 80), shown(SAMPLE, 60)
    assert "lowest free" in wide
    assert "DMA32 1,210 -110 -440 310" in words(wide)
    assert "lowest free" not in narrow
    assert len(wide.splitlines()) < len(narrow.splitlines())
    assert any("reporter" in line and "requests" in line for line in wide.splitlines())


def test_the_bar_has_a_line_of_its_own_and_never_overflows() -> None:
    late = SAMPLE._replace(elapsed_seconds=5_000.0)
    headline, bar, zones, *_ = shown(late, 80).splitlines()
    assert headline.endswith("1:23:20 / 10:00")
    assert set(bar.strip()) == {"\N{BOX DRAWINGS HEAVY HORIZONTAL}"}
    assert zones.split()[0] == "zone"


def test_a_run_without_an_end_has_no_bar() -> None:
    headline, zones, *_ = shown(SAMPLE._replace(total_seconds=None), 80).splitlines()
    assert headline.endswith("  1:23")
    assert zones.split()[0] == "zone"


def test_nothing_failed_is_a_plain_nought() -> None:
    calm = SAMPLE._replace(alloc_failures=CauseCounts(), oom_events=CauseCounts())
    flat = words(shown(calm, 60))
    assert "failures 0" in flat
    assert "OOM events 0" in flat


def test_names_are_text_and_no_markup() -> None:
    zone = SAMPLE.zones[0]._replace(name="[red]Z")
    text = shown(SAMPLE._replace(title="[bold]x[/]", zones=(zone,)), 80)
    assert "[bold]x[/]" in text
    assert "[red]Z" in text


def test_a_terminal_is_drawn_without_a_thread_and_left_tidy() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, _environ={"TERM": "xterm"})
    threads = threading.active_count()
    streams = (sys.stdout, sys.stderr)
    with Progress(console) as progress:
        progress.update(SAMPLE)
        progress.note("warning: worker ended")
        progress.update(SAMPLE._replace(report_calls=42))
        assert threading.active_count() == threads
        assert (sys.stdout, sys.stderr) == streams
    text = out.getvalue()
    assert text.index("warning: worker ended") < text.index("42")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor came back
    assert text.rstrip("\r").endswith("\x1b[2K")  # and the last view went
    progress.stop()  # a second time is harmless
    progress.update(SAMPLE)
    assert out.getvalue() == text


def test_no_color_is_respected() -> None:
    def drawn(environment: dict[str, str]) -> str:
        out = io.StringIO()
        console = Console(file=out, force_terminal=True, width=80, _environ=environment)
        with Progress(console) as progress:
            progress.update(SAMPLE)
        return out.getvalue()

    red = "\x1b[31m"
    assert red in drawn({"TERM": "xterm"})
    assert red not in drawn({"TERM": "xterm", "NO_COLOR": "1"})


def test_a_file_and_a_dumb_terminal_get_nothing() -> None:
    for options in ({}, {"force_terminal": True, "_environ": {"TERM": "dumb"}}):
        out = io.StringIO()
        with Progress(Console(file=out, **options)) as progress:  # type: ignore[arg-type]
            progress.update(SAMPLE)
        assert out.getvalue() == ""


def test_a_terminal_that_goes_away_ends_the_view_and_nothing_else() -> None:
    class Gone(io.StringIO):
        gone = False

        def write(self, text: str) -> int:
            if self.gone:
                raise OSError(5, "Input/output error")
            return super().write(text)

    out = Gone()
    progress = Progress(
        Console(file=out, force_terminal=True, width=80, _environ={"TERM": "xterm"})
    )
    progress.start()
    progress.update(SAMPLE)
    out.gone = True
    progress.update(SAMPLE)
    progress.note("nobody sees this")
    progress.stop()


PROGRAM = """
from pagesoak.engine.progress import Progress
from tests.unit.test_progress import SAMPLE
with Progress() as progress:
    progress.update(SAMPLE)
"""


def test_a_pipe_gets_nothing_even_if_colours_are_forced() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        check=True,
        env={**os.environ, "FORCE_COLOR": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (b"", b"")


def test_a_real_terminal_gets_the_view_on_standard_error_alone() -> None:
    master, slave = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            stdout=subprocess.PIPE,
            stderr=slave,
            check=True,
            env={**os.environ, "TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=60,
        )
        seen = os.read(master, 65_536)
    finally:
        os.close(slave)
        os.close(master)
    assert done.stdout == b""
    assert b"report calls" in seen


def test_a_process_without_standard_error_still_runs() -> None:
    program = f"import sys; sys.stderr = None\n{PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
    )
    assert done.stdout == b""
