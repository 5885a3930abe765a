"""A report as one page: the verdict in plain words, what was run, pictures, stories, tables, how
to make it again. One run, or several side by side; one file that asks nobody for anything.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from pagesoak.study.html_page import code, figure, table, whole_page
from pagesoak.study.run_report import Report
from pagesoak.study.run_report_tables import (
    Table,
    at,
    failures,
    figures,
    side_by_side,
    tables,
)
from pagesoak.study.timeline_picture import draw

VERDICT_CLASSES = {"pass": "good", "fail": "bad", "broken": "bad"}


def page_text(reports: Sequence[Report]) -> str:
    """The page."""
    runs = [report.document() for report in reports]
    name = runs[0]["title"] if len(runs) == 1 else f"{len(runs)} soaks side by side"
    lines = [f"<h1>{escape(name)}</h1>"]
    if len(runs) > 1:
        lines += _verdicts(runs)
        lines += _table(side_by_side(runs), "text")
    for number, (report, run) in enumerate(zip(reports, runs, strict=True), 1):
        lines += _section(_run(report, run), run, number) if len(runs) > 1 else _run(report, run)
    return whole_page(name, "\n".join(lines))


def _verdicts(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "<ul>"
    for number, run in enumerate(runs, 1):
        yield (
            f'<li><a href="#run-{number}">{escape(run["run"])}</a>: {escape(run["headline"])}</li>'
        )
    yield "</ul>"


def _section(lines: Iterator[str], run: Mapping[str, Any], number: int) -> Iterator[str]:
    """One of several runs: its headings are below its own."""
    yield f'<section id="run-{number}">'
    yield f"<h2>{escape(run['title'])}</h2>"
    for line in lines:
        yield re.sub(r"^<h2>(.*)</h2>$", r"<h3>\1</h3>", line)
    yield "</section>"


def _run(report: Report, run: Mapping[str, Any]) -> Iterator[str]:
    kind = VERDICT_CLASSES.get(run["verdict"], "bad")
    yield f'<p class="verdict {kind}">{escape(run["headline"])}</p>'
    if run["description"]:
        yield f'<p class="about">{escape(run["description"])}</p>'
    yield from (f"<p>{escape(line)}</p>" for line in run["closest"])
    yield "<h2>Headroom, isolated pages and windows over time</h2>"
    drawn = draw(report.record, report.picture.timeline, report.picture.explanation.words, ())
    yield figure(drawn, f"Free and isolated memory over time: {run['title']}")
    yield from _table(figures(run))
    if run["stories"]:
        yield from _table(failures(run))
    for story in run["stories"]:
        yield from _story(story)
    for each in tables(run):
        yield from _table(each)
    yield "<h2>How to make it again</h2>"
    yield code(run["reproduce"])
    if run["scenario_toml"]:
        yield code(run["scenario_toml"])
    for note in run["notes"]:
        yield f'<p class="note">note: {escape(note)}</p>'
    yield f"<footer>Made from {escape(run['directory'])}</footer>"


def _table(each: Table, kind: str = "") -> Iterator[str]:
    if not each.rows:
        return
    yield f"<h2>{escape(each.heading)}</h2>"
    if each.about:
        yield f'<p class="note">{escape(each.about)}</p>'
    plain = kind or ("" if each.head else "text")
    yield from table(each.head, each.rows, plain)


def _story(run: Mapping[str, Any]) -> Iterator[str]:
    """A failure: what came before it, and what after."""
    story = run["story"]
    yield "<h2>The story of a failure</h2>"
    yield f"<p>{escape(story['header'])}</p>"
    yield f"<p>The policy: {escape(run['failure']['doing'])}.</p>"
    yield '<div class="wide" tabindex="0"><table class="text"><tbody>'
    for step in story["steps"]:
        mark = ' class="failure"' if step["failure"] else ""
        cells = (
            f'<th scope="row">{escape(at(step["seconds"]))}</th><td>{escape(step["text"])}</td>'
        )
        yield f"<tr{mark}>{cells}</tr>"
    yield "</tbody></table></div>"
    yield from (f"<p>{escape(line)}</p>" for line in story["conclusion"])
