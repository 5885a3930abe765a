"""Wrong reporters that must be caught (docs/model.md, 9.5): planted in a copy, a named case fails.

A mutant is one change of the source text. The copy is run as plain Python, in a process of its
own.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = "test_reporting_cycle.py"
POLICY_CASES = "test_policies.py"
HEADROOM_CASES = "test_headroom.py"
DEMAND_CASES = "test_demand.py"
COPIED = (
    "tests/zone_helper.py",
    "tests/reporting_driver.py",
    f"tests/unit/{CASES}",
    f"tests/unit/{POLICY_CASES}",
    f"tests/unit/{HEADROOM_CASES}",
    f"tests/unit/{DEMAND_CASES}",
)
PACKAGES = ("base", "allocator", "reporter")
CYCLE = "reporter/cycle.py"
REQUEST = "reporter/request.py"
GATE = "reporter/gate.py"
SCATTERLIST = "reporter/scatterlist.py"
ISOLATION = "allocator/isolation.py"
DEMAND = "allocator/demand.py"
HEADROOM = "reporter/policies/headroom.py"
SETTINGS = {
    "NUMBA_DISABLE_JIT": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


class Mutant(NamedTuple):
    """In `file`, `before` becomes `after`; the test case `caught_by` must fail."""

    file: str
    before: str
    after: str
    caught_by: str
    cases: str = CASES


MUTANTS = {
    "budget tested as at most 0": Mutant(
        CYCLE, "if report[R_BUDGET] < 0:", "if report[R_BUDGET] <= 0:", "RP-3"
    ),
    "isolation tested against low": Mutant(
        ISOLATION,
        "mark = core.zones[zone * ZONE_WORDS + Z_WMARK_MIN]",
        "mark = core.zones[zone * ZONE_WORDS + Z_WMARK_MIN + 1]",
        "RP-20 and 33615",
    ),
    "isolation tested with the boost": Mutant(
        ISOLATION,
        "mark = core.zones[zone * ZONE_WORDS + Z_WMARK_MIN]",
        "mark = sum(core.zones[zone * ZONE_WORDS + Z_WMARK_MIN + word] for word in (0, 3))",
        "isolation_knows_no_boost and 1524",
    ),
    "put back at the head": Mutant(
        REQUEST, "flags = SKIP_REPORT_NOTIFY | TO_TAIL", "flags = SKIP_REPORT_NOTIFY", "RP-9"
    ),
    "put back notifies": Mutant(
        REQUEST, "flags = SKIP_REPORT_NOTIFY | TO_TAIL", "flags = TO_TAIL", "RP-2"
    ),
    "no rotation": Mutant(CYCLE, "if pfn != head and", "if taken < 0 and", "RP-10 and behind"),
    "Reported kept on a merge in the drain": Mutant(
        REQUEST,
        "if error == 0 and page_is_buddy(core, zone, pfn, order):",
        "if error == 0:",
        "RP-12 and leftover and lower",
    ),
    "state of the isolated block kept on a merge": Mutant(
        REQUEST, "        set_block(core.pages, pfn, 0)\n", "", "RP-12 and leftover and upper"
    ),
    "Reported although the report failed": Mutant(
        REQUEST,
        "if error == 0 and page_is_buddy(core, zone, pfn, order):",
        "if page_is_buddy(core, zone, pfn, order):",
        "RP-11",
    ),
    "page block keeps its type": Mutant(
        ISOLATION, "] = MOVABLE", "] = pageblock_type(core, pfn)", "RP-14"
    ),
    "nothing left over is reported": Mutant(
        "reporter/passes.py", "if offset < REPORTING_CAPACITY and", "if offset < 0 and", "RP-2"
    ),
    "gate asks for at least": Mutant(
        GATE,
        "core.report[R_CAPACITY] << core.report[R_ORDER]",
        "(core.report[R_CAPACITY] << core.report[R_ORDER]) - 1",
        "RP-20 and 17231",
    ),
    "B-7: put back from the offset, which is reset by then": Mutant(
        REQUEST,
        "    index = report[R_START]\n",
        "    report[R_OFFSET] = REPORTING_CAPACITY\n    index = NO_ENTRY\n",
        "B-10 and div",
        POLICY_CASES,
    ),
    "B-8: the reserve tested one entry too late": Mutant(
        CYCLE,
        "if report[R_OFFSET] <= REPORTING_CAPACITY - wanted.capacity:",
        "if report[R_OFFSET] < REPORTING_CAPACITY - wanted.capacity:",
        "B-8",
        POLICY_CASES,
    ),
    "P4-5: a part that does not end at the last entry": Mutant(
        SCATTERLIST,
        "clear_entries(core, REPORTING_CAPACITY - count, count)",
        "clear_entries(core, 0, count)",
        "P4-5",
        POLICY_CASES,
    ),
    "P4-5: a part initialised with too small a count": Mutant(
        SCATTERLIST,
        "clear_entries(core, REPORTING_CAPACITY - count, count)",
        "clear_entries(core, REPORTING_CAPACITY - count, count - 1)",
        "P4-5",
        POLICY_CASES,
    ),
    "P4-6: the threshold worked out again at each order": Mutant(
        "reporter/policies/order_threshold.py",
        'context if self.threshold == "once" else order_threshold(view)',
        "order_threshold(view)",
        "P4-6 and test_batches",
        POLICY_CASES,
    ),
    "P4-6: a part initialised over what is pending": Mutant(
        SCATTERLIST,
        "if core.report[R_OFFSET] != REPORTING_CAPACITY:",
        "if core.report[R_OFFSET] < 0:",
        "worked_out_again_would_lose",
        POLICY_CASES,
    ),
    "the budget read as shift is not shifted": Mutant(
        "reporter/policies/halving.py",
        "budget_shift=order - reporting_order",
        "budget_shift=0",
        "A-3 and shift",
        POLICY_CASES,
    ),
    "a capacity of 0": Mutant(
        "reporter/policies/bounds.py",
        "return max(1, (capacity << reporting_order) >> order)",
        "return (capacity << reporting_order) >> order",
        "test_capacities_of_halving",
        POLICY_CASES,
    ),
    "the threshold with a full list that just fits": Mutant(
        "reporter/policies/order_threshold.py",
        "if view.capacity << order > room_pages:",
        "if view.capacity << order >= room_pages:",
        "P4-2 and 33615",
        POLICY_CASES,
    ),
    "no flush at an order's end": Mutant(
        "reporter/policies/order_threshold.py",
        "flush_after=order + 1 >= threshold",
        "flush_after=False",
        "P4-4 and test_batches",
        POLICY_CASES,
    ),
    "the estimate of the factor counts what is pending exactly": Mutant(
        "reporter/factor.py",
        "return pending_entries << order",
        "return pending_entries << PAGEBLOCK_ORDER",
        "F-1 and too_early",
        POLICY_CASES,
    ),
    "the floor is not tested under the lock": Mutant(
        CYCLE,
        "if core.zones[zone * ZONE_WORDS + Z_FREE_PAGES] - (1 << order) < wanted.leave_free:",
        "if wanted.leave_free < 0:",
        "faster_than_the_lock",
        HEADROOM_CASES,
    ),
    "what a report brought home is not free": Mutant(
        HEADROOM,
        "free, pending = free + view.pending_pages, 0",
        "pending = 0",
        "every_isolation or brought_home",
        HEADROOM_CASES,
    ),
    "the boost is left out of the floor": Mutant(
        HEADROOM,
        "view.high_pages + view.boost_pages",
        "view.high_pages",
        "with_boost",
        HEADROOM_CASES,
    ),
    "nobody listens for the free pages that are waited for": Mutant(
        "reporter/waiting.py",
        "core.zones[z + Z_WAIT_FREE_PAGES] = floor_pages + (1 << order)",
        "core.zones[z + Z_WAIT_FREE_PAGES] = 0",
        "lifts_it_over",
        HEADROOM_CASES,
    ),
    "a pass is asked for one block too early": Mutant(
        "reporter/waiting.py",
        "= floor_pages + (1 << order)",
        "= floor_pages + 1",
        "lifts_it_over or looked_at_twice",
        HEADROOM_CASES,
    ),
    "small batches are not made good by their number": Mutant(
        HEADROOM,
        "return -(-blocks // entries) - 1",
        "return -(-blocks // device_capacity) - 1",
        "visit_reports",
        HEADROOM_CASES,
    ),
    "an interval is watched for too short a time": Mutant(
        DEMAND,
        "for peak in range(PEAKS):\n        highest",
        "for peak in range(2):\n        highest",
        "never_less or two_bursts",
        DEMAND_CASES,
    ),
    "an interval is watched for too long": Mutant(
        DEMAND,
        "words[at + passed % PEAKS] = NO_PEAK",
        "words[at + passed % PEAKS] += 0",
        "never_less or two_bursts",
        DEMAND_CASES,
    ),
    "nothing is ever forgotten": Mutant(
        DEMAND,
        "if slot - passed < SLOTS:",
        "if slot - passed < 1 << 40:",
        "forgotten_in_time",
        DEMAND_CASES,
    ),
    "what was cut off counts as what was taken": Mutant(
        DEMAND,
        "_note(core, zone, now_ns(core, worker), supply, free)",
        "_note(core, zone, now_ns(core, worker), supply, supply)",
        "cut_off_counts",
        DEMAND_CASES,
    ),
    "isolating counts as taking": Mutant(
        DEMAND,
        "return core.zones[z + Z_FREE_PAGES] + core.zones[z + Z_ISOLATED]",
        "return core.zones[z + Z_FREE_PAGES]",
        "not_taken or never_less",
        DEMAND_CASES,
    ),
}


def plant(folder: Path, mutant: Mutant | None) -> None:
    """A copy of what the cases need, with the mutant in it."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / "pagesoak" / package,
            folder / "pagesoak" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(ROOT / "pagesoak" / "__init__.py", folder / "pagesoak")
    for name in COPIED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    if mutant is not None:
        source = folder / "pagesoak" / mutant.file
        text = source.read_text(encoding="utf-8")
        assert text.count(mutant.before) == 1
        source.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")


def run_cases(folder: Path, keyword: str, cases: str) -> subprocess.CompletedProcess[str]:
    """The cases whose names hold the keyword, on the copy."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--import-mode=importlib",
        "-p",
        "no:cacheprovider",
    ]
    return subprocess.run(
        [*command, f"tests/unit/{cases}", "-k", keyword],
        cwd=folder,
        env=environment | SETTINGS,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS.keys())
def test_a_mutant_is_caught(tmp_path: Path, mutant: Mutant) -> None:
    plant(tmp_path, mutant)
    done = run_cases(tmp_path, mutant.caught_by, mutant.cases)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert re.search(r"^FAILED ", done.stdout, re.MULTILINE)
    assert re.search(r"AssertionError|\bassert |pages would be lost", done.stdout)


@pytest.mark.parametrize("cases", [CASES, POLICY_CASES, HEADROOM_CASES, DEMAND_CASES])
def test_the_cases_pass_without_a_mutant(tmp_path: Path, cases: str) -> None:
    plant(tmp_path, None)
    keywords = {f"({m.caught_by})" for m in MUTANTS.values() if m.cases == cases}
    done = run_cases(tmp_path, " or ".join(sorted(keywords)), cases)
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
