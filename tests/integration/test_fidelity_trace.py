"""The recorded workload traces held to the model, page by page (issue 3, "must hold" 1)."""

from pathlib import Path

import pytest

from pagesoak.study.fidelity_trace import TraceFidelity, check_trace
from pagesoak.study.fidelity_trace_repair import BULK

RECORDINGS = Path(__file__).parents[1] / "recordings"

pytestmark = pytest.mark.slow


def checked(name: str) -> TraceFidelity:
    """The check of one of the recordings, without a fault."""
    result = check_trace(RECORDINGS / name)
    assert result.faults == ()
    assert result.findings.snapshots.total > 0
    return result


@pytest.mark.parametrize(("name", "misses_max"), [("w1", 2), ("w2", 0), ("w2thp", 1)])
def test_misses_are_at_bulk_allocations_alone(name: str, misses_max: int) -> None:
    result = checked(name)
    found = result.findings
    missed = found.allocations.total - found.allocations.exact
    assert missed <= misses_max
    assert found.repairs[BULK] == missed == len(found.bulk)
    assert found.snapshots.exact == found.snapshots.total
    assert found.reports.exact == found.reports.total
    assert all(demand.holds for demand in result.demands)


def test_what_precedes_the_first_exact_snapshot_is_not_checked() -> None:
    found = checked("w2").findings
    assert found.allocations.total == 65_020
    assert found.not_checked == 6_404


def test_kswapd_and_compaction_leave_999_permille_exact() -> None:
    found = checked("w4p").findings
    assert found.kswapd_runs == 19
    assert found.compaction_isolated > 0
    assert found.allocations.total == 106_625
    assert found.allocations.exact * 1000 >= found.allocations.total * 999
    assert found.unexplained_snapshots == 0
    assert found.snapshots.exact == found.snapshots.total == 9
    assert found.reports.exact == found.reports.total == 9
