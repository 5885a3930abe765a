"""A run as its directory tells it: finding the directory, and reading what lies in it beside the
events and the series.

Whatever is missing or damaged is noted, and the rest is told all the same: a run without a summary
did not end in order, and that is when people look. Only a directory that is none is an InputError.
What the files say is data from outside: numbers are checked before they are used, and texts are
shown with everything unprintable escaped (`shown`).
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pagesoak.allocator.gfp import GFP_ZONE_MASK, GFP_ZONE_SHIFT
from pagesoak.allocator.zoneinfo import ZoneInfo, read_zoneinfo
from pagesoak.base.errors import InputError
from pagesoak.base.scenario_file import suggestion
from pagesoak.base.timer_wheel import HZ, HZ_CHOICES, TickClock, timer_fires_ns
from pagesoak.base.units import parse_duration_ns

LATEST = "latest"
"""In place of a name: the newest run."""
EVENTS = "events.jsonl"
SERIES = "series.csv"
SUMMARY = "summary.json"
SCENARIO = "scenario.toml"
ZONEINFO = "after.zoneinfo"
EVIDENCE = Path("evidence") / EVENTS
FILES_OF_A_RUN = (SUMMARY, SCENARIO, EVENTS, str(EVIDENCE))
"""A directory that holds none of them is that of no run."""

FILE_BYTES_MAX = 16 << 20
"""Of a summary or a scenario: they have some KiB; more is something else."""
SHOWN_CHARS_MAX = 80
"""Of a text from a file: no name of a scenario or a policy is longer."""
RUNS_NAMED_MAX = 3
NAME_TIME = re.compile(r"(\d{8}T\d{6}Z)-")
"""How a run's name begins, so that names sort by time."""
PAGES_MAX = 1 << 52
"""No count of pages in a file is larger: 64 bits of bytes."""


def shown(text: object) -> str:
    """A text from a file as it may be printed: in one line, unprintable characters escaped."""
    plain = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(text)[: SHOWN_CHARS_MAX + 1]
    )
    return plain if len(plain) <= SHOWN_CHARS_MAX else plain[: SHOWN_CHARS_MAX - 1] + "…"


@dataclass(frozen=True)
class ZoneMarks:
    """A zone of the guest: its watermarks without boost, and what it keeps back from requests
    that could use a higher zone (`reserve_pages`, by zone index; empty when it is not known).
    """

    name: str
    managed_pages: int
    min_pages: int
    low_pages: int
    high_pages: int
    reserve_pages: tuple[int, ...] = ()

    def asked_pages(self, gfp: int) -> int:
        """What the slow path asks of the zone for a packed GFP mask without rights to reserves:
        a request of order 0 is refused with so many pages free, or fewer. Without boost.
        """
        highest = (gfp & GFP_ZONE_MASK) >> GFP_ZONE_SHIFT
        reserve = self.reserve_pages
        return self.min_pages + (reserve[highest] if highest < len(reserve) else 0)


@dataclass(frozen=True)
class RunRecord:
    """What is known about a run, its events and samples apart. `summary` and `scenario` are as
    the files have them, empty where there is none.
    """

    directory: Path
    summary: Mapping[str, Any]
    scenario: Mapping[str, Any]
    zones: tuple[ZoneMarks, ...]
    notes: tuple[str, ...]
    """What is missing or damaged, a sentence each."""

    @property
    def event_files(self) -> tuple[Path, ...]:
        """The files with events: those written during the run, then the rings kept as evidence."""
        files = (self.directory / EVENTS, self.directory / EVIDENCE)
        return tuple(file for file in files if file.exists())

    @property
    def scenario_name(self) -> str:
        """Of the scenario, to be shown."""
        return shown(self.summary.get("scenario") or self.scenario.get("name") or "unnamed")

    @property
    def policy(self) -> str:
        """The reporting policy, to be shown."""
        said = self.summary.get("policy") or _table(self.scenario, "reporting").get("policy")
        return shown(said or "unknown")

    @property
    def seed(self) -> int | None:
        """Of the loads' random choices."""
        return _whole(self.summary.get("seed", self.scenario.get("seed")))

    @property
    def mode(self) -> str | None:
        """Live or virtual."""
        mode = self.summary.get("mode")
        return mode if mode in {"live", "virtual"} else None

    @property
    def verdict(self) -> str | None:
        """None: the run did not end in order."""
        verdict = self.summary.get("verdict")
        return verdict if verdict in {"pass", "fail", "broken"} else None

    @property
    def title(self) -> str:
        """What was run, how, and how it ended."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        mode = "" if self.mode is None else f", {self.mode}"
        verdict = self.verdict or "did not end in order"
        return f"{self.scenario_name}, policy {self.policy}{seed}{mode}: {verdict}"

    @property
    def started_ns(self) -> int | None:
        """When the soak's clock started, on the clock of the events."""
        return _whole(self.summary.get("started_monotonic_ns"))

    @property
    def duration_ns(self) -> int | None:
        """How long the soak's clock ran."""
        seconds = self.summary.get("duration_seconds")
        plain = isinstance(seconds, int | float) and 0 <= seconds < PAGES_MAX
        return int(seconds * 1e9) if plain and seconds is not None else None

    @property
    def cpus(self) -> int | None:
        """VCPUs of the guest: workers from this number on are the reporter, host and runner."""
        guest = _table(self.summary, "guest") or _table(self.scenario, "guest")
        return _whole(guest.get("cpus"))

    @property
    def main_zone(self) -> ZoneMarks | None:
        """The zone with most managed pages, the last of equals."""
        return max(reversed(self.zones), key=lambda zone: zone.managed_pages, default=None)

    def pass_due_ns(self, requested_ns: int) -> int | None:
        """When a pass that was asked for then begins; None when the delay is not known."""
        try:
            delay_ns = parse_duration_ns(str(_table(self.scenario, "reporting")["delay"]))
        except (InputError, KeyError):
            return None
        hz = _table(self.scenario, "guest").get("hz")
        clock = TickClock(hz if hz in HZ_CHOICES else HZ)
        return timer_fires_ns(clock, requested_ns, delay_ns)

    def load_kinds(self) -> tuple[str, ...]:
        """The kinds of the loads as events number them: a load of bursts has two numbers, its
        hog's and its own; a steady one on all CPUs a number for each; an idle one none.
        """
        kinds: list[str] = []
        loads = self.scenario.get("load")
        for load in loads if isinstance(loads, list) else []:
            kind = load.get("kind") if isinstance(load, dict) else None
            if kind == "bursts":
                kinds += ["hog", "bursts"]
            elif kind == "steady" and load.get("cpus") == "all":
                kinds += ["steady"] * min(self.cpus or 1, SHOWN_CHARS_MAX)
            elif kind in {"steady", "files", "replay"}:
                kinds.append(kind)
        return tuple(kinds)


def open_run(text: str, results: Path) -> RunRecord:
    """The run of that directory, or of that name below `results`, or the newest one (`latest`).

    Raises InputError when there is none.
    """
    directory = find_directory(text, results)
    notes: list[str] = []
    summary = _read_document(directory / SUMMARY, json.loads, notes)
    scenario = _read_document(directory / SCENARIO, tomllib.loads, notes)
    if not (directory / SUMMARY).exists():
        notes.append("there is no summary.json: the run goes on, or did not end in order")
    if summary and _whole(summary.get("started_monotonic_ns")) is None:
        notes.append("the soak's clock never started: times count from the first event")
    zones = _zones(summary, directory / ZONEINFO, notes)
    return RunRecord(directory, summary, scenario, zones, tuple(notes))


def find_directory(text: str, results: Path) -> Path:
    """The directory that is meant; InputError, with suggestions, when there is none."""
    try:
        runs = _runs_below(results)
        if text == LATEST:
            if not runs:
                raise InputError("no run is kept here yet", file=results)
            return runs[-1]
        for directory in (Path(text), results / text):
            if directory.is_dir():
                return _checked(directory)
        if Path(text).exists():
            raise InputError("is no directory: a run is named by its directory", file=text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot be read: {reason}", file=shown(text)) from error
    close = suggestion(text, [run.name for run in runs])
    newest = f"; the newest is {runs[-1].name!r}" if runs and not close else ""
    raise InputError(
        f"no such run, neither a directory nor a name below {results}{close}{newest}",
        file=shown(text),
    )


def _runs_below(results: Path) -> list[Path]:
    """The directories of runs, oldest first; those of one second by when they were made."""

    def age(run: Path) -> tuple[str, int]:
        made = run / SCENARIO
        time = NAME_TIME.match(run.name)
        return time[1] if time else "", (made if made.exists() else run).stat().st_mtime_ns

    if not results.is_dir():
        return []
    return sorted((run for run in results.iterdir() if _is_run(run)), key=age)


def _is_run(directory: Path) -> bool:
    return any((directory / name).exists() for name in FILES_OF_A_RUN)


def _checked(directory: Path) -> Path:
    if _is_run(directory):
        return directory
    inside = [run.name for run in _runs_below(directory)]
    said = f"holds no run: none of {', '.join(FILES_OF_A_RUN)} is there"
    if inside:
        newest = ", ".join(inside[: -RUNS_NAMED_MAX - 1 : -1])
        said = f"holds runs and is none; name one of them, as {newest}"
    raise InputError(said, file=directory)


def _read_document(path: Path, parse: Any, notes: list[str]) -> dict[str, Any]:
    """A file as one object; empty when there is none, or a note says what is wrong with it."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
        if len(raw) > FILE_BYTES_MAX:
            notes.append(f"{path.name}: larger than {FILE_BYTES_MAX} bytes: left out")
            return {}
        document = parse(raw.decode("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        notes.append(f"{path.name}: cannot be read: {error.strerror or error}")
        return {}
    except (ValueError, RecursionError) as error:  # JSON, TOML and UTF-8 say it with the line
        notes.append(f"{path.name}: damaged: {shown(error)}")
        return {}
    if isinstance(document, dict):
        return document
    notes.append(f"{path.name}: holds no object: left out")
    return {}


def _zones(summary: Mapping[str, Any], zoneinfo: Path, notes: list[str]) -> tuple[ZoneMarks, ...]:
    """The zones as the summary lists them, with the reserves of `after.zoneinfo`."""
    infos: tuple[ZoneInfo, ...] = ()
    if zoneinfo.exists():
        try:
            infos = read_zoneinfo(zoneinfo)
        except InputError as error:
            notes.append(f"{ZONEINFO}: damaged: {shown(error.message)}")
    reserves = {(info.node, info.zone): info.protection for info in infos}
    return tuple(_zones_of(summary, reserves))


def _zones_of(
    summary: Mapping[str, Any], reserves: Mapping[tuple[int, str], tuple[int, ...]]
) -> Iterator[ZoneMarks]:
    figures = summary.get("zones")
    for zone in figures if isinstance(figures, list) else []:
        marks = _table(zone, "watermark_pages") if isinstance(zone, dict) else {}
        pages = [_whole(marks.get(name)) for name in ("min", "low", "high")]
        managed = _whole(zone.get("managed_pages")) if isinstance(zone, dict) else None
        if managed is None or None in pages:
            return  # events number the zones: one that is not known ends what is
        name, node = shown(zone.get("zone")), zone.get("node")
        reserve = reserves.get((node if isinstance(node, int) else 0, name), ())
        low = [number for number in pages if number is not None]
        yield ZoneMarks(name, managed, low[0], low[1], low[2], reserve)


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = document.get(key)
    return table if isinstance(table, dict) else {}


def _whole(value: object) -> int | None:
    """A number of a file that counts something, or None."""
    plain = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63
    return value if plain and isinstance(value, int) else None
