"""A comparison as one page: what was found, the tables, the pictures, and how to do it again.

One file that asks nobody for anything (`html_page`).
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pagesoak.study.compare import Comparison
from pagesoak.study.compare_picture import course_picture, failures_picture, windows_picture
from pagesoak.study.compare_plan import printable
from pagesoak.study.compare_table import FOOTNOTE, PAIRED, Row, difference_rows, figure_rows, title
from pagesoak.study.html_page import code, figure, table, whole_page

PICTURES = (
    ("Headroom and isolated pages over time", course_picture),
    ("Lengths of the windows", windows_picture),
    ("Kills and failures", failures_picture),
)
IDENTITY = {
    "pagesoak": "pagesoak",
    "python": "Python",
    "numba": "Numba",
    "kernel": "kernel of this machine",
    "machine": "machine",
    "host_cpus": "CPUs",
}
"""Of a run's run.json: what is named on the page."""


def page_text(
    comparison: Comparison, document: Mapping[str, Any], arguments: Sequence[str]
) -> str:
    """The page of a comparison; `document` is its compare.json, `arguments` what was called."""
    known = any(comparison.totals)
    parts = [
        f"<h1>{escape(title(comparison))}</h1>",
        _described(comparison),
        "<h2>What was found</h2>",
        "<ul>",
        *(f"<li>{escape(sentence)}</li>" for sentence in document["found"]),
        "</ul>",
        *(_tables(comparison) if known else ()),
        *(_pictures(comparison) if known else ()),
        *_again(comparison, document, arguments),
    ]
    return whole_page(title(comparison), "\n".join(parts))


def _described(comparison: Comparison) -> str:
    text = printable(comparison.plan.scenario.description)
    return f'<p class="about">{escape(text)}</p>' if text else ""


def _tables(comparison: Comparison) -> list[str]:
    differences = difference_rows(comparison)
    base = escape(comparison.labels[comparison.plan.baseline])
    parts = ["<h2>All runs together</h2>", *_table(figure_rows(comparison))]
    parts.append(f'<p class="note">{escape(FOOTNOTE)}</p>')
    if differences:
        parts += [
            f"<h2>A run, beside {base}</h2>",
            f'<p class="note">{base} {PAIRED.format(base=base)}</p>',
            *_table(differences),
        ]
    return parts


def _table(rows: Sequence[Row]) -> list[str]:
    head, *others = rows
    return table(head.cells, [(row.title, row.cells) for row in others])


def _pictures(comparison: Comparison) -> list[str]:
    parts = []
    for name, draw in PICTURES:
        parts += [f"<h2>{escape(name)}</h2>", figure(draw(comparison), name)]
    return parts


def _again(
    comparison: Comparison, document: Mapping[str, Any], arguments: Sequence[str]
) -> list[str]:
    """The command, where it ran, and the scenario."""
    parts = [
        "<h2>How to do it again</h2>",
        code(shlex.join(["pagesoak", *arguments])),
    ]
    if comparison.plan.virtual:
        parts.append('<p class="note">In virtual time every figure comes out the same.</p>')
    for variant in comparison.plan.variants:
        if variant.changes:
            each = (f"{key} = {json.dumps(value)}" for key, value in variant.changes.items())
            said = f"{variant.label}: the scenario with {', '.join(each)}"
            parts.append(f"<p>{escape(said)}</p>")
    scenario = comparison.plan.variants[comparison.plan.baseline].scenario
    parts += [
        "<h2>The scenario, with every default</h2>",
        code(scenario.as_toml()),
        f"<footer>{escape(_identity(comparison))}. {escape(_place(document))}</footer>",
    ]
    return parts


def _place(document: Mapping[str, Any]) -> str:
    return f"Started {document['started']}; results in {document['directory']}"


def _identity(comparison: Comparison) -> str:
    """Versions and machine, from the first run's own file."""
    first = next((runs[0] for runs in comparison.runs if runs), None)
    if first is None:
        return "No run was made"
    text = (Path(first.summary["directory"]) / "run.json").read_text(encoding="utf-8")
    fields = json.loads(text)
    return ", ".join(f"{name} {fields[key]}" for key, name in IDENTITY.items())
