"""What a client may ask a run to be, checked before a process is made for it.

A scenario comes by the name of a built-in one or as the text of a file. What it reads (recording,
snapshot, trace) must lie in a folder that the configuration names: who may start runs is not
thereby allowed to read every file of the daemon's user. A policy is built in or installed; a file
that a request names would be loaded as code.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pagesoak.base.errors import InputError, InputErrors
from pagesoak.base.scenario import Scenario, builtin_names, find_scenario, load_scenario
from pagesoak.base.scenario import parse_scenario as parse_text
from pagesoak.base.scenario_file import FILE_BYTES_MAX, suggestion
from pagesoak.base.units import parse_duration_ns
from pagesoak.daemon.record import RUN_NAME
from pagesoak.engine.policy_choice import check_installed

SCENARIO_CHARS_MAX = 64
"""Of the name of a built-in scenario."""
TEXT_CHARS_MAX = 1_000
"""Of a policy with its options, or a duration."""
SEED_MAX = (1 << 63) - 1
"""What a signed word of the segment holds."""


class StartRequest(BaseModel):
    """The body of a request to start a run; exactly one of the two scenarios is given."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    run: Annotated[str, Field(pattern=f"^{RUN_NAME}$")]
    scenario: Annotated[str, Field(max_length=SCENARIO_CHARS_MAX)] | None = None
    scenario_toml: Annotated[str, Field(max_length=FILE_BYTES_MAX)] | None = None
    policy: Annotated[str, Field(max_length=TEXT_CHARS_MAX)] | None = None
    duration: Annotated[str, Field(max_length=TEXT_CHARS_MAX)] | None = None
    seed: Annotated[int, Field(ge=-SEED_MAX, le=SEED_MAX)] | None = None


def read_request(document: Any) -> StartRequest:
    """A request from JSON; InputErrors with everything wrong with it, by key."""
    try:
        request = StartRequest.model_validate(document)
    except ValidationError as error:
        raise InputErrors(
            InputError(_said(details["msg"]), key=".".join(map(str, details["loc"])) or None)
            for details in error.errors(include_url=False, include_input=False)
        ) from error
    if (request.scenario is None) == (request.scenario_toml is None):
        said = "exactly one of the two must be given: a built-in name, or the text of a file"
        raise InputErrors([InputError(said, key="scenario, scenario_toml")])
    return request


def _said(message: str) -> str:
    return message[:1].lower() + message[1:]


def resolve(request: StartRequest, recordings: Sequence[Path]) -> Scenario:
    """The scenario that the request means; InputError(s) with everything wrong with it."""
    check = check_installed
    if request.scenario is not None:
        if request.scenario not in builtin_names():
            close = suggestion(request.scenario, builtin_names())
            raise InputError(f"no built-in scenario {request.scenario!r}{close}", key="scenario")
        scenario = load_scenario(find_scenario(request.scenario), policies=check)
    else:
        text = request.scenario_toml or ""
        scenario = parse_text(text, file="scenario", folder=Path("/"), policies=check)
        _check_places(scenario, recordings)
    duration_ns = None
    if request.duration is not None:
        duration_ns = parse_duration_ns(request.duration)
    if request.policy is not None:
        check(request.policy)
    return scenario.with_overrides(
        policy=request.policy, duration_ns=duration_ns, seed=request.seed
    )


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
