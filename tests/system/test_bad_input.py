"""What is wrong with what was given is said once, with its place; then nothing has been started.

Exit code 2, one message on stderr (one line for each mistake of a scenario), nothing on stdout, no
traceback, and no results folder.
"""

import gzip
import os
import re
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live_helper import (
    COMPILE_SECONDS_MAX,
    Finished,
    compile_core,
    pagesoak,
    run_scenario_text,
    scenario_text,
    write_scenario,
)
from tests.treefiles import ROOT

pytestmark = pytest.mark.timeout(COMPILE_SECONDS_MAX)

RECORDINGS = ROOT / "tests" / "recordings"
W2 = RECORDINGS / "w2"
GOOD = scenario_text(duration="100ms")


@pytest.fixture(scope="module", autouse=True)
def _core() -> None:
    compile_core()


def refused(finished: Finished, folder: Path) -> str:
    """The one message of a call that was refused, without pagesoak's name before it."""
    assert finished.code == 2, (finished.out, finished.err)
    assert finished.out == ""
    (message,) = finished.messages
    assert not (folder / "results").exists()
    name, _, text = message.partition(": ")
    assert name == "pagesoak"
    return text


def refused_scenario(folder: Path, text: str, *arguments: str) -> str:
    """The message about a scenario given as a text."""
    return refused(run_scenario_text(folder, text, *arguments), folder)


# ---- the scenario ----

ONE_MISTAKE = {
    "no end of a text": ('name = "x\n', ":1: TOML: "),
    "a line that is no TOML": (GOOD + "what is this\n", ": TOML: "),
    "an unknown key": (GOOD.replace("[guest]", "[guest]\ncolour = 1"), ": guest.colour: unknown"),
    "an unknown table": (GOOD + "[moon]\nphase = 1\n", ": moon: unknown key"),
    "a size without a unit": (GOOD.replace('"32MiB"', "32"), ": guest.memory: must be a text"),
    "a guest too small": (GOOD.replace('"32MiB"', '"4MiB"'), ": guest.memory: must be from 16MiB"),
    "an odd size": (GOOD.replace('"32MiB"', '"18MiB"'), ": guest.memory: must be a multiple of 4"),
    "no duration": (GOOD.replace('duration = "100ms"\n', ""), ": duration: is missing"),
    "no load": (GOOD[: GOOD.index("[[load]]")], ": load: at least one load must be given"),
    "an unknown load": (GOOD.replace('"idle"', '"dance"'), ": load[0].kind: must be one of"),
    "an unknown policy": (
        scenario_text(reporting={"policy": "magic"}),
        ": reporting.policy: no policy named 'magic'; known are off, mainline, driver-capacity,",
    ),
    "a vCPU that is not there": (
        scenario_text([{"kind": "steady", "target": "1MiB", "cpu": 3}]),
        ": load[0].cpu: no such vCPU",
    ),
    "a file that is not there": (
        scenario_text(memory=None, guest={"snapshot": "gone.free"}),
        ": guest.snapshot: no such file: 'gone.free'",
    ),
    "a pipe for a trace": (
        scenario_text([{"kind": "replay", "trace": "/dev/zero"}]),
        ": load[0].trace: no such file: '/dev/zero'",
    ),
}


@pytest.mark.parametrize("name", ONE_MISTAKE)
def test_one_mistake_of_a_scenario_is_one_line_with_file_line_and_key(
    name: str, tmp_path: Path
) -> None:
    text, expected = ONE_MISTAKE[name]
    message = refused_scenario(tmp_path, text)
    assert message.startswith(f"{tmp_path / 'planted.toml'}:")
    assert expected in message


def test_all_mistakes_of_a_scenario_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace('"32MiB"', '"33MiB"').replace("order = 5", "order = 11\nfoo = 1")
    finished = run_scenario_text(tmp_path, text)
    assert finished.code == 2
    lines = text.splitlines()
    expected = [
        (lines.index('memory = "33MiB"') + 1, "guest.memory"),
        (lines.index("order = 11") + 1, "reporting.order"),
        (lines.index("foo = 1") + 1, "reporting.foo"),
    ]
    path = tmp_path / "planted.toml"
    assert len(finished.messages) == 3
    for message, (line, key) in zip(finished.messages, expected, strict=True):
        assert message.removeprefix("pagesoak: ").startswith(f"{path}:{line}: {key}: ")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("idle-512x", "no scenario named 'idle-512x' (did you mean 'idle-512m'?)"),
        ("gone.toml", "gone.toml: no such scenario file"),
        ("..", "no scenario named '..'"),
    ],
)
def test_a_scenario_that_is_not_there(given: str, expected: str, tmp_path: Path) -> None:
    finished = pagesoak("run", given, "--results", tmp_path / "results", cwd=tmp_path)
    assert refused(finished, tmp_path).startswith(expected)


def test_a_scenario_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "picture.toml"
    path.write_bytes(b'name = "x"\n\xff\xfe\n')
    finished = pagesoak("run", path, "--results", tmp_path / "results")
    assert refused(finished, tmp_path) == f"{path}:2: is not UTF-8 text"


# ---- options ----


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--policy", "magic", "policy: no policy named 'magic'"),
        ("--duration", "soon", "--duration: 'soon' is not a duration"),
        ("--duration", "0s", "duration: must be from 1ms"),
        ("--duration", "400y", "--duration: '400y' has no known unit"),
        ("--seed", "-1", "seed: must be at least 0"),
        ("--seed", str(1 << 63), "seed: must be at most"),
    ],
)
def test_an_option_out_of_range(option: str, value: str, expected: str, tmp_path: Path) -> None:
    assert refused_scenario(tmp_path, GOOD, option, value).startswith(expected)


WRONG_POLICY = """
from pagesoak.reporter.policy import Hold

class Spoilt:
    name = "spoilt"

    def at_zone(self, view):
        return ()

    def at_hold(self, order, view, context):
        return Hold(99)

class Stuck(Spoilt):
    name = "stuck"

    def at_hold(self, order, view, context):
        while True:
            pass
"""
WITH_ROOM = scenario_text(guest={"memory": "128MiB"}, reporting={"delay": "10ms"}, duration="30s")


@pytest.mark.parametrize("more", [[], ["--virtual"]], ids=["live", "virtual"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Spoilt", "spoilt: at_hold: capacity = 99 is not a whole number from 1 to 32"),
        ("Stuck", "stuck: at_hold: did not return within 100 ms"),
    ],
)
def test_a_policy_that_does_what_it_may_not(
    name: str, said: str, more: list[str], tmp_path: Path
) -> None:
    """The run ends at once, and says whose fault it was."""
    file = tmp_path / "wrong.py"
    file.write_text(WRONG_POLICY)
    path = write_scenario(tmp_path, WITH_ROOM)
    results = ("--json", "--results", tmp_path / "results")
    finished = pagesoak("run", path, "--policy", f"{file}:{name}", *more, *results)
    assert (finished.code, finished.out) == (2, "")
    assert finished.messages[-1] == f"pagesoak: policy: policy {said}"
    assert "Traceback" not in finished.err


def test_a_policy_in_a_file_that_a_scenario_names(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(WRONG_POLICY)
    text = scenario_text(reporting={"policy": f"{file}:Spoilt"})
    said = "a policy in a file is named on the command line, with --policy"
    assert refused_scenario(tmp_path, text).endswith(said)


WINDOW_MISTAKES = [
    ([], "name one guest: --buddyinfo with --zoneinfo, --snapshot, or --guest"),
    (["--guest", "512MiB"], "--guest needs --free or --blocks, one of them"),
    (["--guest", "512MiB", "--free", "1GiB"], "--free: 262144 pages: zone DMA32 has 118784"),
    (["--guest", "512MiB", "--free", "1p..9GiB"], "--free: 2359296 pages: zone DMA32 has"),
    (["--guest", "513MiB", "--free", "1p"], "--guest: 537919488 bytes is not a multiple of 4"),
    (["--guest", "512MiB", "--blocks", "9:9x"], "--blocks: '9:9x' is not ORDER:COUNT"),
    (["--guest", "512MiB", "--blocks", "10:999"], "--blocks: 999 free blocks of order 10 do"),
    (["--guest", "512MiB", "--free", "1p", "--take", "x"], "--take: 'x' is not a number of pa"),
    (["--snapshot", "nowhere.free"], "nowhere.free: cannot be read"),
    (["--buddyinfo", "nowhere"], "--buddyinfo and --zoneinfo belong together"),
    (["--snapshot", "x", "--free", "1p"], "--free: goes with --guest only: here a file says it"),
    (["--guest", "512MiB", "--free", "1p", "--policies", "a"], "policy: no policy named 'a'"),
]


@pytest.mark.parametrize(("arguments", "said"), WINDOW_MISTAKES, ids=str)
def test_a_window_that_cannot_be_meant(arguments: list[str], said: str, tmp_path: Path) -> None:
    finished = pagesoak("window", *arguments, cwd=tmp_path)
    assert refused(finished, tmp_path).startswith(said)


@pytest.mark.parametrize(
    "arguments", [["--seed", "many"], ["--colour", "red"], []], ids=["value", "unknown", "missing"]
)
def test_a_malformed_command_line(arguments: list[str], tmp_path: Path) -> None:
    scenario = [write_scenario(tmp_path, GOOD)] if arguments else []
    finished = pagesoak("run", *scenario, *arguments, cwd=tmp_path)
    assert finished.code == 2
    assert finished.out == ""
    assert (arguments or ["SCENARIO"])[0].lower() in finished.err.lower()
    assert "Traceback" not in finished.err
    assert {path.name for path in tmp_path.iterdir()} <= {"planted.toml"}


# ---- where results go ----


def test_a_results_folder_that_is_a_file(tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_text("mine")
    path = write_scenario(tmp_path, GOOD)
    for results in (root, root / "below"):
        message = refused(pagesoak("run", path, "--json", "--results", results), tmp_path)
        assert message == f"{results}: results cannot be kept here: Not a directory"
    assert root.read_text() == "mine"


def test_a_results_folder_where_nobody_may_write(tmp_path: Path) -> None:
    path = write_scenario(tmp_path, GOOD)
    results = Path("/proc/self/results")
    message = refused(pagesoak("run", path, "--json", "--results", results), tmp_path)
    assert message.startswith(f"{results}: results cannot be kept here: ")


# ---- recordings ----

TRACE_LINES = 12_700
"""Of the trace of w2: its first exact snapshot is in line 12462."""
CAPTURE_LINE = 12_462


def cut_recording(folder: Path) -> Path:
    """The beginning of recording w2, as plain text: a good recording."""
    target = folder / "recording"
    target.mkdir()
    with gzip.open(W2 / "trace.txt.gz", "rt") as trace:
        lines = [next(trace) for _ in range(TRACE_LINES)]
    events = sum(not line.startswith("#") for line in lines)
    text = re.sub(r"(entries-in-buffer/entries-written: )\S+", rf"\g<1>{events}/{events}",
                  "".join(lines))  # fmt: skip
    (target / "trace.txt").write_text(text)
    with gzip.open(W2 / "snaps.txt.gz", "rt") as snapshots:
        (target / "snaps.txt").write_text(snapshots.read())
    return target


def replay_text(recording: Path) -> str:
    """A scenario that starts from a recording and replays it."""
    load = {"kind": "replay", "recording": str(recording), "speed": "fast"}
    return scenario_text([load], memory=None, guest={"recording": str(recording)})


def change_line(path: Path, line: int, change: Callable[[str], str]) -> None:
    """Change one line (from 1) of a text."""
    lines = path.read_text().splitlines(keepends=True)
    lines[line - 1] = change(lines[line - 1])
    path.write_text("".join(lines))


def change_allocation(trace: Path, pfn: str) -> int:
    """Give the first allocation after the snapshot another pfn; the number of its line."""
    lines = trace.read_text().splitlines()
    number = next(
        number
        for number, line in enumerate(lines, 1)
        if number > CAPTURE_LINE and " mm_page_alloc: " in line
    )
    change_line(trace, number, lambda line: re.sub("pfn=0x[0-9a-f]+", pfn, line))
    return number


def cut_gzip(path: Path) -> None:
    """A text as gzip that is cut off in the middle."""
    packed = gzip.compress(path.read_bytes())
    path.with_name(path.name + ".gz").write_bytes(packed[: len(packed) // 2])
    path.unlink()


def line_in(path: Path, start: str) -> int:
    """Number of the first line of a text that begins so."""
    lines = path.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.startswith(start))


def test_the_recording_of_these_tests_is_a_good_one(tmp_path: Path) -> None:
    finished = run_scenario_text(tmp_path, replay_text(cut_recording(tmp_path)))
    assert finished.summary["verdict"] == "pass", finished.summary["reason"]
    assert finished.summary["alloc_requests"] > 0


def test_a_broken_line_of_a_trace(tmp_path: Path) -> None:
    recording = cut_recording(tmp_path)
    trace = recording / "trace.txt"
    line = change_allocation(trace, "pfn=?")
    message = refused_scenario(tmp_path, replay_text(recording))
    assert message == f"{trace}:{line}: mm_page_alloc: pfn='?' is not a number"


def test_a_trace_that_contradicts_the_snapshot(tmp_path: Path) -> None:
    recording = cut_recording(tmp_path)
    trace = recording / "trace.txt"
    line = change_allocation(trace, "pfn=0xfffff0")
    message = refused_scenario(tmp_path, replay_text(recording))
    assert message == f"{trace}:{line}: pfn 0xfffff0 is in no zone of the snapshot"


def test_a_trace_that_promises_more_than_there_is(tmp_path: Path) -> None:
    recording = cut_recording(tmp_path)
    trace = recording / "trace.txt"
    trace.write_text("".join(trace.read_text().splitlines(keepends=True)[:-1]))
    message = refused_scenario(tmp_path, replay_text(recording))
    assert message.startswith(f"{trace}:{TRACE_LINES}: cut off: the heading promises ")


@pytest.mark.parametrize("name", ["trace.txt", "snaps.txt"])
def test_a_recording_that_is_cut_off(name: str, tmp_path: Path) -> None:
    recording = cut_recording(tmp_path)
    cut_gzip(recording / name)
    message = refused_scenario(tmp_path, replay_text(recording))
    assert message.startswith(f"{recording / name}.gz:")
    assert message.endswith(": the gzip data is cut off")


def test_a_recording_without_snapshots(tmp_path: Path) -> None:
    recording = cut_recording(tmp_path)
    (recording / "snaps.txt").unlink()
    message = refused_scenario(tmp_path, replay_text(recording))
    place = f"{recording / 'trace.txt'}:{CAPTURE_LINE}"
    assert message == f"{place}: truth_capture without a snapshot of that time"


def test_a_recording_without_a_trace(tmp_path: Path) -> None:
    message = refused_scenario(tmp_path, replay_text(RECORDINGS / "idle_d0"))
    assert message == f"{RECORDINGS / 'idle_d0'}: no trace.txt.gz or trace.txt in it"


def test_a_trace_without_any_event(tmp_path: Path) -> None:
    trace = tmp_path / "empty.txt"
    trace.write_text("# tracer: nop\n")
    text = scenario_text([{"kind": "replay", "trace": str(trace)}])
    assert refused_scenario(tmp_path, text) == f"{trace}: no event in the trace"


# ---- snapshots ----

SNAPSHOT_MISTAKES: dict[str, tuple[str, Callable[[str], str], str]] = {
    "free pages that are not listed": (
        "z,DMA32,",
        lambda line: line.replace(",89755,", ",89000,"),
        "nr_free is 89000, its lists hold 89755 pages",
    ),
    "a block that is free twice": (
        "f,DMA32,0,1,",
        lambda line: line.replace("4203", "1f48"),
        "the block at 0x1f48 overlaps the one at 0x1f48",
    ),
    "a block that is not aligned": (
        "f,DMA32,2,2,",
        lambda line: line.replace("59ec", "59ed"),
        "pfn 0x59ed is not aligned to order 2",
    ),
    "a block outside its zone": (
        "f,DMA,5,0,",
        lambda line: line.replace("120", "1020"),
        "the block at 0x1020 is not within zone DMA",
    ),
    "a pageset that counts wrongly": (
        "c,DMA,0,",
        lambda line: line.replace("c,DMA,0,0,", "c,DMA,0,7,"),
        "cpu 0 counts 7 pages, its lists hold 0",
    ),
    "no number": ("z,DMA,", lambda line: line.replace("3840", "many"), "is not a whole number"),
}


@pytest.mark.parametrize("name", SNAPSHOT_MISTAKES)
def test_a_snapshot_that_contradicts_itself(name: str, tmp_path: Path) -> None:
    start, change, expected = SNAPSHOT_MISTAKES[name]
    path = tmp_path / "guest.free"
    with gzip.open(W2 / "before.free.gz", "rt") as text:
        path.write_text(text.read())
    line = line_in(path, start)
    before = path.read_text()
    change_line(path, line, change)
    assert path.read_text() != before
    message = refused_scenario(tmp_path, scenario_text(memory=None, guest={"snapshot": str(path)}))
    assert message.startswith(f"{path}:{line}: ")
    assert expected in message


def test_a_snapshot_that_is_something_else(tmp_path: Path) -> None:
    path = tmp_path / "guest.free"
    path.write_bytes(b"\x7fELF" + os.urandom(100) + b"\n")
    message = refused_scenario(tmp_path, scenario_text(memory=None, guest={"snapshot": str(path)}))
    assert message.startswith(f"{path}:1: ")


# ---- what does not fit ----


def test_a_guest_larger_than_the_memory_allowed_is_refused_with_both_figures(
    tmp_path: Path,
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    path = write_scenario(tmp_path, scenario_text(memory="2GiB"))
    finished = pagesoak(
        "run", path, "--json", "--results", tmp_path / "results", prepare=limit,
        OPENBLAS_NUM_THREADS="1",
    )  # fmt: skip
    message = refused(finished, tmp_path)
    words = message.split()
    needed, there = (int(words[i - 1]) for i, word in enumerate(words) if word.startswith("MiB"))
    assert needed > 2048
    assert there < 1024
    assert "RLIMIT_AS" in message
    assert "touch = false" in message


def test_the_same_guest_runs_on_metadata_alone(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))

    path = write_scenario(tmp_path, scenario_text(memory="4GiB", duration="100ms"))
    arguments = ("run", path, "--json", "--results", tmp_path / "results")
    assert refused(pagesoak(*arguments, prepare=limit), tmp_path)
    finished = pagesoak(*arguments, "--no-touch", prepare=limit)
    assert finished.summary["verdict"] == "pass"


def test_a_system_that_grants_no_descriptors(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (17, 17))

    path = write_scenario(tmp_path, scenario_text(guest={"cpus": 4}))
    arguments = ("run", path, "--json", "--results", tmp_path / "results")
    message = refused(pagesoak(*arguments, prepare=limit), tmp_path)
    assert "Too many open files" in message


def test_a_system_that_grants_no_large_file(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    path = write_scenario(tmp_path, scenario_text())
    arguments = ("run", path, "--json", "--results", tmp_path / "results")
    message = refused(pagesoak(*arguments, prepare=limit), tmp_path)
    assert message.startswith("cannot get ")
    assert "File too large" in message


def test_more_loads_than_the_segment_has_room_for(tmp_path: Path) -> None:
    load = {"kind": "steady", "target": "1MiB", "cpus": "all"}
    message = refused_scenario(tmp_path, scenario_text([load] * 3, guest={"cpus": 16}))
    assert message == "load: 48 load records are needed, at most 32 fit"


def test_a_movable_zone_that_leaves_too_little(tmp_path: Path) -> None:
    text = scenario_text(memory="64MiB", guest={"movable": "48MiB"})
    assert refused_scenario(tmp_path, text).startswith("guest.movable: ")
