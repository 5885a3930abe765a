"""Soaks that are paused, resumed and changed while they run, through the daemon."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pagesoak.daemon.client import RefusedError
from tests.daemon_helper import LONG, SLOW_TEST_SECONDS_MAX, Daemon, wait_until
from tests.live_helper import scenario_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SLOW_TEST_SECONDS_MAX)]

RATE = 200
PACED = ({"kind": "steady", "target": "2MiB", "rate": RATE},)
QUICK = scenario_text(loads=PACED, duration="1h", reporting={"delay": "100ms"})
STILL_SECONDS = 1.0
"""Within this all workers of a paused run stand still, also where others want the processors."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, metrics=False) as started:
        yield started


def order(daemon: Daemon, what: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
    return daemon.client.post(f"/v1/runs/one/{what}", document)


def operations(daemon: Daemon) -> int:
    figures = daemon.record("one")["figures"]
    return int(figures["alloc_requests"] + figures["frees"])


def events(daemon: Daemon, kinds: set[str]) -> list[dict[str, Any]]:
    lines = (daemon.results / "one" / "events.jsonl").read_text().splitlines()
    return [event for line in lines if (event := json.loads(line))["kind"] in kinds]


def test_a_paused_run_stands_still_and_makes_nothing_up(daemon: Daemon) -> None:
    daemon.run("one", QUICK)
    wait_until(lambda: operations(daemon) > RATE)
    assert order(daemon, "pause")["state"] == "paused"
    time.sleep(STILL_SECONDS)
    before, record = operations(daemon), daemon.record("one")
    time.sleep(3 * STILL_SECONDS)
    assert operations(daemon) == before
    assert daemon.record("one")["elapsed_seconds"] == record["elapsed_seconds"]
    assert daemon.record("one")["state"] == "paused"
    assert daemon.client.get("/v1/status")["unwell"] == []
    assert "paused" in daemon.cli("list").out
    assert daemon.cli("resume", "one", "--json").summary["state"] == "running"
    wait_until(lambda: operations(daemon) > before)
    record = daemon.record("one")
    assert operations(daemon) - before <= RATE * (record["elapsed_seconds"] + STILL_SECONDS)
    daemon.cli("stop", "one")
    summary = json.loads((daemon.results / "one" / "summary.json").read_text())
    pause, resume = events(daemon, {"pause", "resume"})
    assert resume["paused_seconds"] == pytest.approx(summary["paused_seconds"])
    assert resume["monotonic_ns"] - pause["monotonic_ns"] == pytest.approx(
        summary["paused_seconds"] * 1e9, abs=1000
    )
    assert summary["duration_seconds"] < summary["wall_seconds"] - summary["paused_seconds"]
    assert summary["integrity"]["violations"] == 0


def test_a_paused_run_ends_in_order(daemon: Daemon) -> None:
    daemon.run("one", QUICK)
    order(daemon, "pause")
    stopped = daemon.cli("stop", "one", "--json").summary
    assert (stopped["state"], stopped["verdict"]) == ("ended", "pass")


def test_what_is_set_takes_effect_and_is_told(daemon: Daemon) -> None:
    daemon.run("one", QUICK)
    changed = daemon.cli("set", "one", "policy=halving", "delay=150ms", "load=4", "--json").summary
    assert changed["policy"] == "halving"
    assert changed["settings"] == {"policy": "halving", "delay_seconds": 0.15, "load": 4.0}
    # The device is registered again, which asks for a pass of no freed block.
    wait_until(lambda: len([e for e in events(daemon, {"notify"}) if e["pfn"] == -1]) == 2)
    assert "policy halving" in daemon.cli("status", "one").out
    order(daemon, "set", {"factor": 40, "host.latency": "1ms"})
    wait_until(lambda: events(daemon, {"set"})[1:])
    first, second = events(daemon, {"set"})
    assert (first["policy"], first["load"]) == ("halving", 4.0)
    assert (second["factor"], second["host_latency_seconds"]) == (40, 0.001)
    daemon.cli("stop", "one")
    summary = json.loads((daemon.results / "one" / "summary.json").read_text())
    assert (summary["policy"], summary["changes"]) == ("mainline", 2)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["policy=off"], "start one with off"),
        (["policy=halvin"], "halving"),
        (["factor=200", "delay=soon"], "factor.*\n.*delay"),
        (["load"], "KEY=VALUE"),
        (["load=2", "load=3"], "given twice"),
        (["seed=2"], "cannot be set while"),
    ],
)
def test_what_is_wrong_is_told_in_one_message(
    daemon: Daemon, values: list[str], said: str
) -> None:
    daemon.run("one", LONG)
    refused = daemon.cli("set", "one", *values)
    assert refused.code == 2
    assert "Traceback" not in refused.err
    assert re.search(said, refused.err), refused.err
    assert daemon.record("one")["settings"] == {}


def test_only_a_run_that_goes_on_can_be_steered(daemon: Daemon) -> None:
    with pytest.raises(RefusedError, match="no run named") as refused:
        order(daemon, "pause")
    assert refused.value.status == 404
    daemon.run("one", LONG)
    daemon.cli("stop", "one")
    for what, document in (("pause", None), ("resume", None), ("set", {"load": 2})):
        with pytest.raises(RefusedError, match="is ended") as refused:
            order(daemon, what, document)
        assert refused.value.status == 409
    with pytest.raises(RefusedError) as refused:
        order(daemon, "set", {"load": "x"})
    assert refused.value.status == 422


def test_a_guest_without_a_device_has_no_policy_to_change(daemon: Daemon) -> None:
    daemon.run("one", scenario_text(loads=PACED, duration="1h", reporting={"policy": "off"}))
    with pytest.raises(RefusedError, match="without a reporting device"):
        order(daemon, "set", {"policy": "mainline"})
    assert order(daemon, "set", {"load": 2})["settings"] == {"load": 2.0}


def test_orders_need_json_and_an_origin_of_ours(daemon: Daemon) -> None:
    daemon.run("one", LONG)
    for what in ("pause", "resume", "set"):
        for header, status in (
            (b"Content-Type: text/plain", b"415"),
            (b"Content-Type: application/json\r\nOrigin: http://evil.example", b"403"),
        ):
            head = f"POST /v1/runs/one/{what} HTTP/1.0\r\nHost: localhost\r\n".encode()
            answer = daemon.ask(head + header + b"\r\nContent-Length: 2\r\n\r\n{}")
            assert answer.split()[1] == status
    assert daemon.record("one")["state"] == "running"
