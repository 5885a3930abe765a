"""What `pagesoak compare` runs: variants of one scenario, each with the same seeds.

A variant is a policy, or a policy and other values of the scenario: `mainline`,
`mainline + host.latency_per_call=20ms`. Any key of the scenario's schema can be changed, but for
those that all variants share. Runs go seed by seed, so that a comparison that ends early has
whole pairs.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pagesoak.base.errors import InputError, InputErrors
from pagesoak.base.scenario import Scenario
from pagesoak.base.scenario_file import Key, dotted, suggestion
from pagesoak.base.scenario_tables import LOADS, TABLES
from pagesoak.engine.policy_choice import find_policy
from pagesoak.engine.policy_list import policy_texts
from pagesoak.reporter.policy import Policy

SEEDS_MAX = 256
"""An interval is then half as wide as with 64: who needs more, needs a longer soak."""
VARIANTS_MAX = 16
"""What a table and a picture can show side by side."""
BASELINE = "mainline"
"""What the others are compared with, where it is among them."""
SHARED = {
    ("reporting", "policy"): "is what --policies names",
    ("seed",): "is the same for all: --seed says the first",
    ("duration",): "is the same for all: --duration says it",
    ("name",): "is the same for all",
    ("description",): "is the same for all",
}
"""Keys that no variant can change, and why."""
OPTION = "--with"

_KEY = r"[a-z_]+(?:\[[0-9]{1,4}\])?(?:\.[a-z_]+)*"
_NEXT = re.compile(rf"\s*\+\s*(?={_KEY}\s*=)")
_CHANGE = re.compile(rf"({_KEY})\s*=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Variant:
    """A policy with the scenario as it is for it, whose seed is the first."""

    label: str
    policy_text: str
    policy: Policy
    changes: Mapping[str, Any]
    """Dotted keys to the values that differ from the scenario's own, as TOML has them."""
    scenario: Scenario


class PlannedRun(NamedTuple):
    """One run: the number of its variant, and its seed."""

    variant: int
    seed: int


@dataclass(frozen=True)
class Plan:
    """What is run: every variant with every seed."""

    scenario: Scenario
    variants: tuple[Variant, ...]
    baseline: int
    seeds: tuple[int, ...]
    virtual: bool

    def runs(self) -> Iterator[PlannedRun]:
        """All runs, seed by seed."""
        for seed in self.seeds:
            for number in range(len(self.variants)):
                yield PlannedRun(number, seed)


def make_plan(
    scenario: Scenario,
    policies: str,
    *,
    changed: Sequence[str] = (),
    seeds: int,
    baseline: str | None = None,
    virtual: bool = False,
) -> Plan:
    """The plan for `policies`, a list as `a,b:option=value,c`, and a further variant for each text
    of `changed`: `KEY=VALUE + KEY=VALUE`, of the baseline's policy, or `POLICY + KEY=VALUE`.

    Raises InputError(s): a policy or key that is not there, the same variant twice, seeds out of
    range.
    """
    if not 1 <= seeds <= SEEDS_MAX:
        raise InputError(f"must be from 1 to {SEEDS_MAX}, not {seeds}", key="--seeds")
    texts = policy_texts(policies)
    variants = [_variant(scenario, text, {}) for text in texts]
    usual = BASELINE if BASELINE in texts else texts[0]
    for text in changed:
        policy_text, changes = parse_changes(text, scenario)
        of_base = baseline if baseline in texts else usual
        variants.append(_variant(scenario, policy_text or of_base, changes))
    _refuse_same(variants)
    number = _numbered(variants, usual if baseline is None else baseline)
    numbers = tuple(range(scenario.seed, scenario.seed + seeds))
    return Plan(scenario, tuple(variants), number, numbers, virtual)


def parse_changes(text: str, scenario: Scenario) -> tuple[str | None, dict[Key, Any]]:
    """The policy, None if there is none, and the changes of `POLICY + KEY=VALUE + KEY=VALUE`.

    Raises InputError (key --with) when it does not read so, or there is no such key.
    """
    first, *others = _NEXT.split(text.strip())
    policy_text = None if _CHANGE.fullmatch(first) else first
    parts = others if policy_text is not None else [first, *others]
    if not parts or policy_text == "":
        said = f"{text!r} is not KEY=VALUE, as in host.latency_per_call=20ms"
        raise InputError(said, key=OPTION)
    changes: dict[Key, Any] = {}
    for part in parts:
        match = _CHANGE.fullmatch(part)
        if match is None:  # unreachable by the split, which looked for it
            raise InputError(f"{part!r} is not KEY=VALUE", key=OPTION)
        key = _known_key(match[1], scenario)
        if key in changes:
            raise InputError(f"{match[1]} is given twice", key=OPTION)
        changes[key] = _value(match[2].strip())
    return policy_text, changes


def known_keys(scenario: Scenario) -> dict[str, Key]:
    """Every key that a variant may change, by its dotted name."""
    keys: list[Key] = [(table, key) for table, model in TABLES.items() for key in model.defaults()]
    for number, load in enumerate(scenario.loads):
        of_load = [key for key in LOADS[load.kind].defaults() if key != "kind"]
        keys += [("load", number, key) for key in of_load]
    return {dotted(key): key for key in keys if key not in SHARED}


def printable(text: str) -> str:
    """A text in one line, in which nothing moves a cursor or a colour."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _known_key(name: str, scenario: Scenario) -> Key:
    for shared, why in SHARED.items():
        if name == dotted(shared):
            raise InputError(f"{name} {why}", key=OPTION)
    known = known_keys(scenario)
    if name in known:
        return known[name]
    within = [full for full in known if full.rpartition(".")[2] == name.rpartition(".")[2]]
    close = f" (did you mean {' or '.join(map(repr, within[:2]))}?)" if within else ""
    said = close or suggestion(name, known)
    raise InputError(f"a scenario has no key {name!r}{said}", key=OPTION)


def _value(text: str) -> Any:
    """A value as TOML has it where that is what it is; else, as with `20ms`, the text itself."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return text if isinstance(value, float) else value  # no key takes one: `kernel=6.12`


def _variant(scenario: Scenario, policy_text: str, changes: Mapping[Key, Any]) -> Variant:
    try:
        policy = find_policy(policy_text, files=True)
    except InputError as error:
        if error.file is not None:
            raise
        raise InputError(error.message, key=OPTION if changes else "--policies") from error
    shown = " + ".join([policy_text, *(_shown(key, value) for key, value in changes.items())])
    label = printable(shown)
    values = {**changes, ("reporting", "policy"): policy_text}
    try:
        changed = scenario.with_values(values)
    except InputErrors as errors:
        said = "; ".join(map(str, errors.errors))
        raise InputError(f"{label}: {said}", key=OPTION) from errors
    named = {dotted(key): value for key, value in changes.items()}
    return Variant(label, policy_text, policy, named, changed)


def _shown(key: Key, value: Any) -> str:
    """A change as a label has it: `oom_waits_for_report` for what is switched on."""
    last = str(key[-1])
    tables = [table for table, model in TABLES.items() if last in model.defaults()]
    name = last if key[0] != "load" and len(tables) == 1 else dotted(key)
    if value is True:
        return name
    return f"{name}={str(value).lower() if isinstance(value, bool) else value}"


def _numbered(variants: Sequence[Variant], label: str) -> int:
    """Where the variant is that the others are compared with."""
    labels = [variant.label for variant in variants]
    if label not in labels:
        known = ", ".join(labels)
        said = f"{label!r} is not among them{suggestion(label, labels)}; they are {known}"
        raise InputError(said, key="--baseline")
    return labels.index(label)


def _refuse_same(variants: Sequence[Variant]) -> None:
    """Raise InputError if there are too few or too many, or two that are the same."""
    if len(variants) < 2:  # noqa: PLR2004 - a comparison is of two
        raise InputError("a comparison needs two at least", key="--policies")
    if len(variants) > VARIANTS_MAX:
        said = f"{len(variants)} are more than the {VARIANTS_MAX} that can be shown side by side"
        raise InputError(said, key="--policies")
    for at, variant in enumerate(variants):
        for other in variants[:at]:
            if _same(variant, other):
                key = OPTION if variant.changes else "--policies"
                said = f"{variant.label} is the same as {other.label}"
                raise InputError(said, key=key)


def _same(variant: Variant, other: Variant) -> bool:
    """Whether they would give the same runs: equal policies, whatever their texts."""
    policies = type(variant.policy) is type(other.policy) and variant.policy == other.policy
    text = other.policy_text
    scenario = variant.scenario.with_values({("reporting", "policy"): text})
    return policies and scenario == other.scenario
