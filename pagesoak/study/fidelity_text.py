"""What a check found, in words: for a terminal, and as the lines a document is made of.

Works on the JSON of the results, so that every kind of recording reads alike. A figure with a
total reads "15,051 of 15,053 exact"; a list of objects is a table.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_COMMON_KEYS = frozenset(
    {"path", "kind", "kernel", "holds", "demands", "divergences", "not_checked", "faults", "notes"}
)
_MATCHED = {
    "exact": "exact",
    "within_wheel": "within the timer wheel",
    "to_the_tick": "to the very tick",
    "kept": "as the rules say",
}
"""Names of what is counted out of a total, and how a sentence says it."""
_TIME_UNITS = {"_us": "µs", "_ms": "ms", "_seconds": "s"}
_UNITS = {**_TIME_UNITS, "_pages": "pages"}
DIVERGENCES_SHOWN = 3
"""Divergences of one recording printed for people; the JSON has more."""

Document = Mapping[str, Any]


def figures_of(document: Document) -> dict[str, Any]:
    """The figures of a result, without what all results have."""
    return {key: value for key, value in document.items() if key not in _COMMON_KEYS}


def words_of(name: str) -> str:
    """A key as words, its unit in brackets."""
    unit = next((end for end in _TIME_UNITS if name.endswith(end)), "")
    words = name.removesuffix(unit).replace("_", " ")
    return f"{words} ({_UNITS[unit]})" if unit and words else words


def is_table(value: Any) -> bool:
    """Whether a figure is a table: a list of objects."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def figure_text(value: Any) -> str:
    """One figure as a phrase."""
    if not isinstance(value, Mapping):
        return _value_text(value)
    total = value.get("total")
    phrases = [_phrase(key, item, total) for key, item in value.items() if key != "total"]
    return ", ".join(phrase for phrase in phrases if phrase)


def _phrase(key: str, item: Any, total: int | None) -> str:
    """One part of a figure; "" for what says nothing."""
    if key in _MATCHED and isinstance(item, Mapping):
        if not item.get("total"):
            return ""
        return f"{item['exact']:,} of {item['total']:,} {_MATCHED[key]}"
    if key in _MATCHED and total is not None:
        return f"{item:,} of {total:,} {_MATCHED[key]}" if total else "none checked"
    if key == "not_checked" and not item:
        return ""
    unit = next((end for end in _UNITS if key.endswith(end)), None)
    if unit is not None:
        return f"{words_of(key.removesuffix(unit))} {_value_text(item)} {_UNITS[unit]}"
    return f"{_value_text(item)} {words_of(key)}"


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list):
        return " to ".join(_value_text(item) for item in value)
    if isinstance(value, Mapping):
        return figure_text(value)
    return "-" if value is None else str(value)


def answer_of(document: Document) -> str:
    """The answer for one recording in a few words."""
    if document["faults"]:
        return "the recording has faults"
    if not document["demands"]:
        return "nothing to check"
    broken = sum(not demand["holds"] for demand in document["demands"])
    return f"{broken} of {len(document['demands'])} demands broken" if broken else "holds"


def table_lines(rows: Iterable[Iterable[str]]) -> list[str]:
    """Rows as lines with columns as wide as needed; the first row is the heading."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def recording_lines(document: Document) -> Iterator[str]:
    """One recording: heading, figures, demands that do not hold, what else a reader must know."""
    kernel = f", kernel {document['kernel']}" if document["kernel"] else ""
    yield f"{document['path']}: {document['kind']}{kernel}: {answer_of(document)}"
    yield from _figure_lines(figures_of(document))
    for demand in document["demands"]:
        if not demand["holds"]:
            yield f"  does not hold: {demand['text']}"
    yield from _divergence_lines(document["divergences"])
    for left_out in document["not_checked"]:
        yield f"  not checked: {left_out_text(left_out)}"
    for fault in document["faults"]:
        place = f"{fault['place']}: " if fault["place"] else ""
        yield f"  fault: {place}{fault['message']}"
    for note in document["notes"]:
        yield f"  note: {note}"


def _figure_lines(figures: Document) -> Iterator[str]:
    width = max((len(words_of(name)) for name in figures), default=0)
    for name, value in figures.items():
        if is_table(value):
            yield f"  {words_of(name)}"
            rows = [[words_of(key) for key in value[0]]]
            rows += [[_value_text(item) for item in row.values()] for row in value]
            yield from (f"    {line}" for line in table_lines(rows))
        elif value not in ([], {}):
            yield f"  {words_of(name).ljust(width)}  {figure_text(value)}"


def _divergence_lines(divergences: Sequence[Document]) -> Iterator[str]:
    for divergence in divergences[:DIVERGENCES_SHOWN]:
        yield f"  differs at {divergence['where']}"
        yield f"    recorded  {divergence['expected']}"
        yield f"    predicted {divergence['got']}"
        if divergence["doing"]:
            yield f"    there: {divergence['doing']}"
    more = len(divergences) - DIVERGENCES_SHOWN
    if more > 0:
        yield f"  and {more} more places, with --json"


def left_out_text(left_out: Document) -> str:
    """What was not checked, where and why, as a phrase."""
    number = left_out.get("number", 1)
    count = f"{number:,} " if number != 1 else ""
    where = left_out.get("where", "")
    return f"{count}{left_out['what']}{f', {where}' if where else ''}: {left_out['reason']}"


def closing_line(documents: Sequence[Document]) -> str:
    """The answer for all recordings together."""
    demands = [demand["holds"] for document in documents for demand in document["demands"]]
    faulty = sum(bool(document["faults"]) for document in documents)
    recordings = f"{len(documents)} recording{'s' if len(documents) != 1 else ''}"
    found = f"all {len(demands)} demands hold"
    if not all(demands):
        found = f"{demands.count(False)} of {len(demands)} demands broken"
    elif not demands:
        found = "nothing could be checked"
    return f"{recordings}: {found}{f'; {faulty} with faults' if faulty else ''}"


def report_lines(documents: Sequence[Document]) -> Iterator[str]:
    """All recordings, and the answer last."""
    for document in documents:
        yield from recording_lines(document)
        yield ""
    yield closing_line(documents)
