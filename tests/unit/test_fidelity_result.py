"""The words of a fidelity result, and what they look like as JSON."""

import json

from pagesoak.base.errors import InputError
from pagesoak.study.fidelity_result import (
    CheckResult,
    Demand,
    Divergence,
    Fault,
    NotChecked,
    holds,
)


def test_a_result_as_json() -> None:
    result = CheckResult(
        path="some/where",
        kind="timeline",
        kernel="6.1.0-1-amd64",
        figures={"scatterlists": {"exact": 1, "total": 2}},
        demands=(Demand("every scatterlist exact", holds=False),),
        divergences=(Divergence("reports.csv:4", "8/9", "10/9", "pass 2"),),
        not_checked=(NotChecked("first pass start", "trace.txt", "no cause", 1),),
        notes=("idle",),
    )
    text = json.dumps(result.as_json())
    assert json.loads(text) == {
        "path": "some/where",
        "kind": "timeline",
        "kernel": "6.1.0-1-amd64",
        "scatterlists": {"exact": 1, "total": 2},
        "holds": False,
        "demands": [{"text": "every scatterlist exact", "holds": False}],
        "divergences": [
            {"where": "reports.csv:4", "expected": "8/9", "got": "10/9", "doing": "pass 2"}
        ],
        "not_checked": [
            {"what": "first pass start", "where": "trace.txt", "reason": "no cause", "number": 1}
        ],
        "faults": [],
        "notes": ["idle"],
    }


def test_a_fault_or_a_broken_demand_and_it_does_not_hold() -> None:
    good = Demand("this", holds=True)
    assert holds(CheckResult("a", "trace", "", demands=(good, good)))
    assert not holds(CheckResult("a", "trace", "", demands=(good, Demand("that", holds=False))))
    assert not holds(CheckResult("a", "trace", "", demands=(good,), faults=(Fault("f:1", "x"),)))


def test_a_fault_keeps_the_place_a_reader_named() -> None:
    assert Fault.of(InputError("cut off", file="a.gz", line=7)) == Fault("a.gz:7", "cut off")
    assert str(Fault.of(InputError("is missing", file="a.gz"))) == "a.gz: is missing"
    assert str(Fault.of(InputError("no number", file="run.json", key="mem"))) == (
        "run.json: mem: no number"
    )
    assert str(Fault("", "nothing there")) == "nothing there"
