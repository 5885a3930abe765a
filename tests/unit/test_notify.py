"""The protocol of the service manager, over a real datagram socket."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagesoak.daemon.notify import Notifier, forget

PID = 4711


class Manager:
    """The service manager's end; `named` is what NOTIFY_SOCKET says."""

    def __init__(self, address: str, named: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": named}

    def told(self) -> list[str]:
        """Every datagram that has come."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(1 << 16).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        """Nobody listens any more."""
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    if request.param == "path":
        made = Manager(str(tmp_path / "n"), str(tmp_path / "n"))
    else:
        made = Manager(f"\0pagesoak{tmp_path.name}", f"@pagesoak{tmp_path.name}")
    yield made
    made.close()


def test_everything_is_told_as_the_protocol_has_it(manager: Manager) -> None:
    notifier = Notifier({**manager.environment, "WATCHDOG_USEC": "30000000"}, PID)
    notifier.ready()
    notifier.status("2 runs\ngoing\x1b on")
    notifier.alive()
    notifier.reloading()
    notifier.stopping()
    told = manager.told()
    assert told[:3] == ["READY=1", "STATUS=2 runsgoing on", "WATCHDOG=1"]
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", told[3])
    assert told[4:] == ["STOPPING=1"]


def test_a_sign_of_life_is_given_only_to_who_wants_one(manager: Manager) -> None:
    notifier = Notifier(manager.environment, PID)
    assert notifier.watchdog_seconds is None
    notifier.alive()
    assert manager.told() == []


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(PID)}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_the_one_of_this_process(
    variables: dict[str, str], seconds: float | None
) -> None:
    assert Notifier(variables, PID).watchdog_seconds == seconds


@pytest.mark.parametrize("named", ["", "@", "relative", "/no/such/socket", "/" + "x" * 500])
def test_a_service_manager_that_is_not_there_is_no_trouble(named: str) -> None:
    Notifier({"NOTIFY_SOCKET": named}, PID).ready()


def test_a_service_manager_that_does_not_listen_holds_nobody_up(manager: Manager) -> None:
    notifier = Notifier(manager.environment, PID)
    for _ in range(2000):
        notifier.status("x" * 150)
    assert 0 < len(manager.told()) < 2000


def test_what_is_executed_hears_nothing_of_it() -> None:
    environment = {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/h"}
    forget(environment)
    assert environment == {"HOME": "/h"}
