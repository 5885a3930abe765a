"""A summary in words, for people: the answer in the first line, then what led to it.

Pure functions of the summary. Rows that would say nothing are left out; numbers have commas.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pagesoak.base.units import MIB, PAGE_SHIFT
from pagesoak.cli.failures import BECAUSE

STACKED_COLUMNS = 64
"""Below this width the labels, 24 columns of them, stand above what they name."""
GAP = "  "
CONTINUED = "    "
"""Before the further lines of a text that does not fit one."""

Row = tuple[str, str]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms"


def _mebibytes(pages: int) -> str:
    return f"{(pages << PAGE_SHIFT) // MIB:,} MiB"


def _beside(pages: int, watermark: str) -> str:
    return f"{abs(pages):,} {'below' if pages < 0 else 'above'} {watermark}"


# ---- the answer ----


def headline(summary: dict[str, Any]) -> str:
    """What was run, and the verdict with its reason."""
    return f"{summary['scenario']}, policy {summary['policy']}: {verdict_words(summary)}"


def verdict_words(summary: dict[str, Any]) -> str:
    """The verdict, and in a few words why."""
    remarks = []
    if summary["verdict"] == "broken":
        words = f"BROKEN - {summary['reason']}"
    elif summary["verdict"] == "fail":
        words = f"FAIL - {_why(summary)}"
    else:
        words = "pass"
        if summary["policy"] != "off" and summary["report_calls"] == 0:
            remarks.append("nothing was reported")
    if summary["interrupted"]:
        remarks.append("interrupted")
    if made := sum(summary.get("faults", {}).values()):
        remarks.append(f"with {_counted(made, 'fault')} on purpose")
    return f"{words} ({', '.join(remarks)})" if remarks else words


def _why(summary: dict[str, Any]) -> str:
    names = {text.split(" = ")[0] for text in summary["limits_broken"]}
    reasons = []
    if names & {"oom_events_isolated_max", "oom_events_max"}:
        reasons.append(_kills(summary))
    if "alloc_failures_isolated_max" in names:
        failed = summary["alloc_failures"]["isolated"]
        reasons.append(f"{_counted(failed, 'allocation')} failed {BECAUSE['isolated']}")
    if "watermark_margin_min_pages" in names:
        margin = summary["watermark_margin_pages_min"]["min"]
        side = "below" if margin < 0 else "above"
        reasons.append(f"{_counted(abs(margin), 'page')} {side} the min watermark")
    return "; ".join(reasons or summary["limits_broken"])


def _kills(summary: dict[str, Any]) -> str:
    """Who was killed, by cause. As bursts, where every kill took one."""
    by_cause = [(count, BECAUSE[cause]) for cause, count in summary["oom_events"].items() if count]
    total = sum(count for count, _ in by_cause)
    bursts = summary["bursts"]
    if bursts["killed"] == total:
        what = f"{total:,} of {_counted(bursts['run'], 'burst')} killed"
    else:
        what = _counted(total, "OOM kill")
    if len(by_cause) == 1:
        return f"{what} {by_cause[0][1]}"
    return f"{what}: " + ", ".join(f"{count:,} {because}" for count, because in by_cause)


# ---- what led to it ----


def summary_rows(summary: dict[str, Any]) -> list[Row]:
    """What, and how much; the place of the results is not among them."""
    oom = summary["oom_events"]
    failed = summary["alloc_failures"]
    bursts = summary["bursts"]
    waits = summary["oom_waits"]
    audits = summary["audits"]
    integrity = summary["integrity"]
    lowest = summary["free_pages_min"]
    requests = _counted(summary["alloc_requests"], "allocation")
    kills = (
        f"{oom['isolated']:,} because pages were isolated, {oom['fragmented']:,} fragmented, "
        f"{oom['exhausted']:,} exhausted"
    )
    failures = (
        f"{failed['isolated']:,} isolated, {failed['fragmented']:,} fragmented, "
        f"{failed['exhausted']:,} exhausted; {summary['fallbacks']:,} fell back"
    )
    rows = [
        ("requests", f"{requests}, {_counted(summary['frees'], 'free')}"),
        ("OOM kills", kills),
        ("failed allocations", failures),
    ]
    if waits["count"]:
        waited = f"{_counted(waits['count'], 'request')}, {waits['seconds']:,.1f} s in all"
        rows.append(("waited for a window", waited))
    replay = summary["replay"]
    if replay["made"] < replay["requests"]:
        made = f"incomplete: {replay['made']:,} of {replay['requests']:,} requests made"
        rows.append(("replay", made))
    if bursts["run"]:
        rows.append(("bursts", f"{bursts['run']:,}, of which {bursts['killed']:,} killed"))
    rows += [
        ("lowest free (all zones)", f"{_counted(lowest, 'page')} ({_mebibytes(lowest)})"),
        ("closest to the watermarks", _closest(summary)),
    ]
    rows += _reporting_rows(summary)
    verified = (
        f"{_counted(integrity['pages_verified'], 'page content')} verified, "
        f"{_counted(integrity['violations'], 'violation')}"
    )
    touch = summary["guest"]["touch"]
    rows += recovery_rows(summary)
    rows += [
        ("integrity", verified if touch else "not checked (touch = false)"),
        ("audits", f"{audits['run']:,} run, {audits['failed']:,} failed"),
    ]
    rows += [("limit broken", broken) for broken in summary["limits_broken"]]
    return rows


def recovery_rows(figures: Mapping[str, Any]) -> list[Row]:
    """Faults on purpose, how often workers were replaced, and what that cost; nothing when there
    were none, or the run is of a version that could not.
    """
    restarts, faults = figures.get("restarts", {}), figures.get("faults", {})
    made = ", ".join(f"{count:,} {kind}" for kind, count in faults.items() if count)
    rows = [("faults on purpose", made)] if made else []
    if not any(restarts.values()):
        return rows
    names = {"guest": "guest CPU", "reporter": "reporter", "host": "host"}
    who = ", ".join(_counted(count, names[role]) for role, count in restarts.items() if count)
    epochs = figures["epochs"]
    tainted = "" if epochs == 1 else f"; epoch {epochs:,}, the limits hold for it alone"
    return [*rows, ("replaced", f"{who}{tainted}")]


def _closest(summary: dict[str, Any]) -> str:
    margin = summary["watermark_margin_pages_min"]
    zone = max(summary["zones"], key=lambda figures: int(figures["managed_pages"]))["zone"]
    least = _counted(abs(margin["min"]), "page")
    side = "below" if margin["min"] < 0 else "above"
    return (
        f"{least} {side} min, {_beside(margin['low'], 'low')}, {_beside(margin['high'], 'high')} "
        f"(zone {zone})"
    )


def _reporting_rows(summary: dict[str, Any]) -> list[Row]:
    if summary["policy"] == "off":
        return [("reported", "nothing (no reporting device)")]
    most = summary["isolated_pages_max"]
    rows = [("most isolated", f"{_counted(most, 'page')} ({_mebibytes(most)})")]
    if summary["report_calls"] == 0:
        return [*rows, ("reported", "nothing")]
    given_back = "nothing given back (touch = false)"
    if summary["guest"]["touch"]:
        given_back = f"{summary['punched_bytes'] // MIB:,} MiB given back to the host"
    calls = _counted(summary["report_calls"], "call")
    rows.append(("reported", f"{_mebibytes(summary['reported_pages'])} in {calls}, {given_back}"))
    if summary["reporter_waits"] or summary["unseen_demands"]:
        rows.append(("left alone", _left_alone(summary)))
    window = summary["window_seconds"]
    if window["count"]:
        windows = (
            f"{_counted(window['count'], 'window')}, median {_milliseconds(window['p50'])}, "
            f"99 % at most {_milliseconds(window['p99'])}, longest {_milliseconds(window['max'])}"
        )
        rows.append(("report window", windows))
    return rows


def _left_alone(summary: dict[str, Any]) -> str:
    """What a policy's floor did, and where it was too low."""
    waits = f"{_counted(summary['reporter_waits'], 'wait')} for more free pages"
    unseen = summary["unseen_demands"]
    return f"{waits}; {_counted(unseen, 'window')} in which more was taken than was left for it"


# ---- on the page ----


def summary_lines(
    summary: dict[str, Any], failures: Iterable[str], columns: int | None
) -> list[str]:
    """All below the headline, for a terminal of so many columns, or unwrapped: rows, failures,
    and last where the results are, in one piece.
    """
    rows = summary_rows(summary)
    lines = laid_out(rows, columns)
    for failure in failures:
        lines += folded(GAP + failure, columns, CONTINUED)
    narrow = columns is not None and columns < STACKED_COLUMNS
    label = "results".ljust(0 if narrow else _label_columns(rows))
    return [*lines, f"{label}{GAP}{summary['directory']}"]


def _label_columns(rows: Sequence[Row]) -> int:
    return max(len(label) for label, _ in rows)


def laid_out(rows: Sequence[Row], columns: int | None) -> list[str]:
    """Rows as lines: label and value side by side, stacked where it is narrow; not wrapped at all
    when there are no `columns`.
    """
    lines: list[str] = []
    width = _label_columns(rows)
    for label, value in rows:
        if columns is not None and columns < STACKED_COLUMNS:
            lines += [label, *folded(GAP + value, columns, GAP)]
        else:
            hanging = " " * (width + len(GAP))
            lines += folded(f"{label:<{width}}{GAP}{value}", columns, hanging)
    return lines


def folded(text: str, columns: int | None, hanging: str = "") -> list[str]:
    """A text in lines of at most so many columns; a longer word stays whole."""
    if columns is None:
        return [text]
    return textwrap.wrap(
        text,
        columns,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
