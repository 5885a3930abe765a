"""What the HTTP interface answers, asked without a socket: wrong methods and paths, wrong bodies,
wrong values. Nothing of that has anything done.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from pagesoak.base.run_name import RUN_NAME_WORDS
from pagesoak.daemon.api import Api
from pagesoak.daemon.openapi import description
from pagesoak.daemon.peer import STATE, Peer
from pagesoak.daemon.record import Record, State
from pagesoak.daemon.supervisor import UnknownRunError

ORDERS = ("stop", "pause", "resume")
"""Those that take no values."""
JSON = {"content-type": "application/json"}
SHOWN = "GET, HEAD"
IDLE = 'name = "x"\nduration = "1s"\n[guest]\nmemory = "64MiB"\n[[load]]\nkind = "idle"\n'


class Supervisor:
    """One with one run, `soak`, which does nothing but write down what it was told."""

    class config:  # noqa: N801 - an attribute of the supervisor
        """What the routes read of it."""

        hosts = ()
        recordings = ()

    def __init__(self) -> None:
        self.done: list[str] = []

    def get(self, run: str) -> Record:
        """As the true one."""
        if run != "soak":
            raise UnknownRunError(f"there is no run named {run!r}")
        return RECORD

    def directory(self, run: str) -> Path:
        """As the true one."""
        return Path(self.get(run).directory)

    def live(self, _run: str) -> None:
        """The run is over."""

    def live_runs(self) -> list[None]:
        """None goes on."""
        return []

    def start(self, run: str, *_: Any) -> tuple[Record, bool]:
        """Written down."""
        self.done.append(f"start {run}")
        return RECORD, True

    def stop(self, run: str) -> Record:
        """Written down."""
        self.done.append(f"stop {run}")
        return RECORD

    async def order(self, run: str, what: str) -> Record:
        """Written down."""
        self.done.append(f"{what} {run}")
        return RECORD


RECORD = Record(
    run="soak", state=State.ENDED, scenario="x", policy="off", seed=1, duration_seconds=1.0,
    started="", directory="/nowhere",
)  # fmt: skip


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    document: dict[str, Any]

    @property
    def mistakes(self) -> dict[str, str]:
        """What is wrong, by key."""
        return {each["key"]: each["detail"] for each in self.document["errors"]}


class Asked:
    """The interface, with what its supervisor was told."""

    def __init__(self) -> None:
        self.supervisor = Supervisor()
        api = Api(self.supervisor, CollectorRegistry(), lambda: False)  # type: ignore[arg-type]
        self.places = {"control": api.control(), "metrics": api.metrics_only()}

    def __call__(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        place: str = "control",
        host: str = "localhost",
    ) -> Answer:
        """What a request is answered."""
        path, _, query = target.partition("?")
        given = {"host": host, **(headers or {})}
        scope = {
            "type": "http", "method": method, "path": path, "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "state": {STATE: Peer(1, os.geteuid(), 0)},
        }  # fmt: skip
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.places[place](scope, receive, send))
        named = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        content = b"".join(message.get("body", b"") for message in sent[1:])
        return Answer(sent[0]["status"], named, json.loads(content))


@pytest.fixture
def ask() -> Asked:
    return Asked()


# ---- paths and methods ----


@pytest.mark.parametrize("headers", [{}, JSON, {"content-type": "text/plain"}])
@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("DELETE", "/v1/runs/soak", SHOWN),
        ("OPTIONS", "/v1/runs", "GET, HEAD, POST"),
        ("PUT", "/v1/runs", "GET, HEAD, POST"),
        ("POST", "/metrics", SHOWN),
        ("POST", "/v1/runs/soak/events", SHOWN),
        ("PATCH", "/v1/runs/soak/view", SHOWN),
        *(("GET", f"/v1/runs/soak/{order}", "POST") for order in (*ORDERS, "set", "chaos")),
        ("HEAD", "/v1/runs/soak/stop", "POST"),
        ("DELETE", "/v1/runs/soak/stop", "POST"),
    ],
)
def test_a_method_that_a_path_has_not_is_told_those_that_it_has(
    ask: Asked, method: str, target: str, allowed: str, headers: dict[str, str]
) -> None:
    answer = ask(method, target, headers)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert answer.document["detail"].endswith(f"but with {allowed}")
    assert ask.supervisor.done == []


@pytest.mark.parametrize("headers", [{}, JSON])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_what_a_run_has_not_is_told_what_it_has(
    ask: Asked, method: str, headers: dict[str, str]
) -> None:
    answer = ask(method, "/v1/runs/soak/nope", headers)
    assert answer.status == 404
    shown, orders = answer.document["detail"].split(" to look at, and takes the orders ")
    assert shown == "a run has `events`, `live`, `logs`, `view`"
    assert orders == "`chaos`, `pause`, `resume`, `set`, `stop`"
    assert "allow" not in answer.headers


def test_where_no_runs_are_shown_nothing_is_said_of_them(ask: Asked) -> None:
    for target in ("/v1/runs/soak/nope", "/v1/runs/soak/stop"):
        answer = ask("POST", target, JSON, place="metrics")
        assert (answer.status, answer.document["detail"]) == (404, "there is nothing here")


def test_host_and_origin_are_looked_at_before_path_and_method(ask: Asked) -> None:
    for target in ("/v1/runs/soak", "/v1/runs/soak/nope", "/v1/runs/soak/stop"):
        assert ask("DELETE", target, host="evil.example").status == 421
        assert ask("DELETE", target, {"origin": "http://evil.example"}).status == 403


@pytest.mark.parametrize("target", ["/v1/runs", *(f"/v1/runs/soak/{order}" for order in ORDERS)])
def test_what_changes_something_needs_json(ask: Asked, target: str) -> None:
    for headers in ({}, {"content-type": "text/plain"}, {"content-type": "application/jsonp"}):
        assert ask("POST", target, headers, b"{}").status == 415
    assert ask.supervisor.done == []


# ---- bodies ----


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("body", [b"", b"{}", b" {} "])
def test_an_order_without_values_takes_an_empty_object_or_no_body(
    ask: Asked, order: str, body: bytes
) -> None:
    assert ask("POST", f"/v1/runs/soak/{order}", JSON, body).status == 200
    assert ask.supervisor.done == [f"{order} soak"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"not json", 400, "no JSON document"),
        (b" ", 400, "no JSON document"),
        (b"[1]", 422, "must be an object"),
        (b"null", 422, "must be an object"),
        (b'{"x": 1}', 422, "x: this order takes no values"),
        (b'{"\\ud800": 1}', 400, "no Unicode"),
    ],
)
def test_an_order_without_values_takes_nothing_else(
    ask: Asked, order: str, body: bytes, status: int, said: str
) -> None:
    answer = ask("POST", f"/v1/runs/soak/{order}", JSON, body)
    assert answer.status == status
    assert said in answer.document["detail"]
    assert ask.supervisor.done == []


def test_all_keys_that_an_order_does_not_take_are_named(ask: Asked) -> None:
    answer = ask("POST", "/v1/runs/soak/pause", JSON, b'{"x": 1, "y": 2}')
    assert answer.mistakes.keys() == {"x", "y"}


def test_the_description_has_a_body_for_every_order() -> None:
    document = description()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert ("requestBody" in operation) == (method == "post"), path
    for order in ORDERS:
        body = document["paths"][f"/v1/runs/{{run}}/{order}"]["post"]["requestBody"]
        assert body["required"] is True
        (name,) = (
            content["schema"]["$ref"].rpartition("/")[2]
            for kind, content in body["content"].items()
            if kind == "application/json"
        )
        schema = document["components"]["schemas"][name]
        assert (schema["type"], schema["additionalProperties"]) == ("object", False)
        assert "properties" not in schema


# ---- the start of a run ----


def start(ask: Asked, **wanted: Any) -> Answer:
    return ask("POST", "/v1/runs", JSON, json.dumps({"run": "x", **wanted}).encode())


@pytest.mark.parametrize("name", ["A_B", "", "-a", "a" * 65, "a\n", "../x"])
def test_a_name_that_no_run_may_have_is_told_what_a_name_is(ask: Asked, name: str) -> None:
    answer = start(ask, run=name, scenario="idle-512m")
    assert answer.status == 422
    assert answer.mistakes == {"run": RUN_NAME_WORDS}
    assert answer.document["detail"] == f"run: {RUN_NAME_WORDS}"


@pytest.mark.parametrize("duration", ["30q", "", "0", "soon", "99999999d", 7])
def test_a_wrong_duration_is_told_by_its_key(ask: Asked, duration: object) -> None:
    answer = start(ask, scenario="idle-512m", duration=duration)
    assert answer.status == 422
    assert answer.mistakes.keys() == {"duration"}
    assert answer.document["detail"].startswith("duration: ")


@pytest.mark.parametrize("seed", [-1, 1 << 63, "7", 1.5, True])
def test_a_wrong_seed_is_told_by_its_key(ask: Asked, seed: object) -> None:
    answer = start(ask, scenario="idle-512m", seed=seed)
    assert answer.status == 422
    assert answer.mistakes.keys() == {"seed"}
    assert answer.mistakes["seed"].startswith("must be ")


def test_everything_wrong_with_a_start_is_told_at_once(ask: Asked) -> None:
    wrong = {"run": "A_B", "duration": "30q", "policy": "halvin", "seed": "x", "odd": 1}
    assert start(ask, scenario="idle-512", **wrong).mistakes.keys() == wrong.keys() | {"scenario"}
    assert start(ask, **wrong).mistakes.keys() == wrong.keys() | {"scenario, scenario_toml"}
    broken = IDLE.replace("64MiB", "64")
    answer = start(ask, scenario_toml=broken, **wrong)
    assert answer.mistakes.keys() == wrong.keys() | {"guest.memory"}
    assert "guest.memory" not in start(ask, scenario_toml=IDLE, **wrong).mistakes
    assert "pydantic" not in answer.document["detail"]
    assert ask.supervisor.done == []


def test_a_right_start_is_done(ask: Asked) -> None:
    right = {"duration": "30d", "policy": "halving", "seed": 7}
    assert start(ask, scenario_toml=IDLE, **right).status == 201
    assert start(ask, scenario="idle-512m", duration=None).status == 201
    assert ask.supervisor.done == ["start x", "start x"]


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"7"])
def test_a_start_that_is_no_object_is_told_so(ask: Asked, body: bytes) -> None:
    answer = ask("POST", "/v1/runs", JSON, body)
    assert answer.status == 422
    assert answer.document["detail"] == "the body must be an object: values by key"


# ---- what stands behind the question mark ----


@pytest.mark.parametrize(
    ("target", "keys"),
    [
        ("/v1/runs/soak/events?follow=maybe", ["follow"]),
        ("/v1/runs/soak/logs?after=xyz", ["after"]),
        ("/v1/runs/soak/events?after=-1&follow=", ["after", "follow"]),
        ("/v1/runs/soak/view?from=x", ["from"]),
        ("/v1/runs/soak/view?from=nan&to=-1", ["from", "to"]),
        ("/v1/runs/soak/view?from=2&to=1", ["to"]),
        ("/metrics/guest", ["run"]),
    ],
)
def test_a_wrong_parameter_is_told_by_its_name(ask: Asked, target: str, keys: list[str]) -> None:
    answer = ask("GET", target)
    assert answer.status == 422
    assert list(answer.mistakes) == keys
    assert answer.document["detail"].count("\n") == len(keys) - 1


def test_a_wrong_place_in_the_header_is_told_by_the_headers_name(ask: Asked) -> None:
    answer = ask("GET", "/v1/runs/soak/events", {"last-event-id": "x"})
    assert list(answer.mistakes) == ["Last-Event-ID"]
