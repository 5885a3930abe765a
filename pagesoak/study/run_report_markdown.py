"""A report as Markdown, for an issue or a mail: what the page says, without its pictures.

Texts from files can neither begin a heading nor a tag nor a link: what Markdown would read in them
is escaped.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pagesoak.study.run_report_tables import (
    Table,
    at,
    failures,
    figures,
    side_by_side,
    tables,
)

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")
"""What means something to Markdown, within a line or at its beginning."""


def plain(text: str) -> str:
    """A text that stands there as it is."""
    return SPECIAL.sub(r"\\\1", text)


def markdown_text(runs: Sequence[Mapping[str, Any]]) -> str:
    """The report of the runs' documents."""
    lines: list[str] = []
    if len(runs) > 1:
        lines += [f"# {len(runs)} soaks side by side", ""]
        lines += _table(side_by_side(runs), "##")
    for run in runs:
        lines += _run(run)
    return "\n".join(lines).rstrip("\n") + "\n"


def _run(run: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"# {plain(run['title'])}", "", f"**{plain(run['headline'])}**", "")
    if run["description"]:
        yield from (plain(run["description"]), "")
    for line in run["closest"]:
        yield from (plain(line), "")
    yield from _table(figures(run), "##")
    if run["stories"]:
        yield from _table(failures(run), "##")
    for story in run["stories"]:
        yield from _story(story)
    for each in tables(run):
        yield from _table(each, "##")
    yield from ("## How to make it again", "", *_code(run["reproduce"]), "")
    if run["scenario_toml"]:
        yield from (*_code(run["scenario_toml"]), "")
    for note in run["notes"]:
        yield f"- note: {plain(note)}"
    yield from (f"- made from {plain(run['directory'])}", "")


def _code(text: str) -> Iterator[str]:
    """Indented: no text can end the block."""
    yield from (f"    {line}" for line in text.splitlines())


def _table(each: Table, rank: str) -> Iterator[str]:
    if not each.rows:
        return
    yield from (f"{rank} {plain(each.heading)}", "")
    if each.about:
        yield from (plain(each.about), "")
    width = len(each.rows[0][1])
    head = each.head or ("",) * width
    yield _row("", head)
    yield "|" + "---|" * (width + 1)
    for title, cells in each.rows:
        yield _row(title, cells)
    yield ""


def _row(title: str, cells: Sequence[str]) -> str:
    return "| " + " | ".join(plain(cell) for cell in (title, *cells)) + " |"


def _story(run: Mapping[str, Any]) -> Iterator[str]:
    story = run["story"]
    yield from ("## The story of a failure", "", plain(story["header"]), "")
    for step in story["steps"]:
        mark = "**" if step["failure"] else ""
        yield f"- {mark}{plain(at(step['seconds']))}{mark}: {plain(step['text'])}"
    yield ""
    for line in story["conclusion"]:
        yield from (plain(line), "")
