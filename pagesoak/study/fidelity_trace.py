"""A workload trace held to the model: every allocation's page, and every exact snapshot.

From the first exact snapshot in the trace on the model is driven with the requests alone
(`fidelity_trace_run`). What an allocation got, which zone it came from, what a refill took and a
drain gave back, what a reporting pass isolated and where it put it are predictions. A miss is
counted, then explained and repaired, so that what follows can be judged
(`fidelity_trace_repair`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pagesoak.allocator import trace_record as kinds
from pagesoak.study.fidelity_result import (
    CheckResult,
    Demand,
    Fault,
    NotChecked,
)
from pagesoak.study.fidelity_trace_events import TraceColumns, read_columns
from pagesoak.study.fidelity_trace_findings import Findings
from pagesoak.study.fidelity_trace_inputs import Snapshots, find_trace, kernel_of
from pagesoak.study.fidelity_trace_repair import BULK
from pagesoak.study.fidelity_trace_run import TraceRun
from pagesoak.study.pass_causes import starts_of
from pagesoak.study.pass_starts import check_pass_starts
from pagesoak.study.pass_trace import pass_trace_of

KIND = "trace"
ALLOCATIONS_EXACT_PERCENT = 99
"""Demanded where kswapd is at work: its end, and the state of a CPU's counters, leave no event."""
CPU = 0


@dataclass(frozen=True)
class TraceFidelity(CheckResult):
    """What `check_trace` found; `findings` has it in full."""

    findings: Findings = field(default_factory=Findings)


def check_trace(folder: Path) -> TraceFidelity:
    """Check the trace in a folder; never raises for its contents: `faults` says what is wrong."""
    faults: list[Fault] = []
    found = Findings()
    kernel, profile = kernel_of(folder, faults)
    path = find_trace(folder)
    if path is None:
        faults.append(Fault(str(folder), "no trace.txt or trace.txt.gz in it"))
        return TraceFidelity(str(folder), KIND, kernel, faults=tuple(faults), findings=found)
    snapshots = Snapshots(folder, faults)
    columns = read_columns(path)
    if columns.fault is not None:
        faults.append(columns.fault)
    reason = _unchecked(columns, len(snapshots), profile is None, kernel)
    if reason is None and profile is not None:
        TraceRun(columns, snapshots, profile, path.name, found).run()
        faults += found.faults
        if not found.first_line:
            faults.append(Fault(str(path), "no exact snapshot (truth_capture) in the trace"))
    else:
        found.not_checked = columns.kind.count(kinds.MM_PAGE_ALLOC) + columns.unread_allocations
        left_out = NotChecked("allocations", str(path), reason or "", found.not_checked)
        found.left_out.append(left_out)
        if not len(snapshots):
            faults.append(Fault(str(folder), "no exact snapshot in it: no snaps.txt, no .free"))
    if columns.unread_allocations:
        place = columns.fault.place if columns.fault is not None else str(path)
        found.left_out.append(
            NotChecked("allocations", place, "not read", columns.unread_allocations)
        )
    trace = pass_trace_of(columns, str(path))
    faults += trace.faults
    starts = check_pass_starts(list(starts_of(trace)), busy=True)
    return TraceFidelity(
        str(folder),
        KIND,
        kernel,
        figures={**_figures(found), **starts.figures},
        demands=(*_demands(found), *starts.demands),
        divergences=(*found.divergences, *starts.divergences),
        not_checked=(*found.left_out, *starts.not_checked),
        faults=tuple(faults),
        notes=tuple(_notes(found, kernel)),
        findings=found,
    )


def _unchecked(
    columns: TraceColumns, snapshots: int, unknown_kernel: bool, kernel: str
) -> str | None:
    """Why nothing can be predicted here; None when something can."""
    if unknown_kernel:
        return f"no rules for kernel {kernel or 'of unknown version'}"
    if columns.cpus - {CPU}:
        return "events of several CPUs: their order within a zone's lock is not in the trace"
    if not snapshots:
        return "no exact snapshot to start from"
    return None


def _figures(found: Findings) -> dict[str, Any]:
    return {
        "allocations": {
            "exact": found.allocations.exact,
            "total": found.allocations.total,
            "not_checked": found.not_checked,
        },
        "snapshots": {"exact": found.snapshots.exact, "total": found.snapshots.total},
        "reports": {"exact": found.reports.exact, "total": found.reports.total},
        "misses": dict(sorted(found.repairs.items())),
        "bulk_allocations": found.bulk,
        "frees_of_unseen_pages": found.unseen_frees,
        "frees_past_the_pageset": found.past_pageset,
        "kswapd_runs": found.kswapd_runs,
        "compaction_isolated_pages": found.compaction_isolated,
    }


def _demands(found: Findings) -> Iterator[Demand]:
    missed = found.allocations.total - found.allocations.exact
    if found.kswapd_runs or found.compaction_isolated:
        exact = found.allocations.exact * 100
        holds = exact >= found.allocations.total * ALLOCATIONS_EXACT_PERCENT
        text = f"at least {ALLOCATIONS_EXACT_PERCENT} % of the allocations are exact"
        yield Demand(f"{text} (kswapd or compaction is active)", holds)
    else:
        holds = missed == found.repairs[BULK]
        yield Demand("every miss is at a bulk allocation, which leaves no event", holds)
    yield Demand(
        "every snapshot that follows no gap in the trace is exact, in order and with flags",
        found.unexplained_snapshots == 0,
    )
    yield Demand(
        "every report call is exact, entry by entry",
        found.reports.exact == found.reports.total,
    )


def _notes(found: Findings, kernel: str) -> Iterator[str]:
    if not kernel:
        yield "no kernel version is named; checked with the rules of 6.1"
    if found.first_line:
        yield f"checked from line {found.first_line} of the trace on, the first exact snapshot"
    if found.kswapd_runs:
        yield (
            f"kswapd ran {found.kswapd_runs} times: its own events say when; what it does to the "
            "pagesets is predicted"
        )
    if found.compaction_isolated:
        yield (
            f"compaction isolated {found.compaction_isolated} pages: which ones is taken from its "
            "own events, like a free"
        )
    if found.repairs:
        yield (
            "after a miss, which stays a miss, the model goes back and takes what the kernel "
            "took, so that later allocations can be judged"
        )
