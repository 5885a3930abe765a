"""What a client may ask a run to be, checked before a process is made for it.

A scenario comes by the name of a built-in one or as the text of a file. What it reads (recording,
snapshot, trace) must lie in a folder that the configuration names: who may start runs is not
thereby allowed to read every file of the daemon's user. A policy is built in or installed; a file
that a request names would be loaded as code.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from pagesoak.base.errors import InputError, InputErrors
from pagesoak.base.run_name import RUN_NAME, RUN_NAME_WORDS
from pagesoak.base.scenario import (
    Scenario,
    builtin_names,
    find_scenario,
    load_scenario,
    parse_scenario,
)
from pagesoak.base.scenario_file import FILE_BYTES_MAX, suggestion
from pagesoak.base.scenario_reading import MESSAGES
from pagesoak.base.scenario_tables import SOAK_NS_MAX, SOAK_NS_MIN
from pagesoak.base.scenario_values import duration
from pagesoak.base.units import parse_duration_ns
from pagesoak.engine.policy_choice import check_installed

SCENARIO_CHARS_MAX = 64
"""Of the name of a built-in scenario."""
TEXT_CHARS_MAX = 1_000
"""Of a policy with its options, or a duration."""
SEED_MAX = (1 << 63) - 1
"""What a signed word of the segment holds."""

_MESSAGES = MESSAGES | {
    "string_type": "must be a text",
    "string_pattern_mismatch": RUN_NAME_WORDS,
    "int_type": "must be a whole number",
    "extra_forbidden": "unknown key",
}
"""What is wrong, by the library's name for it."""
_read_duration = duration(SOAK_NS_MIN, SOAK_NS_MAX)


def _known(name: str) -> str:
    if name not in builtin_names():
        close = suggestion(name, builtin_names())
        raise ValueError(f"no built-in scenario {name!r}{close}")
    return name


def _offered(policy: str) -> str:
    try:
        check_installed(policy)
    except InputError as error:
        raise ValueError(error.message) from error
    return policy


def _lasting(text: str) -> str:
    _read_duration(text)
    return text


_BuiltIn = Annotated[str, Field(max_length=SCENARIO_CHARS_MAX), AfterValidator(_known)]
_Policy = Annotated[str, Field(max_length=TEXT_CHARS_MAX), AfterValidator(_offered)]
_Duration = Annotated[str, Field(max_length=TEXT_CHARS_MAX), AfterValidator(_lasting)]


class StartRequest(BaseModel):
    """The body of a request to start a run; exactly one of the two scenarios is given."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    run: Annotated[str, Field(pattern=f"^{RUN_NAME}$")]
    scenario: _BuiltIn | None = None
    scenario_toml: Annotated[str, Field(max_length=FILE_BYTES_MAX)] | None = None
    policy: _Policy | None = None
    duration: _Duration | None = None
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)] | None = None


def read_request(document: Mapping[str, Any], recordings: Sequence[Path]) -> tuple[str, Scenario]:
    """The name of a run and the scenario that is meant, which reads only below `recordings`.

    Raises InputErrors with everything wrong with the request and with its scenario, by key.
    """
    mistakes: list[InputError] = []
    request = scenario = None
    try:
        request = StartRequest.model_validate(document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        mistakes += [
            InputError(_said(each), key=".".join(map(str, each["loc"]))) for each in found
        ]
    wrong = {mistake.key for mistake in mistakes}
    given = [key for key in ("scenario", "scenario_toml") if document.get(key) is not None]
    if len(given) != 1:
        said = "exactly one of the two must be given: a built-in name, or the text of a file"
        mistakes.append(InputError(said, key="scenario, scenario_toml"))
    elif given[0] not in wrong:
        try:
            scenario = _SCENARIOS[given[0]](document[given[0]], recordings)
        except InputErrors as error:
            mistakes += error.errors
        except InputError as error:
            mistakes.append(error)
    if request is None or scenario is None or mistakes:
        raise InputErrors(mistakes)
    return request.run, scenario.with_overrides(
        policy=request.policy,
        duration_ns=None if request.duration is None else parse_duration_ns(request.duration),
        seed=request.seed,
    )


def _said(mistake: ErrorDetails) -> str:
    """What is wrong with one key, in the words of the interface rather than of the library."""
    if mistake["type"] in _MESSAGES:
        return _MESSAGES[mistake["type"]].format(**mistake.get("ctx", {}))
    return mistake["msg"]


def _built_in(name: str, _recordings: Sequence[Path]) -> Scenario:
    return load_scenario(find_scenario(name), policies=check_installed)


def _in_text(text: str, recordings: Sequence[Path]) -> Scenario:
    scenario = parse_scenario(text, file="scenario", folder=Path("/"), policies=check_installed)
    _check_places(scenario, recordings)
    return scenario


_SCENARIOS = {"scenario": _built_in, "scenario_toml": _in_text}
"""By the key of a request: what makes a scenario of its value."""


def _check_places(scenario: Scenario, recordings: Sequence[Path]) -> None:
    """Refuse a scenario that reads what is in none of the folders, nor among the built-in ones;
    links are followed.
    """
    built_in = find_scenario(builtin_names()[0]).parent
    allowed = [folder.resolve() for folder in (*recordings, built_in)]
    places = [("guest", scenario.guest)]
    places += [(f"load[{number}]", load) for number, load in enumerate(scenario.loads)]  # type: ignore[misc]
    for place, table in places:
        for name in ("recording", "snapshot", "trace"):
            path = getattr(table, name, None)
            if isinstance(path, Path) and not any(
                path.resolve().is_relative_to(folder) for folder in allowed
            ):
                said = "lies in none of the folders that `runs.recordings` of the daemon names"
                raise InputError(f"{path} {said}", key=f"{place}.{name}")
