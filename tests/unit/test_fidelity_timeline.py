"""Timelines: recorded ones, made ones of other guests, and ones with something wrong in them."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pagesoak.study.fidelity_result import CheckResult
from pagesoak.study.fidelity_timeline import check_timeline
from tests.made_recordings import (
    BANNER,
    MS,
    MadeTimeline,
    snapshot_of,
    write_free,
    zones_of,
)
from tests.treefiles import ROOT

RECORDINGS = ROOT / "tests" / "recordings"
SMALL = (("DMA", 1, 0x1000), ("DMA32", 0x1000, 0x20000))
GIB_8 = (("DMA", 1, 0x1000), ("DMA32", 0x1000, 0xC0000), ("Normal", 0x100000, 0x240000))


def figures(result: CheckResult) -> dict[str, Any]:
    return dict(result.figures)


def exact(number: int, total: int | None = None, not_checked: int = 0) -> dict[str, int]:
    return {
        "exact": number,
        "total": number if total is None else total,
        "not_checked": not_checked,
    }


def damaged_copy(tmp_path: Path, name: str) -> Path:
    """A copy of a recording, to be harmed."""
    folder = tmp_path / name
    shutil.copytree(RECORDINGS / name, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Change the text of a gzip file."""
    text = gzip.decompress(path.read_bytes()).decode()
    changed = change(text)
    assert changed != text
    path.write_bytes(gzip.compress(changed.encode(), mtime=0))


# ---- a real kernel ----

RECORDED = {
    "idle_d0": (4, 2, 0),
    "idle_d10": (4, 2, 4),
    "idle_d100": (4, 2, 4),
    "idle_m2048": (15, 8, 15),
    "idle_po5": (6, 2, 6),
}
"""Report calls, passes, and calls of a device that slept."""


@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_timeline_is_exact(name: str) -> None:
    """KS-1: every scatterlist of every timeline, in order; every start; to the very tick."""
    calls, passes, slept = RECORDED[name]
    result = check_timeline(RECORDINGS / name)
    found = figures(result)
    assert found["scatterlists"] == exact(calls)
    assert found["free_pages"] == {
        "exact": calls,
        "total": calls,
        "largest_difference_pages": 0,
    }
    starts = found["pass_starts"]
    assert (starts["within_wheel"], starts["total"], starts["not_checked"]) == (passes, passes, 0)
    assert starts["to_the_tick"] == {"exact": passes - 1, "total": passes - 1}
    assert found.get("call_lengths", {"to_the_tick": 0, "total": 0}) == {
        "to_the_tick": slept,
        "total": slept,
    }
    assert result.kernel == "6.1.0-56-amd64"
    assert all(demand.holds for demand in result.demands)
    assert len(result.demands) == 2
    assert result.faults == result.not_checked == ()


@pytest.mark.parametrize("name", ["idle_d0", "idle_d10", "idle_d100", "idle_m2048"])
def test_lists_and_flags_at_the_end_are_exact(name: str) -> None:
    result = check_timeline(RECORDINGS / name)
    assert figures(result)["lists_at_end"] == {"exact": 4, "total": 4}
    assert result.divergences == ()


def test_what_the_guest_took_after_the_last_pass_shows_without_being_held_against_it() -> None:
    result = check_timeline(RECORDINGS / "idle_po5")
    assert figures(result)["lists_at_end"] == {"exact": 10, "total": 12}
    assert [found.expected for found in result.divergences] == [
        "blocks on the list: 1",
        "blocks on the list: 0",
    ]
    assert all(demand.holds for demand in result.demands)


# ---- other guests ----


@pytest.mark.parametrize("phase_ms", [0, 3, 20, 24, 31])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_small_guest_by_the_oracle(tmp_path: Path, seed: int, phase_ms: int) -> None:
    made = MadeTimeline(zones_of(seed, *SMALL), phase_ns=phase_ms * MS).make()
    result = check_timeline(made.write(tmp_path / "made"))
    found = figures(result)
    assert len(made.calls) >= 3
    assert found["scatterlists"] == exact(len(made.calls))
    assert found["lists_at_end"]["exact"] == found["lists_at_end"]["total"] >= 3
    starts = found["pass_starts"]
    assert starts["within_wheel"] == starts["total"] == found["passes"]["predicted"] >= 2
    assert starts["to_the_tick"]["exact"] == starts["total"] - 1
    assert found["call_lengths"]["to_the_tick"] == len(made.calls)
    assert all(demand.holds for demand in result.demands)


@pytest.mark.slow
@pytest.mark.parametrize("delay_ms", [0, 20])
def test_eight_gib_with_a_normal_zone(tmp_path: Path, delay_ms: int) -> None:
    made = MadeTimeline(zones_of(3, *GIB_8), delay_ms=delay_ms).make()
    result = check_timeline(made.write(tmp_path / "made"))
    found = figures(result)
    assert found["scatterlists"] == exact(len(made.calls))
    assert len(made.calls) >= 40
    passes = found["passes"]["recorded"]
    assert passes == found["passes"]["predicted"] >= 8
    assert found["pass_starts"]["within_wheel"] == passes
    assert all(demand.holds for demand in result.demands)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_calls_that_fail_put_back_unreported_and_end_the_pass(
    tmp_path: Path, failing: int
) -> None:
    made = MadeTimeline(zones_of(5, *SMALL), answers={failing: 5}).make()
    result = check_timeline(made.write(tmp_path / "made"))
    found = figures(result)
    assert found["scatterlists"] == exact(len(made.calls))
    assert made.calls[failing].error == 5
    assert found["lists_at_end"]["exact"] == found["lists_at_end"]["total"]
    assert all(demand.holds for demand in result.demands)


def test_another_kernel(tmp_path: Path) -> None:
    """6.12 reports in the same way; its msleep is a tick shorter."""
    made = MadeTimeline(zones_of(6, *SMALL), kernel="6.12.43+deb13-amd64").make()
    folder = made.write(tmp_path / "made")
    banner = BANNER.format(made.kernel).replace("6.1.192-2", "6.12.43-1")
    (folder / "meta.txt").write_text(f"== version\n{banner}\n")
    result = check_timeline(folder)
    assert result.kernel == "6.12.43+deb13-amd64"
    assert figures(result)["scatterlists"] == exact(len(made.calls))
    assert figures(result)["call_lengths"] == {"to_the_tick": 0, "total": len(made.calls)}
    assert result.faults == ()


def test_a_recording_that_names_no_kernel_is_taken_for_the_default(tmp_path: Path) -> None:
    folder = MadeTimeline(zones_of(6, *SMALL)).make().write(tmp_path / "made")
    (folder / "meta.txt").unlink()
    result = check_timeline(folder)
    assert result.notes == ("the recording names no kernel: 6.1 is assumed",)
    assert all(demand.holds for demand in result.demands)


# ---- where the kernel does otherwise ----


def made_small() -> MadeTimeline:
    return MadeTimeline(zones_of(7, *SMALL)).make()


def test_two_entries_in_another_order_are_one_call_that_is_not_exact(tmp_path: Path) -> None:
    made = made_small()
    entries = made.calls[1].entries
    entries[3], entries[4] = entries[4], entries[3]
    result = check_timeline(made.write(tmp_path / "made"))
    total = len(made.calls)
    assert figures(result)["scatterlists"] == exact(total - 1, total)
    (divergence,) = result.divergences
    assert divergence.where == f"{tmp_path / 'made' / 'reports.csv.gz'}:4"
    blocks = [f"{pfn:x}/{order}" for pfn, order in (entries[3], entries[4])]
    assert divergence.expected == f"entry 3 is {blocks[0]}"
    assert divergence.got == f"entry 3 is {blocks[1]}"
    assert [demand.holds for demand in result.demands] == [False, True]


def test_a_call_in_the_wrong_pass_is_not_exact(tmp_path: Path) -> None:
    made = made_small()
    for call in made.calls[1:]:
        call.start_ns += 2_016 * MS
        call.end_ns += 2_016 * MS
    result = check_timeline(made.write(tmp_path / "made"))
    total = len(made.calls)
    assert figures(result)["scatterlists"] == exact(total - 1, total)
    assert result.divergences[0].expected == "it begins a pass"


@pytest.mark.parametrize(("moved_ms", "fits"), [(-40, False), (-8, True), (8, True), (60, False)])
def test_a_pass_that_starts_outside_the_wheel(tmp_path: Path, moved_ms: int, fits: bool) -> None:
    made = MadeTimeline(zones_of(7, *SMALL), registered_ns=3_508_009_033).make()
    for call in made.calls:
        call.start_ns += moved_ms * MS
        call.end_ns += moved_ms * MS
    result = check_timeline(made.write(tmp_path / "made"))
    starts = figures(result)["pass_starts"]
    late_ms = (made.calls[0].start_ns - made.registered_ns) // MS - 2_000
    assert (0 <= late_ms < 36) == fits
    assert starts["total"] - starts["within_wheel"] == (not fits)
    assert [demand.holds for demand in result.demands] == [True, fits]


def test_calls_that_were_never_made_are_missing(tmp_path: Path) -> None:
    made = made_small()
    total = len(made.calls)
    del made.calls[-1]
    result = check_timeline(made.write(tmp_path / "made"))
    assert figures(result)["scatterlists"] == exact(total - 1, total)
    assert "no further call" in [divergence.expected for divergence in result.divergences]


def test_a_recording_that_ended_early_lacks_nothing(tmp_path: Path) -> None:
    made = made_small()
    del made.calls[2:]
    assert made.after is not None
    made.after = snapshot_of(made.zones, made.calls[-1].end_ns + 3 * MS)
    result = check_timeline(made.write(tmp_path / "made"))
    assert figures(result)["scatterlists"] == exact(2)
    assert all(demand.holds for demand in result.demands)


def test_passes_after_the_device_went_idle_are_not_checked(tmp_path: Path) -> None:
    made = made_small()
    predicted = len(made.calls)
    last = made.calls[-1]
    late = type(last)(last.end_ns + 7_000 * MS, last.end_ns + 7_020 * MS, [(0x1C00, 10)], 5, 0)
    made.calls.append(late)
    result = check_timeline(made.write(tmp_path / "made"))
    assert figures(result)["scatterlists"] == exact(predicted, not_checked=1)
    starts = figures(result)["pass_starts"]
    assert starts["not_checked"] == 1
    reasons = [left_out.reason for left_out in result.not_checked]
    assert "the device was idle: what the guest freed to wake it is not recorded" in reasons
    assert all(demand.holds for demand in result.demands)


# ---- something wrong with the recording ----


def test_a_truncated_log_keeps_what_comes_before(tmp_path: Path) -> None:
    folder = damaged_copy(tmp_path, "idle_m2048")
    path = folder / "reports.csv.gz"
    rewrite(path, lambda text: text[: text.index("\n9,") + 60])
    result = check_timeline(folder)
    assert figures(result)["scatterlists"] == exact(9, not_checked=1)
    (fault,) = result.faults
    assert fault.place == f"{path}:12"
    assert "cut off" in fault.message


def test_a_damaged_gzip_file(tmp_path: Path) -> None:
    folder = damaged_copy(tmp_path, "idle_m2048")
    path = folder / "reports.csv.gz"
    packed = path.read_bytes()
    path.write_bytes(packed[: len(packed) // 2])
    result = check_timeline(folder)
    (fault,) = result.faults
    assert "the gzip data is cut off" in fault.message
    found = figures(result)["scatterlists"]
    assert found["exact"] == found["total"]
    assert found["not_checked"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("\n1,", "\n1,x"), "t_start_ns: 'x5524038438' is not a whole number"),
        ((",32,32768,", ",31,32768,"), "nents is 31, 32 are listed"),
        ((",32,32768,", ",32,32767,"), "pages is 32767, the entries name another number"),
        ((" 15c00/10", " 15c01/10"), "'15c01/10' is no block"),
        (("\n1,", "\n0,"), "seq 0 follows seq 0"),
        (("1,5524038438,", "1,5524018438,"), "it starts before the last one ended"),
        (("1,5524038438,5524039705", "1,5524038438,5524038437"), "the call ends at 5524038437,"),
        (("\n1,", "\n1,1,"), "expected 8 fields, found 9"),
    ],
)
def test_a_line_that_contradicts_itself_costs_its_call(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    folder = damaged_copy(tmp_path, "idle_d0")
    path = folder / "reports.csv.gz"
    rewrite(path, lambda text: text.replace(*change, 1))
    result = check_timeline(folder)
    assert figures(result)["scatterlists"] == exact(3, not_checked=1)
    (fault,) = result.faults
    assert fault.place == f"{path}:4"
    assert fault.message.startswith(message)
    starts = figures(result)["pass_starts"]
    assert (starts["within_wheel"], starts["total"], starts["not_checked"]) == (1, 1, 1)


def test_calls_that_the_device_lost(tmp_path: Path) -> None:
    folder = damaged_copy(tmp_path, "idle_d0")
    path = folder / "reports.csv.gz"
    rewrite(path, lambda text: text.replace("lost=0", "lost=3"))
    result = check_timeline(folder)
    assert figures(result)["scatterlists"] == exact(4, not_checked=3)
    assert [str(fault) for fault in result.faults] == [f"{path}:1: the device lost 3 calls"]


def test_lists_that_contradict_themselves(tmp_path: Path) -> None:
    folder = damaged_copy(tmp_path, "idle_d0")
    path = folder / "atload.free.gz"
    rewrite(path, lambda text: text.replace("f,DMA32,9,1,6200", "f,DMA32,9,1,6c00"))
    result = check_timeline(folder)
    assert figures(result)["scatterlists"] == exact(0, not_checked=4)
    (fault,) = result.faults
    assert fault.place.startswith(f"{path}:")
    assert [demand.text for demand in result.demands] == [
        "every pass starts 2,000 ms to 2,036 ms after its cause"
    ]


@pytest.mark.parametrize("version", ["5.10.0-30-amd64", "7.4.1"])
def test_a_kernel_that_is_not_modelled(tmp_path: Path, version: str) -> None:
    folder = damaged_copy(tmp_path, "idle_d0")
    path = folder / "meta.txt"
    lines = path.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("Linux version"))
    lines[at] = f"Linux version {version} (maker@host) #1 SMP"
    path.write_text("".join(f"{line}\n" for line in lines))
    result = check_timeline(folder)
    assert figures(result)["scatterlists"] == exact(0, not_checked=4)
    (fault,) = result.faults
    assert fault.place == f"{path}:{at + 1}"
    assert "is not modelled" in fault.message
    assert figures(result)["pass_starts"]["total"] == 1


@pytest.mark.parametrize("name", ["reports.csv.gz", "atload.free.gz"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    folder = damaged_copy(tmp_path, "idle_d0")
    (folder / name).unlink()
    result = check_timeline(folder)
    assert [str(fault) for fault in result.faults] == [
        f"{folder / name.removesuffix('.gz')}: is missing"
    ]
    assert figures(result)["scatterlists"]["exact"] == 0


def test_lists_of_a_guest_that_cannot_be_held(tmp_path: Path) -> None:
    folder = MadeTimeline(zones_of(7, *SMALL)).make().write(tmp_path / "made")
    (far,) = zones_of(7, ("Normal", 1 << 30, (1 << 30) + 0x4000))
    write_free(folder, "atload.free.gz", snapshot_of([far], 5))
    result = check_timeline(folder)
    assert any("ends at pfn" in fault.message for fault in result.faults)
    assert figures(result)["scatterlists"]["exact"] == 0


def test_run_json_that_is_cut_off(tmp_path: Path) -> None:
    folder = damaged_copy(tmp_path, "idle_po5")
    path = folder / "run.json"
    path.write_text(path.read_text()[:100])
    result = check_timeline(folder)
    assert any(fault.place.startswith(f"{path}:") for fault in result.faults)
    assert figures(result)["scatterlists"] == exact(0, not_checked=6)
