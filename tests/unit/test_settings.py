"""What may be changed while a soak runs: what is read, what is refused, and by which key."""

from pathlib import Path
from typing import Any

import pytest

from pagesoak.base.errors import InputErrors
from pagesoak.base.scenario import Scenario, parse_scenario
from pagesoak.engine.policy_choice import check_installed
from pagesoak.engine.settings import KEYS, NO_FACTOR, Change, check_change, parse_change
from pagesoak.engine.wishes import Wishes
from tests.live_helper import scenario_text

STEADY = {"kind": "steady", "target": "2MiB"}
BURSTS = {"kind": "bursts", "leave_free": "8MiB", "burst": "4MiB", "think": "1s", "hold": "0s"}


def parsed(document: dict[str, Any]) -> Change:
    return parse_change(document, check_installed)


def scenario(*loads: dict[str, Any]) -> Scenario:
    return parse_scenario(
        scenario_text(loads=loads), file="t.toml", folder=Path(), policies=check_installed
    )


def keys_refused(change: dict[str, Any]) -> set[str | None]:
    with pytest.raises(InputErrors) as refused:
        parsed(change)
    return {error.key for error in refused.value.errors}  # type: ignore[attr-defined]


def test_a_change_is_read_from_texts_and_numbers() -> None:
    document = {
        "policy": "halving:budget=shift",
        "factor": 50,
        "delay": "1500ms",
        "host.latency": "5ms",
        "host.latency_per_mib": "1us",
        "load": "0.5",
    }
    assert document.keys() == KEYS.keys()
    change = parsed(document)
    assert change == Change("halving:budget=shift", 50, 1_500_000_000, 5_000_000, 1000, 500_000)
    assert change.document() == {
        "policy": "halving:budget=shift",
        "factor": 50,
        "delay_seconds": 1.5,
        "host_latency_seconds": 0.005,
        "host_latency_per_mib_seconds": 1e-6,
        "load": 0.5,
    }


def test_the_factor_can_be_taken_away() -> None:
    change = parsed({"factor": "none"})
    assert change.factor_percent == NO_FACTOR
    assert change.document() == {"factor": None}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("policy", "halvin"), ("policy", "mine.py:Policy"), ("policy", "reserve:odd=1"),
        ("factor", "101"), ("factor", "-1"), ("factor", "x"), ("factor", 1.5), ("factor", True),
        ("delay", "5"), ("delay", "2h"), ("delay", 5), ("delay", "-1s"),
        ("host.latency", "soon"), ("host.latency_per_mib", None),
        ("load", "0"), ("load", "nan"), ("load", "inf"), ("load", "101"), ("load", "1e400"),
        ("load", "-2"), ("load", "9" * 2000), ("load", [1]), ("latency", "5ms"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_its_key(key: str, value: object) -> None:
    assert keys_refused({key: value}) == {key}


def test_all_mistakes_are_told_at_once() -> None:
    assert keys_refused({"factor": "x", "load": "x", "odd": "x"}) == {"factor", "load", "odd"}
    assert keys_refused({}) == {None}


def test_a_later_change_leaves_the_rest_of_an_earlier_one() -> None:
    first, second = Change(delay_ns=5, pace_ppm=7), Change(policy="off", pace_ppm=9)
    assert second.over(first) == Change(policy="off", delay_ns=5, pace_ppm=9)


def test_a_guest_without_a_device_has_only_its_load_changed() -> None:
    paced = scenario({**STEADY, "rate": 5})
    check_change(Change(pace_ppm=5), paced, has_device=False)
    everything = parsed(
        {"policy": "mainline", "factor": 1, "delay": "1s", "host.latency": "1s", "load": 1}
    )
    with pytest.raises(InputErrors) as refused:
        check_change(everything, paced, has_device=False)
    keys = {error.key for error in refused.value.errors}  # type: ignore[attr-defined]
    assert keys == {"policy", "factor", "delay", "host.latency"}


def test_off_is_no_policy_for_a_guest_that_runs() -> None:
    with pytest.raises(InputErrors, match="start one with off"):
        check_change(Change(policy="off"), scenario(STEADY), has_device=True)


@pytest.mark.parametrize(
    ("load", "paced"),
    [
        (STEADY, False),
        ({**STEADY, "rate": 5}, True),
        ({"kind": "files", "files": "4MiB"}, False),
        ({"kind": "files", "files": "4MiB", "rate": 5}, True),
        ({"kind": "idle"}, False),
        (
            {
                "kind": "bursts",
                "leave_free": "8MiB",
                "burst": "4MiB",
                "think": "1s",
                "hold": "0s",
            },
            True,
        ),
    ],
)
def test_a_load_that_has_no_pace_takes_none(load: dict[str, Any], paced: bool) -> None:
    change = Change(pace_ppm=2_000_000)
    if paced:
        check_change(change, scenario(load), has_device=True)
    else:
        with pytest.raises(InputErrors, match="has a pace"):
            check_change(change, scenario(load), has_device=True)


# ---- the page that workers read it from ----


def test_wishes_say_what_was_written_last() -> None:
    wishes = Wishes()
    assert wishes.read() == (0, Change())
    change = Change("reserve", NO_FACTOR, 0, 5, 6, 500_000)
    wishes.write(change)
    assert wishes.read() == (1, change)
    wishes.write(Change(policy="off", delay_ns=1))
    assert wishes.read() == (2, Change(policy="off", delay_ns=1))
    assert not wishes.paused
    wishes.pause(paused=True)
    assert wishes.paused
    wishes.close()


def test_the_longest_policy_text_has_room() -> None:
    wishes = Wishes()
    text = "\u10ff" * 1000
    wishes.write(Change(policy=text))
    assert wishes.read()[1].policy == text
    wishes.close()
