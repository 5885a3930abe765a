"""Orders as the runner carries them out: wishes, the soak's clock, events, answers."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pagesoak.base import layout
from pagesoak.base.layout_steering import H_PAUSED_NS, H_PAUSED_SINCE_NS
from pagesoak.base.scenario import parse_scenario
from pagesoak.engine.line import Line
from pagesoak.engine.policy_choice import check_installed
from pagesoak.engine.settings import Change
from pagesoak.engine.soak_clock import elapsed_ns, paused_ns
from pagesoak.engine.steering import Steering
from pagesoak.engine.wishes import Wishes
from tests.live_helper import scenario_text

LOADS = ({"kind": "steady", "target": "2MiB", "rate": 100},)


class Desk:
    """A steering with the daemon's end of its line, and what it has written down."""

    def __init__(self, *, has_device: bool = True) -> None:
        self.daemon, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.daemon.setblocking(False)
        self.header = [0] * layout.HEADER_WORDS
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.wishes = Wishes()
        soak: Any = SimpleNamespace(
            segment=SimpleNamespace(header=self.header),
            scenario=parse_scenario(
                scenario_text(loads=LOADS), file="t", folder=Path(), policies=check_installed
            ),
        )
        directory: Any = SimpleNamespace(
            write_event=lambda _ns, _worker, kind, fields: self.events.append((kind, fields))
        )
        line = Line(theirs.detach())
        self.steering = Steering(line, self.wishes, soak, directory, has_device=has_device)
        self._given = 0

    def order(self, do: str, **more: object) -> dict[str, Any]:
        """The answer to an order."""
        self._given += 1
        self.daemon.send(json.dumps({"do": do, "order": self._given, **more}).encode())
        self.steering.heed()
        said: dict[str, Any] = json.loads(self.daemon.recv(1 << 16))
        assert said.pop("order") == self._given
        return said


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.daemon.close()


def test_a_pause_stops_the_clock_until_it_is_over(desk: Desk) -> None:
    assert desk.order("pause") == {"say": "done", "paused": True, "settings": {}}
    assert desk.wishes.paused
    since = desk.header[H_PAUSED_SINCE_NS]
    assert since > 0
    desk.order("pause")
    assert desk.header[H_PAUSED_SINCE_NS] == since
    assert desk.order("resume")["paused"] is False
    assert not desk.wishes.paused
    assert desk.header[H_PAUSED_NS] > 0
    desk.order("resume")
    assert [kind for kind, _ in desk.events] == ["pause", "resume"]
    assert desk.events[1][1]["paused_seconds"] == pytest.approx(desk.header[H_PAUSED_NS] / 1e9)


def test_the_end_of_a_run_ends_its_pause(desk: Desk) -> None:
    desk.order("pause")
    desk.steering.end()
    assert not desk.wishes.paused
    assert desk.header[H_PAUSED_SINCE_NS] == 0
    desk.steering.end()


def test_what_is_set_is_wished_written_down_and_told(desk: Desk) -> None:
    answer = desk.order("set", settings={"policy": "halving", "delay": "1s"})
    assert answer["settings"] == {"policy": "halving", "delay_seconds": 1.0}
    answer = desk.order("set", settings={"load": 2})
    assert answer["settings"] == {"policy": "halving", "delay_seconds": 1.0, "load": 2.0}
    wished = Change(policy="halving", delay_ns=1_000_000_000, pace_ppm=2_000_000)
    assert desk.wishes.read() == (2, wished)
    first, second = desk.events
    assert first == ("set", {"policy": "halving", "delay_seconds": 1.0})
    assert second == ("set", {"load": 2.0})
    assert desk.steering.changes == 2


@pytest.mark.parametrize(
    "settings", [{"policy": "off"}, {"policy": "no-such"}, {"factor": "x"}, {}]
)
def test_what_cannot_be_set_changes_nothing(desk: Desk, settings: dict[str, str]) -> None:
    assert desk.order("set", settings=settings)["say"] == "not done"
    assert desk.wishes.read() == (0, Change())
    assert desk.events == []
    assert desk.steering.changes == 0


def test_a_guest_without_a_device_takes_no_policy() -> None:
    desk = Desk(has_device=False)
    assert "without a reporting device" in desk.order("set", settings={"delay": "1s"})["message"]
    desk.daemon.close()


def test_more_orders_than_are_kept_are_dropped_oldest_first() -> None:
    desk = Desk()
    for number in range(80):
        desk.daemon.send(json.dumps({"do": "pause", "order": number}).encode())
    desk.steering.heed()
    answered = [json.loads(desk.daemon.recv(1 << 16))["order"] for _ in range(64)]
    assert answered == list(range(16, 80))
    desk.daemon.close()


def test_the_soaks_clock_leaves_pauses_out() -> None:
    header = [0] * layout.HEADER_WORDS
    assert elapsed_ns(header, 100) is None
    header[layout.H_STARTED_AT_NS] = 100
    assert elapsed_ns(header, 150) == 50
    header[H_PAUSED_SINCE_NS] = 120
    assert elapsed_ns(header, 150) == elapsed_ns(header, 190) == 20
    header[H_PAUSED_SINCE_NS], header[H_PAUSED_NS] = 0, 70
    assert (elapsed_ns(header, 200), paused_ns(header, 200)) == (30, 70)
