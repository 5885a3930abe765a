"""Shell completion of runs' names: asked of the daemon while somebody types; quick and silent."""

from typing import Any

from pagesoak.daemon.client import Client

ANSWER_SECONDS_MAX = 1.0
"""Somebody waits for the letters of a name."""


def complete_run(ctx: Any, incomplete: str) -> list[tuple[str, str]]:
    """Names of runs that begin so, each with its state; none when no daemon answers."""
    try:
        path = ctx.params.get("socket")
        client = Client(path, answer_seconds=ANSWER_SECONDS_MAX)
        runs = client.get("/v1/runs")["runs"]
        return [
            (str(run["run"]), str(run["state"]))
            for run in runs
            if str(run["run"]).startswith(incomplete)
        ]
    except Exception:  # noqa: BLE001 - a message would stand in the middle of what is typed
        return []
