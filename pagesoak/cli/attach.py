"""`pagesoak attach` (or `top`): the view of a foreground run, of one that the daemon runs."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pagesoak.cli.ask import GoingRunName, Socket, client, of_run, shown
from pagesoak.cli.output import write_out
from pagesoak.cli.runs import run_text, state_words

if TYPE_CHECKING:
    from pagesoak.engine.run_sample import RunSample


def attach(
    run: GoingRunName,
    as_json: Annotated[
        bool, typer.Option("--json", help="A sample each second, one JSON object a line.")
    ] = False,
    socket: Socket = None,
) -> None:
    """Look on while a run goes on; Ctrl-C ends the looking, not the run."""
    daemon = client(socket)
    stream = daemon.stream(of_run(run, "live"))
    show = _json_line if as_json else _View() if sys.stdout.isatty() else _text_line
    left = False
    try:
        for event in stream:
            if "data" in event and not show(json.loads(event["data"])):
                return
    except KeyboardInterrupt:
        left = True
    finally:
        if isinstance(show, _View):
            show.end()
    if left:
        write_out("" if as_json else f"{run} goes on\n")
    elif not as_json:
        write_out(run_text(daemon.get(of_run(run))))


class _View:
    """The figures of a foreground run and the live page's picture, on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        from pagesoak.cli.line_screen import LineScreen
        from pagesoak.cli.live_picture import LivePicture

        self._console = Console(legacy_windows=False)
        self._screen = LineScreen(sys.stdout)
        self._picture = LivePicture()
        self._width = self._console.width

    def __call__(self, document: dict[str, Any]) -> bool:
        if document["sample"] is None:
            self._show([state_words(document["record"])])
            return True
        from pagesoak.engine.progress import render

        sample = sample_of(document["sample"])
        self._picture.add(sample)
        self._show([render(sample), *self._picture.lines(self._console.width)])
        return True

    def _show(self, parts: "list[Any]") -> None:
        """What does not fit the terminal's height is left out at the bottom."""
        if self._console.width != self._width:
            self._width = self._console.width
            self._screen.again()
        with self._console.capture() as printed:
            for part in parts:
                self._console.print(part, no_wrap=True, overflow="crop", crop=True)
        lines = [line.rstrip() for line in printed.get().splitlines()]
        self._screen.show(lines[: max(1, self._console.height - 1)])

    def end(self) -> None:
        """Take the view off the terminal."""
        self._screen.close()


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


def _json_line(document: dict[str, Any]) -> bool:
    return write_out(json.dumps(document) + "\n")


def _text_line(document: dict[str, Any]) -> bool:
    """One sample for a pipe."""
    sample = document["sample"]
    if sample is None:
        return write_out(f"{state_words(document['record'])}\n")
    free = sum(zone["free_pages"] for zone in sample["zones"])
    kills = sum(sample["oom_events"].values())
    return write_out(
        f"{sample['elapsed_seconds']:.0f}s free={free} isolated={sample['isolated_pages']} "
        f"reported={sample['reported_pages']} requests={sample['alloc_requests']} "
        f"kills={kills} kills_isolated={sample['oom_events']['isolated']}\n"
    )
