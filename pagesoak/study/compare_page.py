"""A comparison as one page: what was found, the tables, the pictures, and how to do it again.

One file that asks nobody for anything: the pictures are in it, as SVG in images, and its policy
forbids everything but those and its own style. So whatever a name or a description holds stands
there as text. Light or dark as the reader has it: pictures are drawn for light, and turned over.
"""

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagesoak.study.compare import Comparison
from pagesoak.study.compare_picture import course_picture, failures_picture, windows_picture
from pagesoak.study.compare_plan import printable
from pagesoak.study.compare_table import FOOTNOTE, PAIRED, Row, difference_rows, figure_rows, title
from pagesoak.study.drawing import picture_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark; --ink: #1a202c; --pale: #4a5568; --line: #cbd5e0;
  --paper: #ffffff; --box: #f7fafc; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e2e8f0; --pale: #a0aec0; --line: #4a5568; --paper: #171923; --box: #1f2430; }
  img { filter: invert(0.91) hue-rotate(180deg); }
}
body { margin: 0 auto; max-width: 70rem; padding: 1rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.about, p.note, footer { color: var(--pale); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.3rem 0.8rem 0.3rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: normal; }
tbody th { font-weight: normal; color: var(--pale); min-width: 8rem; position: sticky; left: 0;
  background: var(--paper); } td { white-space: nowrap; }
figure { margin: 1rem 0; } img { width: 100%; min-width: 40rem; height: auto; display: block; }
pre { background: var(--box); border: 1px solid var(--line); padding: 0.8rem; overflow-x: auto;
  font-size: 0.85rem; overflow-wrap: normal; }
"""
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
    return _whole(title(comparison), "\n".join(parts))


def _whole(name: str, body: str) -> str:
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        f"form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(name)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


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
    cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head.cells)
    lines = ['<div class="wide"><table>', f"<thead><tr><td></td>{cells}</tr></thead>", "<tbody>"]
    for row in others:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row.cells)
        lines.append(f'<tr><th scope="row">{escape(row.title)}</th>{cells}</tr>')
    return [*lines, "</tbody></table></div>"]


def _pictures(comparison: Comparison) -> list[str]:
    parts = []
    for name, draw in PICTURES:
        parts += [f"<h2>{escape(name)}</h2>", _figure(draw(comparison), name)]
    return parts


def _figure(figure: "Figure", name: str) -> str:
    data = base64.b64encode(picture_bytes(figure, ".svg")).decode()
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(name)}">'
    return f'<figure class="wide">{image}</figure>'


def _again(
    comparison: Comparison, document: Mapping[str, Any], arguments: Sequence[str]
) -> list[str]:
    """The command, where it ran, and the scenario."""
    parts = [
        "<h2>How to do it again</h2>",
        f"<pre>{escape(shlex.join(['pagesoak', *arguments]))}</pre>",
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
        f"<pre>{escape(scenario.as_toml())}</pre>",
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
