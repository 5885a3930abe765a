"""What else a recorded OOM table shows beside the count of kills, and what the model says of it.

Checks of the model that nothing was made to meet: how many bursts and report calls a run had, how
much a call isolated and how long it lasted, and how few pages were free when the killer came.
"""

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from pagesoak.base.units import NS_PER_MS
from pagesoak.study.oom_boots import SimulatedRun
from pagesoak.study.oom_prediction import Row
from pagesoak.study.recording_meta import small_lines

DIGITS = 3
"""Of a figure that is no whole number."""

Figure = int | float | None
"""None where nothing was counted."""

_FREE_AT_KILL = re.compile(r"(?:\[ *[0-9.]+\] )? *free:([0-9]+) free_pcp:[0-9]+ free_cma:[0-9]+")


class Beside(NamedTuple):
    """One figure of a row: what was recorded, and what is expected."""

    figure: str
    recorded: Figure
    expected: Figure

    def as_json(self, row: Row) -> dict[str, Any]:
        """The figure of a row as a JSON object."""
        return {"table": row.table, "window_ms": row.window_ms, **self._asdict()}


def free_pages_at_kills(path: Path) -> list[int]:
    """Free pages at each kill, as the kernel's log tells them. Raises InputError."""
    lines = (_FREE_AT_KILL.fullmatch(said.text) for said in small_lines(path))
    return [int(match[1]) for match in lines if match]


def figures_beside(
    row: Row, simulated: Sequence[SimulatedRun], recorded_depths: Sequence[int]
) -> list[Beside]:
    """The figures of a row that has them, recorded or expected."""
    calls = [call for run in simulated for call in run.calls]
    depths = [
        burst.free_pages_touched for run in simulated for burst in run.bursts if burst.killed
    ]
    recorded_calls = [run.calls for run in row.runs if run.calls is not None]
    pages = [run.reported_pages for run in row.runs if run.reported_pages is not None]
    found = [
        Beside(
            "bursts per run",
            mean(Fraction(run.bursts) for run in row.runs),
            mean(Fraction(len(run.bursts)) for run in simulated),
        ),
        Beside(
            "report calls per run",
            mean(map(Fraction, recorded_calls)),
            mean(Fraction(len(run.calls)) for run in simulated),
        ),
        Beside(
            "pages per call",
            ratio(sum(pages), sum(recorded_calls)),
            mean(Fraction(call.pages) for call in calls),
        ),
        Beside(
            "length of a call, ms",
            mean(Fraction(run.call_ms) for run in row.runs if run.call_ms and run.calls),
            mean(Fraction(call.ended_ns - call.began_ns, NS_PER_MS) for call in calls),
        ),
        Beside("fewest free pages at a kill", _least(recorded_depths), _least(depths)),
        Beside("most free pages at a kill", _most(recorded_depths), _most(depths)),
    ]
    return [beside for beside in found if beside.recorded or beside.expected]


def rounded(value: Fraction) -> int | float:
    """A figure for people: whole where it is."""
    return value.numerator if value.denominator == 1 else round(float(value), DIGITS)


def ratio(total: int, number: int) -> Figure:
    """So much for each; None of nothing."""
    return rounded(Fraction(total, number)) if number else None


def mean(values: Iterable[Fraction]) -> Figure:
    """The mean; None of nothing."""
    known = list(values)
    return rounded(sum(known, Fraction()) / len(known)) if known else None


def _least(values: Sequence[int]) -> int | None:
    return min(values, default=None)


def _most(values: Sequence[int]) -> int | None:
    return max(values, default=None)
