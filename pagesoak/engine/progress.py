"""The view of a foreground run while it runs: a few lines on a terminal that keep changing.

`render` is a pure function of one sample. `Progress` shows it on standard error when that is a
terminal, and does nothing at all when it is not. It has no thread of its own (the runner forks
workers while it is shown, and a fork with a second thread is how children come to hang) and leaves
`sys.stdout` and `sys.stderr` as they are, so that a forked worker never draws. At the end it takes
itself away: the summary says all of it. NO_COLOR is respected by rich. A terminal that goes away
ends the view, not the run.
"""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pagesoak.base.units import MIB, PAGE_SIZE_BYTES
from pagesoak.engine.run_sample import CauseCounts, RunSample, ZoneSample

__all__ = ["CauseCounts", "Progress", "RunSample", "ZoneSample", "render"]

# Below this width the zones' lowest free counts are left out and the two halves of the figures
# stand one below the other; 80 columns, the usual terminal, have room for all.
WIDE_COLUMNS = 72
BAR_COLUMNS_MAX = 40


def render(sample: RunSample) -> RenderableType:
    """The view of one sample, for consoles of any width."""
    return _View(sample)


class _View:
    """Chooses the arrangement when the width is known."""

    def __init__(self, sample: RunSample) -> None:
        self._sample = sample

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        sample = self._sample
        wide = options.max_width >= WIDE_COLUMNS
        yield _headline(sample)
        if sample.total_seconds:
            done = min(sample.elapsed_seconds, sample.total_seconds)
            width = min(BAR_COLUMNS_MAX, options.max_width)
            bar = Table.grid()  # a bar alone does not end its line
            bar.add_row(ProgressBar(total=sample.total_seconds, completed=done, width=width))
            yield bar
        yield _zones(sample.zones, wide=wide)
        reporting, requests = _reporting(sample), _requests(sample)
        if not wide:
            yield Group(reporting, requests)
            return
        halves = Table.grid(padding=(0, 4))
        halves.add_row(reporting, requests)
        yield halves


def _clock(seconds: float) -> str:
    """`1:02:03`, or `2:03` within the first hour."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _grouped(number: float) -> str:
    return f"{round(number):,}"


def _headline(sample: RunSample) -> Text:
    total = "" if sample.total_seconds is None else f" / {_clock(sample.total_seconds)}"
    return Text.assemble((sample.title, "bold"), f"  {_clock(sample.elapsed_seconds)}{total}")


def _margin(pages: int) -> Text:
    return Text(f"{'+' if pages > 0 else ''}{_grouped(pages)}", "red" if pages < 0 else "green")


def _zones(zones: tuple[ZoneSample, ...], *, wide: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("zone", no_wrap=True)
    names = ["free", "above min", "above low", *(["lowest free"] if wide else [])]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for zone in zones:
        row: list[RenderableType] = [
            _grouped(zone.free_pages),
            _margin(zone.min_margin_pages),
            _margin(zone.low_margin_pages),
            _grouped(zone.free_pages_min),
        ]
        table.add_row(escape(zone.name), *row[: len(names)])
    return table


def _figures(rows: list[tuple[str, RenderableType]]) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def _reporting(sample: RunSample) -> Table:
    reported = sample.reported_pages * PAGE_SIZE_BYTES / MIB
    return _figures(
        [
            ("reporter", sample.reporter_state),
            (
                "isolated pages",
                f"{_grouped(sample.isolated_pages)} (max {_grouped(sample.isolated_pages_max)})",
            ),
            ("report calls", _grouped(sample.report_calls)),
            ("reported", f"{_grouped(reported)} MiB"),
            ("punched", f"{_grouped(sample.punched_bytes / MIB)} MiB"),
        ]
    )


def _requests(sample: RunSample) -> Table:
    rate = f"{_grouped(sample.alloc_requests_per_second)}/s"
    return _figures(
        [
            ("requests", f"{_grouped(sample.alloc_requests)} ({rate})"),
            ("failures", _causes(sample.alloc_failures)),
            ("OOM events", _causes(sample.oom_events)),
            ("fallbacks", _grouped(sample.fallbacks)),
        ]
    )


def _causes(counts: CauseCounts) -> Text:
    """`0`, or each cause that occurred: the isolated ones are what the soak is about."""
    if not any(counts):
        return Text("0")
    styles = {"isolated": "bold red", "fragmented": "yellow", "exhausted": "yellow"}
    named = [
        Text(f"{_grouped(count)} {cause}", styles[cause])
        for cause, count in counts._asdict().items()
        if count
    ]
    return Text(", ").join(named)


class Progress:
    """Shows samples on a terminal; on anything else every method does nothing."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = _standard_error() if console is None else console
        self._live: Live | None = None
        self._shown = self._console.is_terminal and not self._console.is_dumb_terminal

    def start(self) -> None:
        """Begin to show; nothing appears before the first `update`."""
        if self._shown and self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
                transient=True,
            )
            self._guarded(self._live.start)

    def update(self, sample: RunSample) -> None:
        """Show this sample in place of the one before."""
        live = self._live
        if live is not None:
            self._guarded(lambda: live.update(render(sample), refresh=True))

    def note(self, text: str) -> None:
        """A line for people: above the view while there is one, else just on the console."""
        self._guarded(lambda: self._console.print(Text(text), soft_wrap=True))

    def stop(self) -> None:
        """Take the view off the terminal and give the cursor back."""
        live, self._live = self._live, None
        if live is not None:
            self._guarded(live.stop)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def _guarded(self, act: Callable[[], object]) -> None:
        try:
            act()
        except (OSError, ValueError):  # the terminal is gone, or its file closed
            self._live = None
            self._shown = False


def _standard_error() -> Console:
    """A console on standard error that calls itself a terminal only if it is one.

    (rich alone would take FORCE_COLOR for a terminal.)
    """
    try:
        terminal = sys.stderr.isatty()
    except (AttributeError, ValueError):  # standard error is missing or closed
        terminal = False
    return Console(stderr=True, force_terminal=None if terminal else False)
