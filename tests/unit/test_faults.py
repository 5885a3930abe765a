"""Faults by name: what may be asked for, and a host that does wrong."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pagesoak.base.errors import InputError, InputErrors
from pagesoak.base.fault_point import POINTS
from pagesoak.base.faults import (
    CLOCK_JUMP,
    FAULTS,
    GUEST_POINTS,
    HOST_ANSWERS_TWICE,
    HOST_DIES,
    HOST_ERROR,
    HOST_FAULTS,
    HOST_PUNCHES_PARTLY,
    HOST_SLOW,
    KILL_GUEST,
    KILL_GUEST_LOCKED,
    POINT_NAMES,
    REPORTER_POINTS,
    STOP_HOST,
    VIRTUAL_FAULTS,
    FaultWanted,
    read_fault,
)
from pagesoak.base.layout_faults import H_HOST_FAULT, H_HOST_FAULT_AMOUNT
from pagesoak.base.scenario import parse_scenario
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import HOST_RANGES, LEDGER_BREACHES, read_statistics
from pagesoak.engine.prepare import prepare
from pagesoak.engine.virtual_faults import VirtualFaults
from pagesoak.host.faults import SegmentFaults
from tests.hostguest import HOST, Host, isolate, make_segment, stamped_pages
from tests.live_helper import scenario_text

BLOCKS = ((1024, 10), (2560, 9), (512, 3))


class Punched:
    """Remembers what is punched."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []

    def punch(self, first_pfn: int, pages: int) -> int:
        """As if all of it had been there."""
        self.ranges.append((first_pfn, pages))
        return pages * 4096


class Dying(SegmentFaults):
    """A host whose death is an exception."""

    def die(self) -> None:
        """Nobody else dies of it."""
        raise ProcessLookupError


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = make_segment()
    yield made
    made.close()


def served(segment: Segment, kind: str, amount_ns: int = 0) -> tuple[Host, Punched]:
    """A host that has served one call with a fault."""
    ram = Punched()
    host = Host(segment, ram, faults=Dying(segment))
    isolate(segment, 1, BLOCKS)
    segment.header[H_HOST_FAULT_AMOUNT] = amount_ns
    segment.header[H_HOST_FAULT] = HOST_FAULTS[kind]
    host.serve(1)
    return host, ram


# ---- the host ----


def test_a_slow_call_takes_longer_and_is_served(segment: Segment) -> None:
    host, ram = served(segment, HOST_SLOW, 7_000)
    assert host.now_ns == 1_007_000
    assert [answer.error for answer in host.answers] == [0]
    assert len(ram.ranges) == len(BLOCKS)


def test_a_failing_call_punches_nothing(segment: Segment) -> None:
    host, ram = served(segment, HOST_ERROR)
    assert [answer.error for answer in host.answers] == [errno.EIO]
    assert ram.ranges == []


def test_a_call_that_breaks_off_enters_what_it_punched_and_fails(segment: Segment) -> None:
    before = stamped_pages(segment)
    host, ram = served(segment, HOST_PUNCHES_PARTLY)
    assert [answer.error for answer in host.answers] == [errno.EIO]
    assert ram.ranges == [(1024, 1024), (2560, 256)]
    gone = set(range(1024, 2048)) | set(range(2560, 2816))
    assert stamped_pages(segment) == (before | set(range(2816, 3072)) | set(range(512, 520)))
    assert not stamped_pages(segment) & gone
    assert read_statistics(segment, HOST).counters[HOST_RANGES] == 1
    assert read_statistics(segment, HOST).counters[LEDGER_BREACHES] == 0


def test_a_host_that_dies_in_a_call_has_punched_half_and_entered_nothing_of_it(
    segment: Segment,
) -> None:
    with pytest.raises(ProcessLookupError):
        served(segment, HOST_DIES)
    assert set(range(2560, 2816)) <= stamped_pages(segment)


def test_an_answer_that_is_given_twice_is_the_same(segment: Segment) -> None:
    host, _ = served(segment, HOST_ANSWERS_TWICE)
    assert [(answer.request, answer.error) for answer in host.answers] == [(1, 0), (1, 0)]


def test_a_fault_is_of_one_call(segment: Segment) -> None:
    host, ram = served(segment, HOST_ERROR)
    isolate(segment, 2, BLOCKS)
    host.serve(2)
    assert [answer.error for answer in host.answers] == [errno.EIO, 0]
    assert len(ram.ranges) == len(BLOCKS)


# ---- what may be asked for ----


def test_points_and_kinds_are_known_in_both_places() -> None:
    assert tuple(POINTS) == POINT_NAMES
    assert {*GUEST_POINTS, *REPORTER_POINTS} == set(POINTS)
    assert set(VIRTUAL_FAULTS) - {CLOCK_JUMP} < set(HOST_FAULTS) < set(FAULTS)


def test_a_fault_is_read_from_plain_values() -> None:
    fields = {"fault": KILL_GUEST_LOCKED, "cpu": 1, "point": "refilling"}
    assert read_fault(fields) == FaultWanted(KILL_GUEST_LOCKED, 1, 1.0, "refilling")
    assert read_fault({"fault": STOP_HOST, "seconds": 2}) == FaultWanted(STOP_HOST, seconds=2.0)
    assert read_fault({"fault": KILL_GUEST}) == FaultWanted(KILL_GUEST)


@pytest.mark.parametrize(
    ("change", "key", "message"),
    [
        ({"fault": "kill-gest"}, "fault", "did you mean 'kill-guest'"),
        ({"fault": None}, "fault", "must be one of"),
        ({"fault": ["kill-guest"]}, "fault", "must be one of"),
        ({"cpu": True}, "cpu", "number of a guest CPU"),
        ({"cpu": -1}, "cpu", "number of a guest CPU"),
        ({"seconds": "1s"}, "seconds", "more than 0"),
        ({"seconds": 0}, "seconds", "more than 0"),
        ({"seconds": float("nan")}, "seconds", "more than 0"),
        ({"seconds": 1e400}, "seconds", "at most 3600"),
        ({"fault": KILL_GUEST_LOCKED, "point": "here"}, "point", "lock-taken"),
        ({"point": "lock-taken"}, "point", "kill-guest takes none; kill-guest-locked"),
        ({"fault": KILL_GUEST_LOCKED, "point": "putting-back"}, "point", "refilling"),
        ({"seconds": 3}, "seconds", "kill-guest takes none; stop-guest"),
        ({"fault": STOP_HOST, "cpu": 0}, "cpu", "stop-host takes none; kill-guest"),
        ({"odd": 1}, "odd", "no key"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_by_key(
    change: dict[str, Any], key: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        read_fault({"fault": KILL_GUEST} | change)
    assert refused.value.key == key


def test_a_scenario_has_no_faults_unless_it_says_so(tmp_path: Path) -> None:
    scenario = parse_scenario(scenario_text(), file="s.toml", folder=tmp_path)
    assert scenario.faults.every_ns is None


@pytest.mark.parametrize(
    "faults",
    [{"every": "1s", "kinds": ["kill-all"]}, {"every": "1s", "kinds": []}, {"every": "1ms"}],
)
def test_a_scenario_with_wrong_faults_is_refused(faults: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputErrors, match="faults"):
        parse_scenario(scenario_text(faults=faults), file="s.toml", folder=tmp_path)


# ---- on a virtual clock ----


def virtual_moments(
    faults: dict[str, Any], tmp_path: Path, call_every_ns: int = 200_000_000
) -> list[tuple[int, str]]:
    """When which faults happened in 30 s of a host that is called every so often."""
    scenario = parse_scenario(scenario_text(faults=faults), file="s.toml", folder=tmp_path)
    soak = prepare(scenario, virtual=True)
    try:
        found: list[tuple[int, str]] = []
        at = 0
        jumps: list[int] = []
        wanted = VirtualFaults(soak, lambda kind: found.append((at, kind)), jumps.append)
        for at in range(0, 30_000_000_000, 100_000_000):
            wanted.look(at)
            if at % call_every_ns == 0:
                SegmentFaults(soak.segment).of_call()
        wanted.end()
        assert soak.segment.header[H_HOST_FAULT] == 0
        assert jumps == [1_500_000_000 for _, kind in found if kind == CLOCK_JUMP]
        return found
    finally:
        soak.close()


def test_faults_on_a_virtual_clock_are_the_same_each_time(tmp_path: Path) -> None:
    faults = {"every": "1s", "kinds": list(VIRTUAL_FAULTS), "stopped_for": "1500ms"}
    found = virtual_moments(faults, tmp_path)
    assert virtual_moments(faults, tmp_path) == found
    assert 15 <= len(found) <= 60
    assert {kind for _, kind in found} == set(VIRTUAL_FAULTS)


def test_a_host_that_is_not_called_has_done_nothing_wrong(tmp_path: Path) -> None:
    faults = {"every": "100ms", "kinds": ["host-error"]}
    assert virtual_moments(faults, tmp_path, call_every_ns=60_000_000_000)[1:] == []
    seldom = virtual_moments(faults, tmp_path, call_every_ns=3_000_000_000)
    assert 8 <= len(seldom) <= 10


def test_a_fault_that_needs_processes_is_refused_on_a_virtual_clock(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a live run") as refused:
        virtual_moments({"every": "2s", "kinds": ["host-slow", "kill-host"]}, tmp_path)
    assert refused.value.key == "faults.kinds"


def test_the_host_that_dies_does_so_by_a_signal_that_cannot_be_caught(segment: Segment) -> None:
    pid = os.fork()
    if pid == 0:
        SegmentFaults(segment).die()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
