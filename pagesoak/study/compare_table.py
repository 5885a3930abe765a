"""The table of a comparison: a row for each figure, a column for each variant; and a row for each
figure that is compared seed by seed. The same cells for a terminal and for a page.

Rows in which no variant has anything to say are left out.
"""

from collections.abc import Callable
from typing import NamedTuple

from pagesoak.base.units import MIB, NS_PER_MS, NS_PER_SECOND, PAGE_SHIFT, format_duration
from pagesoak.study.compare import Comparison, FoundDifference
from pagesoak.study.compare_figures import quantile_ns
from pagesoak.study.compare_totals import Totals
from pagesoak.study.compare_words import (
    mebibytes,
    pages_as_mebibytes,
    percent,
    rate_interval,
    short,
)

NOTHING = "-"
"""Where a variant has no run, or a figure no value."""
SCALES: dict[str, tuple[int, str]] = {
    "ns": (NS_PER_MS, " ms"),
    "bytes": (MIB, " MiB"),
    "pages": (1, " pages"),
}
"""By unit of a figure: what is divided by, and what stands behind it."""
AS_MEBIBYTES = {"reported_pages", "reported_at_end_pages"}
"""Figures in pages that are amounts of memory rather than distances."""


class Row(NamedTuple):
    """A title, and a cell for each column."""

    title: str
    cells: tuple[str, ...]


class _Line(NamedTuple):
    title: str
    shown: Callable[[Totals], str]
    worth: Callable[[Totals], object] = lambda _totals: True
    """Whether there is anything to say."""


def _causes(counts: dict[str, int]) -> str:
    return " / ".join(f"{count:,}" for count in counts.values())


def _runs(totals: Totals) -> str:
    broken = f" ({totals.runs_failed} broke a limit)" if totals.runs_failed else ""
    return f"{totals.runs}{broken}"


def _bursts(totals: Totals) -> str:
    return f"{totals.bursts_run:,}, {totals.bursts_killed:,} killed"


def _share(totals: Totals) -> str:
    rate = totals.isolated_kills_per_burst
    if rate is None or not rate.value:
        return NOTHING
    between = rate_interval(rate, percent)
    return f"{percent(rate.value)} %{f' ({between})' if between else ''}"


def _hourly(totals: Totals) -> str:
    rate = totals.isolated_kills_per_hour
    between = rate_interval(rate, short)
    return f"{short(rate.value)}{f' ({between})' if between else ''}"


def _margins(totals: Totals) -> str:
    return ", ".join(f"{pages:+,}" for pages in totals.margins_pages_min.values())


def _with_mib(pages: int) -> str:
    return f"{pages:,} pages ({pages_as_mebibytes(pages)})"


def milliseconds(nanoseconds: int) -> str:
    """`535.2`."""
    return f"{nanoseconds / NS_PER_MS:,.1f}"


def _windows(totals: Totals) -> str:
    windows = totals.windows_ns
    parts = (quantile_ns(windows, 50), quantile_ns(windows, 99), max(windows, default=0))
    return ", ".join(map(milliseconds, parts)) if windows else NOTHING


def _open(totals: Totals) -> str:
    return f"{percent(sum(totals.windows_ns) / NS_PER_SECOND / totals.soak_seconds)} %"


def _reported(totals: Totals) -> str:
    return pages_as_mebibytes(totals.per_run(totals.reported_pages))


def _oom_waits(totals: Totals) -> str:
    return f"{totals.oom_waits:,}, {short(totals.oom_waits_ns / NS_PER_SECOND)} s"


LINES = (
    _Line("runs", _runs),
    _Line("bursts", _bursts, lambda t: t.bursts_run),
    _Line("killed for isolated pages", _share, lambda t: _share(t) != NOTHING),
    _Line("OOM kills by cause*", lambda t: _causes(t.oom_events)),
    _Line("isolated kills an hour", _hourly, lambda t: t.oom_events["isolated"]),
    _Line(
        "failures by cause*",
        lambda t: _causes(t.alloc_failures),
        lambda t: any(t.alloc_failures.values()),
    ),
    _Line("stalls", lambda t: f"{t.stalls:,}", lambda t: t.stalls),
    _Line("closest to min, low, high, pages", _margins),
    _Line("lowest free", lambda t: _with_mib(t.free_pages_min)),
    _Line("most isolated", lambda t: _with_mib(t.isolated_pages_max)),
    _Line("windows", lambda t: f"{len(t.windows_ns):,}", lambda t: t.windows_ns),
    _Line("  median, 99 %, longest, ms", _windows, lambda t: t.windows_ns),
    _Line("  share of the time", _open, lambda t: t.windows_ns),
    _Line("passes", lambda t: f"{t.passes:,}", lambda t: t.passes),
    _Line("report calls", lambda t: f"{t.report_calls:,}", lambda t: t.report_calls),
    _Line("reported a run", _reported, lambda t: t.reported_pages),
    _Line(
        "given back a run",
        lambda t: mebibytes(t.per_run(t.punched_bytes)),
        lambda t: t.reported_pages,
    ),
    _Line(
        "Reported at the end",
        lambda t: mebibytes(t.per_run(t.reported_at_end_pages << PAGE_SHIFT)),
        lambda t: t.reported_pages,
    ),
    _Line("reporter's waits", lambda t: f"{t.reporter_waits:,}", lambda t: t.reporter_waits),
    _Line("waits before a kill", _oom_waits, lambda t: t.oom_waits),
)


def title(comparison: Comparison) -> str:
    """What was compared: `seed-512m, 3 variants, 8 seeds (1 to 8), 1m each, virtual`."""
    plan = comparison.plan
    seeds = plan.seeds
    numbers = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    mode = "virtual" if plan.virtual else "live"
    each = format_duration(plan.scenario.duration_ns)
    return f"{plan.scenario.name}, {len(plan.variants)} variants, {numbers}, {each} each, {mode}"


FOOTNOTE = "* isolated / fragmented / exhausted"
PAIRED = (
    "as it is, the others less {base}, seed by seed, with the 95 % interval of the mean; "
    "* can be told from chance"
)
"""What stands above the table of differences, behind the baseline's name."""


def figure_rows(comparison: Comparison) -> list[Row]:
    """The table of totals, its head first."""
    present = [totals for totals in comparison.totals if totals is not None]
    rows = [Row("", tuple(comparison.labels))]
    for line in LINES:
        if any(line.worth(totals) for totals in present):
            cells = (
                NOTHING if totals is None else line.shown(totals) for totals in comparison.totals
            )
            rows.append(Row(line.title, tuple(cells)))
    return rows


def difference_rows(comparison: Comparison) -> list[Row]:
    """The table of differences a run, its head first; a star stands where one could be told."""
    others = [n for n in range(len(comparison.labels)) if n != comparison.plan.baseline]
    base = comparison.labels[comparison.plan.baseline]
    rows = [Row("", (base, *(comparison.labels[number] for number in others)))]
    keys = list(dict.fromkeys(one.figure.key for one in comparison.differences))
    for key in keys:
        found = [comparison.of(number, key) for number in others]
        known = [one for one in found if one is not None]
        if any(one.baseline_mean or one.difference.mean for one in known):
            first = known[0]
            cells = (NOTHING if one is None else difference_cell(one) for one in found)
            rows.append(Row(first.figure.title, (_mean_cell(first), *cells)))
    return rows if len(rows) > 1 else []


def difference_cell(found: FoundDifference) -> str:
    """`-4.6 (-6.0 to -3.1) *`."""
    divisor, unit = _scale(found)
    differs = found.difference
    mean = _plus(short(differs.mean / divisor))
    if differs.interval is None:
        return f"{mean}{unit}"
    low, high = (_plus(short(end / divisor)) for end in differs.interval)
    return f"{mean}{unit} ({low} to {high}){' *' if differs.told else ''}"


def _scale(found: FoundDifference) -> tuple[int, str]:
    if found.figure.key in AS_MEBIBYTES:
        return MIB >> PAGE_SHIFT, " MiB"
    return SCALES.get(found.figure.unit, (1, ""))


def _mean_cell(found: FoundDifference) -> str:
    divisor, unit = _scale(found)
    return f"{short(found.baseline_mean / divisor)}{unit}"


def _plus(text: str) -> str:
    """`+3`, `-3`, `0`."""
    if text in ("0", "-0", "0.0", "-0.0"):
        return "0"
    return text if text.startswith("-") else f"+{text}"
