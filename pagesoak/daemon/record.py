"""What the daemon knows of a run, whatever state it is in; the same for the API and the index.

A run's own directory says all that stays. `read_record` makes the record of a run that is over
from it, so that an index that was lost can be made again.
"""

import json
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pagesoak.base.units import NS_PER_SECOND, parse_duration_ns
from pagesoak.engine.rundir import is_alive

FILE_BYTES_MAX = 4 << 20
"""Of a summary or a scenario that is read back: far more than any has."""


class State(StrEnum):
    """Where a run stands."""

    STARTING = "starting"
    """Its runner is loading the core, or making the guest."""
    PREPARING = "preparing"
    """Its workers bring the guest into its starting state."""
    RUNNING = "running"
    PAUSED = "paused"
    """Its clock stands still, and so do its workers, until somebody lets them go on."""
    STOPPING = "stopping"
    ENDED = "ended"
    """With a summary, which has the verdict."""
    REFUSED = "refused"
    """It could not be; nothing is kept of it."""
    UNCLEAN = "unclean"
    """It ended without a summary: killed, or its machine went down."""


STEERABLE = frozenset({State.RUNNING, State.PAUSED})
"""States in which a run can be paused, resumed and changed."""
GOING = frozenset({State.STARTING, State.PREPARING, State.STOPPING}) | STEERABLE
"""States of runs that have a process."""


class Record(BaseModel):
    """One run. `reason` says what else there is to say: why it was refused, or how it ended."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run: str
    state: State
    verdict: str | None = None
    interrupted: bool = False
    reason: str | None = None
    scenario: str
    policy: str
    seed: int
    duration_seconds: float
    elapsed_seconds: float | None = None
    """How long it soaked, once it has ended in order."""
    started: str | None = None
    finished: str | None = None
    directory: str

    @property
    def going(self) -> bool:
        """Whether it has a process."""
        return self.state in GOING


def read_record(directory: Path) -> Record | None:
    """The record of the run in a directory that no runner of this daemon works in; None when it is
    none.

    Of a run that somebody else runs, in the foreground, it says `running`.
    """
    try:
        scenario = tomllib.loads(_text(directory / "scenario.toml"))
        identity = json.loads(_text(directory / "run.json"))
        known = {
            "run": directory.name,
            "scenario": scenario["name"],
            "policy": scenario["reporting"]["policy"],
            "seed": scenario["seed"],
            "duration_seconds": parse_duration_ns(scenario["duration"]) / NS_PER_SECOND,
            "started": identity["started"],
            "directory": str(directory),
        }
        return Record(**known, **_end(directory))
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None


def goes_on(directory: Path) -> bool:
    """Whether somebody still runs the run in a directory."""
    alive = is_alive(directory)  # first: a runner lets go only after its summary
    return alive and not (directory / "summary.json").exists()


def _end(directory: Path) -> dict[str, Any]:
    """How the run in a directory ended, as fields of its record."""
    if goes_on(directory):
        return {"state": State.RUNNING, "reason": "run by another process"}
    if not (directory / "summary.json").exists():
        return {"state": State.UNCLEAN, "reason": "ended without a summary"}
    try:
        return {"state": State.ENDED, **verdict_of(read_summary(directory))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {"state": State.UNCLEAN, "reason": f"its summary cannot be read: {error}"}


def verdict_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What a summary says of a run's end, as fields of its record; KeyError when it does not."""
    return {
        "verdict": str(summary["verdict"]),
        "interrupted": bool(summary["interrupted"]),
        "reason": summary["reason"],
        "finished": str(summary["finished"]),
        "elapsed_seconds": float(summary["duration_seconds"]),
    }


def read_summary(directory: Path) -> dict[str, Any]:
    """The summary of a run; OSError or ValueError when there is none that can be read."""
    summary = json.loads(_text(directory / "summary.json"))
    if not isinstance(summary, dict):
        raise ValueError("the summary is no object")  # noqa: TRY004 - one error for all damage
    return summary


def _text(file: Path) -> str:
    with file.open("rb") as opened:
        content = opened.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"{file} is larger than {FILE_BYTES_MAX} bytes")
    return content.decode("utf-8")
