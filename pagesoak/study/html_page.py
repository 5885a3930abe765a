"""Pages that are one file and ask nobody for anything: the shell, tables and pictures they share.

Pictures are in the file, as SVG in images, and the page's policy forbids everything but those and
its own style. So whatever a name or a description holds stands there as text. Light or dark as the
reader has it: pictures are drawn for light, and turned over.
"""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from pagesoak.study.drawing import picture_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark; --ink: #1a202c; --pale: #4a5568; --line: #cbd5e0;
  --paper: #ffffff; --box: #f7fafc; --bad: #c53030; --good: #276749; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e2e8f0; --pale: #a0aec0; --line: #4a5568; --paper: #171923; --box: #1f2430;
    --bad: #fc8181; --good: #68d391; }
  img { filter: invert(0.91) hue-rotate(180deg); }
}
body { margin: 0 auto; max-width: 70rem; padding: 1rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
h3 { font-size: 1rem; margin-top: 1.5rem; }
p.about, p.note, footer { color: var(--pale); }
p.verdict { font-size: 1.15rem; font-weight: 600; } .bad { color: var(--bad); }
.good { color: var(--good); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.3rem 0.8rem 0.3rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: normal; }
tbody th { font-weight: normal; color: var(--pale); min-width: 8rem; position: sticky; left: 0;
  background: var(--paper); } td { white-space: nowrap; }
table.text td { white-space: normal; min-width: 10rem; } tr.failure td { color: var(--bad); }
figure { margin: 1rem 0; } img { width: 100%; min-width: 40rem; height: auto; display: block; }
pre { background: var(--box); border: 1px solid var(--line); padding: 0.8rem; font-size: 0.85rem;
  white-space: pre-wrap; }
section { border-top: 2px solid var(--line); margin-top: 3rem; }
@media (max-width: 40rem) {
  body { padding: 0.6rem; }
  th, td { padding-right: 0.4rem; font-size: 0.75rem; } td { white-space: normal; }
  tbody th { min-width: 2rem; } table.text td { min-width: 0; }
  figure::before { content: "Wider than this screen: scroll the picture sideways.";
    color: var(--pale); font-size: 0.8rem; position: sticky; left: 0; }
}
"""


def whole_page(name: str, body: str) -> str:
    """The file: `body` is HTML, `name` is text."""
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
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def table(
    head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], kind: str = ""
) -> list[str]:
    """Lines of a table: the titles of its columns, and of each row its title and its cells.

    Without titles of columns it has no head. `kind` is a class of the style.
    """
    name = f' class="{kind}"' if kind else ""
    lines = [f'<div class="wide" tabindex="0"><table{name}>']
    if head:
        cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
        lines.append(f"<thead><tr><td></td>{cells}</tr></thead>")
    lines.append("<tbody>")
    for title, texts in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in texts)
        lines.append(f'<tr><th scope="row">{escape(title)}</th>{cells}</tr>')
    return [*lines, "</tbody></table></div>"]


def code(text: str) -> str:
    """A text as it is, in lines; those that are too long are wrapped."""
    return f"<pre>{escape(text)}</pre>"


def figure(drawn: "Figure", name: str) -> str:
    """A picture within the page; `name` says what it shows."""
    data = base64.b64encode(picture_bytes(drawn, ".svg")).decode()
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(name)}">'
    return f'<figure class="wide" tabindex="0">{image}</figure>'
