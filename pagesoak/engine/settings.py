"""What a user may change while a soak runs: keys, ranges, and what a scenario lets be changed.

A change names only what is to be another; the rest stays. Values are texts, as scenario files and
command lines have them, or numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation

from pagesoak.base import scenario_values as values
from pagesoak.base.errors import InputError, InputErrors
from pagesoak.base.scenario import Scenario
from pagesoak.base.scenario_file import suggestion
from pagesoak.base.scenario_tables import DELAY_NS_MAX, Bursts, Files, Replay, Steady
from pagesoak.base.units import NS_PER_SECOND

PACE_MIN = Decimal("0.01")
PACE_MAX = Decimal(100)
"""A load that goes a hundred times slower or faster than its scenario is another load."""
PACE_TEXT_MAX = 16
"""Characters of a pace: a few digits."""
PARTS_PER_MILLION = 1_000_000
PERCENT_MAX = 100
NO_FACTOR = -1
"""The guest has no `reporting_factor`."""
NONE = "none"
TEXT_CHARS_MAX = 1_000
"""Of a policy with its options, or another value."""
OFF = "off"


@dataclass(frozen=True)
class Change:
    """What is to be changed; None stays as it is."""

    policy: str | None = None
    factor_percent: int | None = None
    """`NO_FACTOR`: without the knob."""
    delay_ns: int | None = None
    latency_per_call_ns: int | None = None
    latency_per_mib_ns: int | None = None
    pace_ppm: int | None = None

    def over(self, before: "Change") -> "Change":
        """This change after another one."""
        mine = {field.name: getattr(self, field.name) for field in fields(self)}
        merged = {n: getattr(before, n) if value is None else value for n, value in mine.items()}
        return Change(**merged)

    def document(self) -> dict[str, object]:
        """What is set, by key: seconds, percent (null: without the knob), times as fast."""
        found: dict[str, object] = {}
        if self.policy is not None:
            found["policy"] = self.policy
        if self.factor_percent is not None:
            found["factor"] = None if self.factor_percent == NO_FACTOR else self.factor_percent
        for key, value_ns in (
            ("delay_seconds", self.delay_ns),
            ("host_latency_seconds", self.latency_per_call_ns),
            ("host_latency_per_mib_seconds", self.latency_per_mib_ns),
        ):
            if value_ns is not None:
                found[key] = value_ns / NS_PER_SECOND
        if self.pace_ppm is not None:
            found["load"] = self.pace_ppm / PARTS_PER_MILLION
        return found


def _factor(text: str) -> int:
    if text == NONE:
        return NO_FACTOR
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(PERCENT_MAX))):
        raise ValueError(f"must be a whole number from 0 to {PERCENT_MAX}, or {NONE}")
    if int(text) > PERCENT_MAX:
        raise ValueError(f"must be at most {PERCENT_MAX} percent")
    return int(text)


def _pace(text: str) -> int:
    try:
        pace = Decimal(text) if len(text) <= PACE_TEXT_MAX else Decimal("NaN")
    except InvalidOperation:
        pace = Decimal("NaN")
    if pace.is_nan() or not PACE_MIN <= pace <= PACE_MAX:
        raise ValueError(f"must be a number from {PACE_MIN} to {PACE_MAX}: times as fast")
    return int(pace * PARTS_PER_MILLION)


def _policy(text: str) -> str:
    return text


_duration: Callable[[object], int] = values.duration(0, DELAY_NS_MAX)

KEYS: dict[str, tuple[str, Callable[[str], int | str]]] = {
    "policy": ("policy", _policy),
    "factor": ("factor_percent", _factor),
    "delay": ("delay_ns", _duration),
    "host.latency": ("latency_per_call_ns", _duration),
    "host.latency_per_mib": ("latency_per_mib_ns", _duration),
    "load": ("pace_ppm", _pace),
}
"""By key: the attribute of `Change`, and what reads a value; it raises ValueError."""


def parse_change(document: Mapping[str, object], policies: Callable[[str], None]) -> Change:
    """A change from keys and values; `policies` raises InputError for a policy that there is not.

    Raises InputErrors with everything wrong with it, by key.
    """
    found: dict[str, int | str] = {}
    mistakes: list[InputError] = []
    for key, value in document.items():
        if key not in KEYS:
            close = suggestion(key, KEYS)
            said = f"cannot be set while a soak runs{close}; what can is {', '.join(KEYS)}"
            mistakes.append(InputError(said, key=key))
            continue
        attribute, read = KEYS[key]
        try:
            found[attribute] = read(_text(value))
            if key == "policy":
                policies(_text(value))
        except InputError as error:
            mistakes.append(error)
        except ValueError as error:
            mistakes.append(InputError(str(error), key=key))
    if not document:
        mistakes.append(InputError(f"nothing to set; what can be is {', '.join(KEYS)}"))
    if mistakes:
        raise InputErrors(mistakes)
    return Change(**found)  # type: ignore[arg-type]


def _text(value: object) -> str:
    """A value as a text; ValueError when it is neither that nor a number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a text or a number")  # noqa: TRY004 - told as a wrong value
    text = str(value)
    if len(text) > TEXT_CHARS_MAX:
        raise ValueError(f"must have at most {TEXT_CHARS_MAX} characters")
    return text


def check_change(change: Change, scenario: Scenario, *, has_device: bool) -> None:
    """Raise InputErrors for what this soak does not let be changed, by key.

    `has_device`: whether the guest has a reporting device, with a reporter and a host.
    """
    mistakes = []
    if not has_device:
        for key, (attribute, _) in KEYS.items():
            if key != "load" and getattr(change, attribute) is not None:
                said = "the guest was started without a reporting device: nothing to set"
                mistakes.append(InputError(said, key=key))
    if change.policy == OFF:
        said = "the reporting device cannot be taken out of a guest that runs; start one with off"
        mistakes.append(InputError(said, key="policy"))
    if change.pace_ppm is not None and not any(map(_has_pace, scenario.loads)):
        said = "no load of this scenario has a pace: each goes as fast as it can, or is idle"
        mistakes.append(InputError(said, key="load"))
    if mistakes:
        raise InputErrors(mistakes)


def _has_pace(load: object) -> bool:
    match load:
        case Bursts():
            return load.think_ns > 0
        case Replay():
            return load.speed_ppm > 0
        case Steady() | Files():
            return load.rate_per_second > 0
    return False
