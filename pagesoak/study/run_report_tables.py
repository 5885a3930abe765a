"""The tables of a report, as titles and cells of text: the same for the page and for Markdown.

Made from the report's document, so that they hold nothing that its JSON does not.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pagesoak.base.units import NS_PER_SECOND
from pagesoak.study.run_report import IDENTITY
from pagesoak.study.story_words import PAGES_PER_MIB, pages_words, span


class Table(NamedTuple):
    """Titles of the columns (none: two columns that need none), and rows with their titles."""

    heading: str
    about: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def seconds(value: float) -> str:
    """A length of time in the unit that suits it."""
    return span(round(value * NS_PER_SECOND))


def at(value: float) -> str:
    """A time on the soak's clock."""
    return f"{value:,.3f} s"


def side_by_side(runs: Sequence[Mapping[str, Any]]) -> Table:
    """The figures of several runs, a column for each; what one does not have is empty."""
    titles: list[str] = []
    for run in runs:
        titles += [title for title, _ in run["figures"] if title not in titles]
    figures = [dict(run["figures"]) for run in runs]
    rows = [
        ("scenario", tuple(run["scenario"] for run in runs)),
        ("policy", tuple(run["policy"] for run in runs)),
        ("seed", tuple("" if run["seed"] is None else str(run["seed"]) for run in runs)),
        ("verdict", tuple(run["verdict"] or "did not end in order" for run in runs)),
        *((title, tuple(each.get(title, "") for each in figures)) for title in titles),
    ]
    return Table("Side by side", "", tuple(run["run"] for run in runs), tuple(rows))


def tables(run: Mapping[str, Any]) -> list[Table]:
    """All tables of a run after its stories; those that would be empty are left out."""
    found = [_classes(run), _longest(run), _watermarks(run), _orders(run), _environment(run)]
    return [table for table in found if table.rows]


def figures(run: Mapping[str, Any]) -> Table:
    """What, and how much."""
    rows = tuple((title, (value,)) for title, value in run["figures"])
    return Table("Figures", "", (), rows)


def failures(run: Mapping[str, Any]) -> Table:
    """How many requests ended how, and what kept the memory."""
    outcomes: Mapping[str, Mapping[str, int]] = run["failures_by_outcome"]
    causes = tuple(next(iter(outcomes.values()), {}))
    rows = tuple(
        (outcome, tuple(f"{by_cause[cause]:,}" for cause in causes))
        for outcome, by_cause in outcomes.items()
    )
    return Table("Requests that did not get what they asked for", "", causes, rows)


def _classes(run: Mapping[str, Any]) -> Table:
    windows = run["windows"]
    rows = tuple(
        (f"at most {seconds(each['seconds_at_most'])}", (f"{each['windows']:,}",))
        for each in windows["classes"]
    )
    about = f"{windows['total']:,} in all, from the first isolation until the pages are back."
    return Table("Lengths of the windows", about, ("windows",), rows)


def _longest(run: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            at(each["opened_seconds"]),
            (
                seconds(each["window_seconds"]),
                pages_words(each["pages"]),
                "" if each["request"] is None else f"{each['request']:,}",
            ),
        )
        for each in run["windows"]["longest"]
    )
    return Table("The longest windows", "", ("length", "isolated", "request"), rows)


def _watermarks(run: Mapping[str, Any]) -> Table:
    names = ("managed_pages", "min_pages", "low_pages", "high_pages")
    rows = tuple(
        (each["zone"], tuple(f"{each[name]:,} ({_mib(each[name])})" for name in names))
        for each in run["watermarks"]
    )
    head = ("managed pages", "min", "low", "high")
    return Table("Zones and watermarks", "In pages, without boost.", head, rows)


def _mib(pages: int) -> str:
    return f"{pages / PAGES_PER_MIB:,.1f} MiB"


def _orders(run: Mapping[str, Any]) -> Table:
    keys = ("isolated_blocks", "isolated_pages", "killed", "failed", "stalled")
    rows = tuple(
        (
            str(each["order"]),
            (
                *(f"{each[key]:,}" for key in keys),
                "" if each["free_blocks_after"] is None else f"{each['free_blocks_after']:,}",
            ),
        )
        for each in run["orders"]
    )
    head = (
        "blocks isolated", "pages isolated", "killed", "got nothing", "stalled",
        "free blocks at the end",
    )  # fmt: skip
    about = "Blocks isolated for reporting in the whole run, and requests of that order."
    return Table("By order", about, head, rows)


def _environment(run: Mapping[str, Any]) -> Table:
    known = run["environment"]
    rows = tuple((name, (str(known[key]),)) for key, name in IDENTITY.items() if key in known)
    return Table("Environment", "", (), rows)
