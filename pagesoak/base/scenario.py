"""The scenario of a soak: guest, reporting, host, audit, limits and loads, validated and frozen.

A scenario is a TOML file; `docs/scenarios.md` is the reference of its keys. Sizes and durations
are texts with units there and whole bytes and nanoseconds here. Every mistake of a file is
reported at once, with file, line and key: each table is validated on its own (`scenario_reading`),
and the checks between keys then run on whatever is valid. Code elsewhere reads the attributes of
the frozen models.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field

from pagesoak.base.errors import InputError, InputErrors
from pagesoak.base.scenario_checks import SYNTHETIC_KEYS, Mistake, TableView, between_keys
from pagesoak.base.scenario_file import (
    Key,
    builtin_names,
    dotted,
    find_scenario,
    key_lines,
    line_of,
    parse_toml,
    read_text,
    suggestion,
    toml_text,
)
from pagesoak.base.scenario_reading import read_table
from pagesoak.base.scenario_tables import (
    LOADS,
    TABLES,
    Audit,
    Bursts,
    Faults,
    Files,
    Guest,
    Head,
    Host,
    Idle,
    Limits,
    Load,
    MigratetypeWeights,
    Replay,
    Reporting,
    Steady,
    Table,
    Virtual,
)
from pagesoak.base.units import format_duration

__all__ = [
    "Audit",
    "Bursts",
    "Files",
    "Guest",
    "Host",
    "Idle",
    "Limits",
    "Load",
    "MigratetypeWeights",
    "Replay",
    "Reporting",
    "Scenario",
    "Steady",
    "Virtual",
    "builtin_names",
    "check_policy",
    "find_scenario",
    "load_scenario",
    "parse_scenario",
]

KnownPolicies = Collection[str] | Callable[[str], object]
"""Names, or what refuses a text that means no policy, with an InputError."""


class Scenario(Head):
    """One soak: everything a run depends on but the code, the machine and the time of day."""

    guest: Guest
    reporting: Reporting
    host: Host
    virtual: Virtual
    audit: Audit
    limits: Limits
    faults: Faults
    loads: tuple[Annotated[Load, Field(discriminator="kind")], ...] = Field(alias="load")

    def with_overrides(
        self,
        *,
        policy: str | None = None,
        duration_ns: int | None = None,
        seed: int | None = None,
        touch: bool | None = None,
    ) -> Self:
        """A copy with what is not None replaced; `InputErrors` if that is no valid scenario."""
        changes: dict[Key, Any] = {}
        if policy is not None:
            changes["reporting", "policy"] = policy
        if duration_ns is not None:
            changes["duration",] = format_duration(duration_ns)
        if seed is not None:
            changes["seed",] = seed
        if touch is not None:
            changes["guest", "touch"] = touch
        return self.with_values(changes)

    def with_values(self, changes: Mapping[Key, Any]) -> Self:
        """A copy with other values, as TOML has them, at these keys, whose tables are there: paths
        are relative to the caller's folder. `InputErrors` if that is no valid scenario.
        """
        document = self.document()
        for key, value in changes.items():
            place: Any = document
            for part in key[:-1]:
                place = place[part]
            place[key[-1]] = value
        tables, mistakes = _checked(document, Path())
        if mistakes:
            raise InputErrors(InputError(message, key=dotted(key)) for key, message in mistakes)
        return type(self).model_validate(tables)

    def document(self) -> dict[str, Any]:
        """The scenario as its TOML document, every default spelled out and every path absolute."""
        document = super().document()
        document["load"] = [load.document() for load in self.loads]
        if self.guest.memory_bytes is None:
            for key in SYNTHETIC_KEYS:
                document["guest"].pop(key, None)
        for load in document["load"]:
            if load.get("cpus"):
                del load["cpu"]
        return document

    def as_toml(self) -> str:
        """The text of a TOML file that loads as an equal scenario from any folder."""
        return toml_text(self.document())

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values by attribute: bytes, nanoseconds, and the unit in each name."""
        return self.model_dump(mode="json")


def load_scenario(path: str | Path, *, policies: KnownPolicies | None = None) -> Scenario:
    """The scenario in the file `path`; `InputError` or `InputErrors` with all its mistakes.

    With `policies`, the policy has to be one of them, or what they, if they are a function, do not
    refuse with an InputError.
    """
    file = Path(path)
    return parse_scenario(read_text(file), file=file, folder=file.parent, policies=policies)


def parse_scenario(
    text: str, *, file: str | Path, folder: Path, policies: KnownPolicies | None = None
) -> Scenario:
    """The scenario in `text`, with paths relative to `folder`; mistakes are named as in `file`."""
    tables, mistakes = _checked(parse_toml(text, file), folder, policies)
    if not mistakes:
        return Scenario.model_validate(tables)
    lines = key_lines(text)
    after_all = len(text) + 2  # where a mistake that stands nowhere is listed
    errors = [
        InputError(message, file=file, line=line_of(lines, key), key=dotted(key))
        for key, message in mistakes
    ]
    raise InputErrors(sorted(errors, key=lambda error: error.line or after_all))


def check_policy(policy: str, known: KnownPolicies) -> None:
    """`InputError` at the key `reporting.policy` if `policy` is not one of the `known`."""
    if callable(known):
        try:
            known(policy)
        except InputError as error:
            raise InputError(error.message, key="reporting.policy") from error
    elif policy not in known:
        names = ", ".join(sorted(known))
        raise InputError(
            f"no policy named {policy!r}{suggestion(policy, known)}; known are {names}",
            key="reporting.policy",
        )


def _checked(
    document: Mapping[str, Any], folder: Path, policies: KnownPolicies | None = None
) -> tuple[dict[str, Any], list[Mistake]]:
    """What `Scenario` is made of, and everything wrong with the document."""
    mistakes: list[Mistake] = []
    tables: dict[str, Any] = {
        key: value for key, value in document.items() if key not in (*TABLES, "load")
    }
    read_table(Head, tables, (), folder, mistakes, also=TABLES)
    views = {}
    for name, model in TABLES.items():
        raw = document.get(name, {})
        tables[name], views[name] = read_table(model, raw, (name,), folder, mistakes)
    tables["load"], load_views = _read_loads(document.get("load"), folder, mistakes)
    mistakes.extend(between_keys(views["guest"], load_views))
    policy = views["reporting"].get("policy")
    if policies is not None and policy is not None:
        try:
            check_policy(policy, policies)
        except InputError as error:
            mistakes.append(Mistake(("reporting", "policy"), error.message))
    return tables, mistakes


def _read_loads(
    raw: Any, folder: Path, mistakes: list[Mistake]
) -> tuple[tuple[Table | None, ...], list[TableView]]:
    """The loads and their views; a load of no known kind has neither."""
    if not isinstance(raw, list) or not raw:
        mistakes.append(Mistake(("load",), "at least one load must be given, as [[load]]"))
        return (), []
    loads, views = [], []
    kinds = ", ".join(LOADS)
    for number, table in enumerate(raw):
        place: Key = ("load", number)
        kind = table.get("kind") if isinstance(table, dict) else None
        if not isinstance(table, dict):
            mistakes.append(Mistake(place, "must be a table, [[load]]"))
        elif kind is None:
            mistakes.append(Mistake((*place, "kind"), f"is missing: one of {kinds}"))
        elif not isinstance(kind, str) or kind not in LOADS:
            close = suggestion(str(kind), LOADS)
            mistakes.append(Mistake((*place, "kind"), f"must be one of {kinds}{close}"))
        else:
            load, view = read_table(LOADS[kind], table, place, folder, mistakes)
            loads.append(load)
            views.append(view)
    return tuple(loads), views
