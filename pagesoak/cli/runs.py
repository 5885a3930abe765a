"""`pagesoak list` and `pagesoak status`: what the daemon has, and how one run is."""

from typing import Annotated, Any

import typer

from pagesoak.cli.ask import AsJson, Socket, client, columns, of_run, shown, span
from pagesoak.cli.complete import complete_run
from pagesoak.cli.output import print_json, write_out
from pagesoak.cli.summary_text import recovery_rows

HEAD = ["RUN", "STATE", "TIME", "OF", "SCENARIO", "POLICY", "STARTED"]
LABEL_COLUMNS = 27
"""As wide as in the summary of `pagesoak run`."""


def list_runs(as_json: AsJson = False, socket: Socket = None) -> None:
    """List every run that the daemon knows, the newest first."""
    found = client(socket).get("/v1/runs")
    if as_json:
        print_json(found)
        return
    if not found["runs"]:
        write_out("no runs yet; `pagesoak start idle-512m` starts one\n")
        return
    write_out(columns([HEAD, *map(row, found["runs"])]))


def status(
    run: Annotated[
        str | None,
        typer.Argument(
            help="A run; without it, the daemon and what goes on.", autocompletion=complete_run
        ),
    ] = None,
    as_json: AsJson = False,
    socket: Socket = None,
) -> None:
    """Say how the daemon is, or one run."""
    target = "/v1/status" if run is None else of_run(run)
    found = client(socket).get(target)
    if as_json:
        print_json(found)
    else:
        write_out(daemon_text(found) if run is None else run_text(found))


def state_words(run: dict[str, Any]) -> str:
    """A run's state, and its verdict when it has one."""
    if run["verdict"] is None:
        return shown(run["state"])
    return f"{shown(run['verdict'])}{' (interrupted)' if run['interrupted'] else ''}"


def row(run: dict[str, Any]) -> list[str]:
    """A run in the list."""
    return [
        shown(run["run"]),
        state_words(run),
        span(run["elapsed_seconds"]),
        span(run["duration_seconds"]),
        shown(run["scenario"]),
        shown(run["policy"]),
        shown(run["started"]),
    ]


def labelled(rows: list[tuple[str, str]]) -> str:
    """Lines of a label and a value."""
    return "".join(f"{label:<{LABEL_COLUMNS}}{value}\n" for label, value in rows)


def daemon_text(found: dict[str, Any]) -> str:
    """The daemon for people."""
    rows = [
        ("daemon", f"pagesoak {shown(found['pagesoak'])}, process {found['pid']}"),
        ("up for", span(found["uptime_seconds"])),
        ("socket", shown(found["socket"])),
        ("results", shown(found["results"])),
    ]
    if found["chaos"]:
        rows.append(("faults", "may be made to happen (runs.chaos)"))
    if found["config_problem"]:
        rows.append(("configuration", f"the old one is kept: {shown(found['config_problem'])}"))
    if found["storage_problem"]:
        counts = f"{found['results_not_stored']:,} wait, {found['results_lost']:,} lost"
        rows.append(("degraded", f"results not stored: {counts}"))
        rows.append(("because", shown(found["storage_problem"])))
    if found["silent"]:
        rows.append(("not heard from", ", ".join(map(shown, found["silent"]))))
    for each in found["unwell"]:
        named = f"{shown(each['worker'])} of {shown(each['run'])} is {shown(each['how'])}"
        since = f"process {each['pid']}, no sign of life for {span(each['silent_seconds'])}"
        rows.append(("not well", f"{named} ({since})"))
    if found["ended_uncleanly"]:
        names = ", ".join(map(shown, found["ended_uncleanly"]))
        rows.append(("ended uncleanly before", names))
    text = labelled(rows)
    if not found["runs"]:
        return text + "no run goes on\n"
    return text + "\n" + columns([HEAD, *map(row, found["runs"])])


def settings_words(settings: dict[str, Any]) -> str:
    """What was set while a run goes on."""
    words = {key: "none" if value is None else value for key, value in settings.items()}
    return ", ".join(f"{shown(key)} {shown(value)}" for key, value in words.items())


def run_text(run: dict[str, Any]) -> str:
    """One run for people."""
    rows = [
        ("run", shown(run["run"])),
        ("state", state_words(run)),
        ("scenario", f"{shown(run['scenario'])}, policy {shown(run['policy'])}"),
        ("seed", str(run["seed"])),
        ("started", shown(run["started"])),
    ]
    if run["reason"]:
        rows.append(("reason", shown(run["reason"])))
    if run["elapsed_seconds"] is not None:
        rows.append(("time", f"{span(run['elapsed_seconds'])} of {span(run['duration_seconds'])}"))
    if run["settings"]:
        rows.append(("set", settings_words(run["settings"])))
    if run["finished"]:
        rows.append(("finished", shown(run["finished"])))
    figures = run["summary"] or run["figures"]
    if figures:
        rows += figure_rows(figures)
    rows.append(("directory", shown(run["directory"])))
    return labelled(rows)


def figure_rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures that one looks for first; all are in `--json`, and in summary.json."""
    kills, margins = figures["oom_events"], figures["watermark_margin_pages_min"]
    others = f"{kills['fragmented']:,} fragmented, {kills['exhausted']:,} exhausted"
    window = figures["window_seconds"]
    rows = [
        ("requests", f"{figures['alloc_requests']:,} allocations, {figures['frees']:,} frees"),
        ("OOM kills", f"{kills['isolated']:,} because pages were isolated, {others}"),
        ("lowest free", f"{figures['free_pages_min']:,} pages"),
        (
            "least above the watermarks",
            f"min {margins['min']:,}, low {margins['low']:,}, high {margins['high']:,} pages",
        ),
        ("most isolated", f"{figures['isolated_pages_max']:,} pages"),
        (
            "reported",
            f"{figures['reported_pages']:,} pages in {figures['report_calls']:,} calls",
        ),
    ]
    if window["count"]:
        longest = window["max"] * 1000
        rows.append(("report window", f"{window['count']:,} windows, longest {longest:,.1f} ms"))
    rows += recovery_rows(figures)
    violations = figures["integrity"]["violations"]
    checked = f"{figures['integrity']['pages_verified']:,} pages checked"
    rows.append(("integrity", f"{checked}, {violations:,} violations"))
    return rows
