"""`pagesoak attach` (or `top`): the view of a foreground run, of one that the daemon runs."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pagesoak.cli.ask import RunName, Socket, client, quoted, shown
from pagesoak.cli.output import write_out
from pagesoak.cli.runs import run_text, state_words

if TYPE_CHECKING:
    from pagesoak.engine.run_sample import RunSample


def attach(
    run: RunName,
    as_json: Annotated[
        bool, typer.Option("--json", help="A sample each second, one JSON object a line.")
    ] = False,
    socket: Socket = None,
) -> None:
    """Look on while a run goes on; Ctrl-C ends the looking, not the run."""
    daemon = client(socket)
    stream = daemon.stream(f"/v1/runs/{quoted(run)}/live")
    show = _json_line if as_json else _View() if sys.stdout.isatty() else _text_line
    try:
        for event in stream:
            if "data" in event:
                show(json.loads(event["data"]))
    except KeyboardInterrupt:
        _end(show)
        write_out("" if as_json else f"{run} goes on\n")
        return
    _end(show)
    if not as_json:
        write_out(run_text(daemon.get(f"/v1/runs/{quoted(run)}")))


class _View:
    """The progress view on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        from pagesoak.engine.progress import Progress

        self._progress = Progress(Console())
        self._progress.start()

    def __call__(self, document: dict[str, Any]) -> None:
        if document["sample"] is not None:
            self._progress.update(sample_of(document["sample"]))

    def end(self) -> None:
        """Take the view off the terminal."""
        self._progress.stop()


def _end(show: object) -> None:
    if isinstance(show, _View):
        show.end()


def sample_of(document: dict[str, Any]) -> "RunSample":
    """A sample as the daemon gives it."""
    from pagesoak.engine.run_sample import CauseCounts, RunSample, ZoneSample

    return RunSample(
        **{
            **document,
            "title": shown(document["title"]),
            "zones": tuple(ZoneSample(**zone) for zone in document["zones"]),
            "alloc_failures": CauseCounts(**document["alloc_failures"]),
            "oom_events": CauseCounts(**document["oom_events"]),
        }
    )


def _json_line(document: dict[str, Any]) -> None:
    write_out(json.dumps(document) + "\n")


def _text_line(document: dict[str, Any]) -> None:
    """One sample for a pipe."""
    sample = document["sample"]
    if sample is None:
        write_out(f"{state_words(document['record'])}\n")
        return
    free = sum(zone["free_pages"] for zone in sample["zones"])
    kills = sum(sample["oom_events"].values())
    write_out(
        f"{sample['elapsed_seconds']:.0f}s free={free} isolated={sample['isolated_pages']} "
        f"reported={sample['reported_pages']} requests={sample['alloc_requests']} "
        f"kills={kills} kills_isolated={sample['oom_events']['isolated']}\n"
    )
