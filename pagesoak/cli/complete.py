"""Shell completion, while somebody types: quick, and silent when it fails.

Names of runs are asked of the daemon, those of scenarios and policies are those there are.
"""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from pagesoak.daemon.client import Client

ANSWER_SECONDS_MAX = 1.0
"""Somebody waits for the letters of a name."""


def complete_run(ctx: Any, incomplete: str) -> list[tuple[str, str]]:
    """Names of runs that begin so, each with its state; none when no daemon answers."""
    return _begun(incomplete, lambda: ((run["run"], run["state"]) for run in _runs(ctx)))


def complete_going_run(ctx: Any, incomplete: str) -> list[tuple[str, str]]:
    """Those that go on."""

    def names() -> Iterable[tuple[str, str]]:
        return ((run["run"], run["state"]) for run in _runs(ctx) if run["pid"] is not None)

    return _begun(incomplete, names)


def complete_scenario(incomplete: str) -> list[tuple[str, str]]:
    """Built-in scenarios."""

    def names() -> Iterable[tuple[str, str]]:
        from pagesoak.base.scenario import builtin_names

        return ((name, "built in") for name in builtin_names())

    return _begun(incomplete, names)


ScenarioName = Annotated[
    str,
    typer.Argument(
        help="A built-in scenario, or a scenario file.", autocompletion=complete_scenario
    ),
]


def complete_policy(incomplete: str) -> list[tuple[str, str]]:
    """Policies that have a name, with who offers each."""

    def names() -> Iterable[tuple[str, str]]:
        from pagesoak.engine.policy_choice import offered

        return ((each.name, each.origin) for each in offered())

    return _begun(incomplete, names)


def one_of(words: Iterable[str]) -> Callable[[str], list[str]]:
    """Completes one of these words."""
    known = tuple(words)
    return lambda incomplete: [word for word in known if word.startswith(incomplete)]


def _runs(ctx: Any) -> list[dict[str, Any]]:
    client = Client(ctx.params.get("socket"), answer_seconds=ANSWER_SECONDS_MAX)
    found: list[dict[str, Any]] = client.get("/v1/runs")["runs"]
    return found


def _begun(
    incomplete: str, named: Callable[[], Iterable[tuple[str, str]]]
) -> list[tuple[str, str]]:
    """What begins so, each with what to say of it."""
    try:
        return [
            (str(name), str(said)) for name, said in named() if str(name).startswith(incomplete)
        ]
    except Exception:  # noqa: BLE001 - a message would stand in the middle of what is typed
        return []
