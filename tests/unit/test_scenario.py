"""Scenarios: the built-in ones, every mistake with its place, and what a valid one becomes."""

import json
import re
from pathlib import Path

import pytest

from pagesoak.base.errors import InputError, InputErrors
from pagesoak.base.scenario import (
    Bursts,
    Files,
    Idle,
    Replay,
    Scenario,
    Steady,
    builtin_names,
    check_policy,
    find_scenario,
    load_scenario,
    parse_scenario,
)
from pagesoak.base.units import GIB, MIB, NS_PER_MS, NS_PER_SECOND

POLICIES = {"mainline", "off"}

LEAST = """\
name = "least"
duration = "1s"
[guest]
memory = "16MiB"
[[load]]
kind = "idle"
"""


def parsed(text: str, folder: Path = Path()) -> Scenario:
    return parse_scenario(text, file="s.toml", folder=folder, policies=POLICIES)


def mistakes(text: str, folder: Path = Path()) -> list[str]:
    """Every mistake of the text as it is shown, without the name of the file."""
    with pytest.raises(InputErrors) as caught:
        parsed(text, folder)
    assert caught.value.exit_code == 2
    assert all(error.file == "s.toml" for error in caught.value.errors)
    return [str(error).removeprefix("s.toml:").strip() for error in caught.value.errors]


def with_load(load: str, guest: str = 'memory = "512MiB"') -> str:
    return f'name = "x"\nduration = "1s"\n[guest]\n{guest}\n[[load]]\n{load}\n'


# ---- the built-in ones ----


def test_builtin_names() -> None:
    assert builtin_names() == ("idle-512m", "idle-64g", "recorded-w2", "seed-512m", "seed-large")


@pytest.mark.parametrize("name", builtin_names())
def test_each_builtin_loads_and_reads_back(name: str, tmp_path: Path) -> None:
    scenario = load_scenario(find_scenario(name), policies=POLICIES)
    assert scenario.name == name
    assert scenario.description
    assert scenario.with_overrides() == scenario
    assert parsed(scenario.as_toml(), tmp_path) == scenario
    assert json.loads(json.dumps(scenario.as_json()))["name"] == name


def test_the_failure_is_as_recorded() -> None:
    scenario = load_scenario(find_scenario("seed-512m"))
    (load,) = scenario.loads
    assert isinstance(load, Bursts)
    assert (load.leave_free_bytes, load.burst_bytes) == (150 * MIB, 100 * MIB)
    assert (load.think_ns, load.hold_ns) == (1200 * NS_PER_MS, 150 * NS_PER_MS)
    assert (load.jitter_percent, load.order, load.cpu) == (0, 0, 0)
    assert scenario.guest.memory_bytes == 512 * MIB
    assert scenario.host.latency_per_call_ns == 500 * NS_PER_MS
    assert scenario.duration_ns == 60 * NS_PER_SECOND
    assert scenario.limits.oom_events_isolated_max == 0


def test_the_recording_is_found_beside_its_scenario() -> None:
    scenario = load_scenario(find_scenario("recorded-w2"))
    (load,) = scenario.loads
    assert isinstance(load, Replay)
    assert load.recording == scenario.guest.recording
    assert load.recording is not None
    assert (load.recording / "trace.txt.gz").is_file()


def test_the_large_guest_is_large_and_nearly_full() -> None:
    scenario = load_scenario(find_scenario("seed-large"))
    (load,) = scenario.loads
    assert isinstance(load, Bursts)
    assert scenario.guest.memory_bytes == 8 * GIB
    assert load.leave_free_bytes == 140 * MIB
    assert not scenario.guest.touch


# ---- all mistakes at once, with their places ----

MANY_MISTAKES = '''\
# a comment with name = "no"
name = "Bad Name"
duration = "2x"
sed = 3
[guest]
memory = "17MiB"
snapshot = "nope.free"
cpus = 2
"odd key" = 1
[reporting]
order = 11
delay = 2
polcy = "x"
policy = "mainlin"
[host]
latency_per_call = """
cpu = 3
"""
error_every_calls = true
[audit]
interval = "10ms"
[limits]
oom_events_max = 1.5
[[load]]
kind = "burst"
[[load]]
kind = "bursts"
leave_free = "600MiB"
burst = "100MiB"
think = "1s"
order = 9
cpu = 2
[[load]]
kind = "replay"
speed = nan
recording = "gone"
trace = "gone.gz"
[[load]]
kind = "steady"
target = "4KiB"
orders = [
  0,
  0,
]
types.movable = -1
types.unmovble = 1
atomic_percent = 101
cpus = "some"
[[load]]
'''


def test_every_mistake_is_reported_at_once_with_its_place() -> None:
    places = [mistake.split(": ")[:2] for mistake in mistakes(MANY_MISTAKES)]
    assert places == [
        ["2", "name"],
        ["3", "duration"],
        ["4", "sed"],
        ["6", "guest.memory"],
        ["7", "guest.snapshot"],
        ["7", "guest.snapshot"],
        ["9", "guest.odd key"],
        ["11", "reporting.order"],
        ["12", "reporting.delay"],
        ["13", "reporting.polcy"],
        ["14", "reporting.policy"],
        ["16", "host.latency_per_call"],
        ["19", "host.error_every_calls"],
        ["21", "audit.interval"],
        ["23", "limits.oom_events_max"],
        ["25", "load[0].kind"],
        ["26", "load[1].hold"],
        ["31", "load[1].order"],
        ["32", "load[1].cpu"],
        ["35", "load[2].speed"],
        ["36", "load[2].recording"],
        ["37", "load[2].trace"],
        ["37", "load[2].trace"],
        ["41", "load[3].orders"],
        ["45", "load[3].types.movable"],
        ["46", "load[3].types.unmovble"],
        ["47", "load[3].atomic_percent"],
        ["48", "load[3].cpus"],
        ["49", "load[4].kind"],
    ]


def test_an_empty_file_misses_everything() -> None:
    assert mistakes("") == [
        "name: is missing",
        "duration: is missing",
        "load: at least one load must be given, as [[load]]",
        "guest: one of memory, snapshot and recording must be given",
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (LEAST.replace("16MiB", "12MiB"), "guest.memory: must be from 16MiB to 64GiB, not 12MiB"),
        (LEAST.replace("16MiB", "65GiB"), "guest.memory: must be from 16MiB to 64GiB, not 65GiB"),
        (
            LEAST.replace('"16MiB"', "16"),
            'guest.memory: must be a text with a unit, like "512MiB"',
        ),
        (LEAST.replace("1s", "0s"), "duration: must be from 1ms to 3650d, not 0s"),
        (LEAST.replace('"1s"', '"1s"\nseed = -1'), "seed: must be at least 0"),
        (LEAST.replace("[guest]", "[guest]\ncpus = 17"), "guest.cpus: must be at most 16"),
        (LEAST.replace("[guest]", "[guest]\ncpus = true"), "guest.cpus: must be a whole number"),
        (LEAST.replace("[guest]", "[guest]\ntouch = 1"), "guest.touch: must be true or false"),
        (
            LEAST.replace("[guest]", '[guest]\nthp = "on"'),
            "guest.thp: must be 'never' or 'always'",
        ),
        (
            LEAST.replace("[guest]", "[guest]\nhz = 1001"),
            "guest.hz: must be 100, 250, 300 or 1000",
        ),
        (
            LEAST.replace("[guest]", '[guest]\nmovable = "4MiB"'),
            "guest.movable: must be at most 0B: zone DMA is never movable",
        ),
        (
            LEAST.replace("[guest]", "[guest]\nmin_free_kbytes = 16384"),
            "guest.min_free_kbytes: must be less than guest.memory (16MiB)",
        ),
        (
            LEAST.replace("[guest]", "[guest]\nwatermark_scale_factor = 3001"),
            "guest.watermark_scale_factor: must be at most 3000",
        ),
        (
            LEAST.replace("[guest]", "[guest]\nmemry = 1"),
            "guest.memry: unknown key (did you mean 'memory'?)",
        ),
        (
            LEAST.replace("[guest]", '[guest]\nmemory_bytes = "1MiB"'),
            "guest.memory_bytes: unknown key",
        ),
        ("policy = 1\n" + LEAST, "policy: unknown key"),
        ("reportng.order = 1\n" + LEAST, "reportng: unknown key (did you mean 'reporting'?)"),
        ("reporting = 1\n" + LEAST, "reporting: must be a table, [reporting]"),
        ('[reporting]\npolicy = ""\n[x]\n', "reporting.policy: must not be empty"),
        (LEAST.replace("[[load]]", "[load]"), "load: at least one load must be given"),
        (LEAST.split("[[", 1)[0].replace("[g", "load = [3]\n[g"), "load[0]: must be a table"),
        (LEAST.replace('"idle"', "[]"), "load[0].kind: must be one of replay, bursts"),
        (LEAST + "cpu = 0\n", "load[0].cpu: unknown key"),
        (with_load('kind = "replay"'), "load[0]: one of recording and trace must be given"),
        (with_load('kind = "replay"\nspeed = 0'), "load[0].speed: must be a factor from 0.001"),
        (with_load('kind = "replay"\nspeed = 1.0000001'), "load[0].speed: must be"),
        (with_load('kind = "replay"\nspeed = true'), "load[0].speed: must be"),
        (with_load('kind = "replay"\nspeed = -1'), "load[0].speed: must be"),
        (with_load('kind = "replay"\nspeed = 1e999999999999'), "load[0].speed: must be"),
        (with_load('kind = "replay"\ncpu = 1'), "load[0].cpu: no such vCPU: guest.cpus is 1"),
        (with_load('kind = "replay"\ntrace = "a\\u0000b"'), "load[0].trace: no such file"),
        (with_load(f'kind = "replay"\ntrace = "{"a" * 9999}"'), "load[0].trace: no such file"),
        (with_load('kind = "replay"\ntrace = ""'), "load[0].trace: must be a path, in quotes"),
        (with_load('kind = "bursts"\norder = 1'), "load[0].order: must be 0 or 9"),
        (with_load('kind = "bursts"\norder = false'), "load[0].order: must be 0 or 9"),
        (with_load('kind = "bursts"\nburst = "1B"'), "load[0].burst: must be from 4KiB"),
        (
            with_load('kind = "bursts"\nburst = "5000B"'),
            "load[0].burst: must be a multiple of 4KiB",
        ),
        (
            with_load('kind = "bursts"\nleave_free = "512MiB"'),
            "load[0].leave_free: must be less than guest.memory (512MiB)",
        ),
        (
            with_load('kind = "bursts"\nburst = "512MiB"\njitter = 50'),
            "load[0].burst: grows to 805306368 bytes by its jitter and must be at most",
        ),
        (
            with_load('kind = "steady"\ntarget = "1GiB"'),
            "load[0].target: must be less than guest.memory (512MiB)",
        ),
        (with_load('kind = "steady"\ncpu = 0\ncpus = "all"'), "load[0].cpus: cannot go with cpu"),
        (with_load('kind = "steady"\norders = []'), "load[0].orders: must be a list of 1 to 11"),
        (with_load('kind = "steady"\norders = [true]'), "load[0].orders: each weight must be"),
        (with_load('kind = "steady"\ntypes = {}'), "load[0].types: at least one weight"),
        (with_load('kind = "steady"\ntypes = 3'), "load[0].types: must be a table"),
        (with_load('kind = "files"'), "load[0].files: is missing"),
        (
            with_load('kind = "files"\nfiles = "4MiB"\nmlocked = "5MiB"'),
            "load[0].mlocked: must be at most files (4MiB)",
        ),
        (
            with_load('kind = "files"\nfiles = "1GiB"\nmlocked = "1GiB"'),
            "load[0].mlocked: must be less than guest.memory (512MiB)",
        ),
        (
            with_load('kind = "files"\nfiles = "1GiB"\ntmpfs = "1GiB"'),
            "load[0].tmpfs: must be less than guest.memory (512MiB)",
        ),
        (
            with_load('kind = "files"\nwrite_percent = 101'),
            "load[0].write_percent: must",
        ),
        (with_load('kind = "files"\npattern = "zigzag"'), "load[0].pattern: must be"),
        (with_load('kind = "files"\nfiles = "1KiB"'), "load[0].files: must be"),
        (with_load('kind = "files"\ncpu = 1'), "load[0].cpu: no such vCPU"),
    ],
)
def test_a_mistake_is_told(text: str, mistake: str) -> None:
    assert any(re.sub(r"^[0-9]+: ", "", found).startswith(mistake) for found in mistakes(text))


def test_a_value_at_fault_hides_no_other_mistake_and_makes_none() -> None:
    text = with_load(
        'kind = "bursts"\nleave_free = "1TiB"\nburst = "600MiB"\nthink = "1s"\nhold=0'
    )
    assert [mistake.split(": ")[1] for mistake in mistakes(text)] == [
        "load[0].leave_free",
        "load[0].burst",
        "load[0].hold",
    ]
    broken_guest = text.replace("512MiB", "512")
    assert [mistake.split(": ")[1] for mistake in mistakes(broken_guest)] == [
        "guest.memory",
        "load[0].leave_free",
        "load[0].hold",
    ]


def test_a_guest_has_one_start_and_a_snapshot_its_own_zones(tmp_path: Path) -> None:
    (tmp_path / "a.free").write_text("")
    guest = 'snapshot = "a.free"\nrecording = "."\nmovable = "4MiB"\nwatermark_scale_factor = 10'
    assert mistakes(with_load('kind = "idle"', guest), tmp_path) == [
        "5: guest.recording: cannot go with snapshot: a guest has one start",
        "6: guest.movable: goes with memory only: here the snapshot says it",
        "7: guest.watermark_scale_factor: goes with memory only: here the snapshot says it",
    ]


def test_a_path_of_the_wrong_kind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    text = with_load('kind = "replay"\ntrace = "."', 'recording = "file"')
    assert mistakes(text, tmp_path) == [
        f"4: guest.recording: no such folder: 'file' ({tmp_path / 'file'})",
        f"7: load[0].trace: no such file: '.' ({tmp_path})",
    ]


def test_an_unknown_policy_is_told_what_is_known() -> None:
    with pytest.raises(
        InputError, match=r"reporting\.policy: .*did you mean 'mainline'.*known are"
    ):
        check_policy("mainlin", POLICIES)
    check_policy("off", POLICIES)


# ---- what a valid one becomes ----


def test_the_least_scenario_has_the_kernels_defaults() -> None:
    scenario = parsed(LEAST)
    assert (scenario.seed, scenario.description) == (1, "")
    guest = scenario.guest
    assert (guest.cpus, guest.thp, guest.touch, guest.movable_bytes) == (1, "never", True, 0)
    assert (guest.min_free_kbytes, guest.watermark_scale_factor) == (None, 10)
    assert guest.watermark_boost_factor == 15_000
    reporting = scenario.reporting
    assert (reporting.policy, reporting.order, reporting.capacity) == ("mainline", 9, 32)
    assert reporting.delay_ns == 2 * NS_PER_SECOND
    assert scenario.audit.interval_ns == NS_PER_SECOND
    assert scenario.limits.oom_events_max is None
    assert scenario.loads == (Idle(kind="idle"),)


@pytest.mark.parametrize(
    ("speed", "speed_ppm"),
    [
        ('"recorded"', 1_000_000),
        ('"fast"', 0),
        ("1", 1_000_000),
        ("2.5", 2_500_000),
        ('"0.1"', 100_000),
        ("0.001", 1_000),
        ("1_000.0", 1_000_000_000),
        ("0.333333", 333_333),
    ],
)
def test_the_speed_of_a_replay_is_exact(speed: str, speed_ppm: int, tmp_path: Path) -> None:
    scenario = parsed(with_load(f'kind = "replay"\nrecording = "."\nspeed = {speed}'), tmp_path)
    (load,) = scenario.loads
    assert isinstance(load, Replay)
    assert load.speed_ppm == speed_ppm
    assert parsed(scenario.as_toml()) == scenario


def test_a_steady_load() -> None:
    load = 'kind = "steady"\ntarget = "64MiB"\norders = [1, 2]\ntypes.movable = 3\ncpus = "all"'
    scenario = parsed(with_load(load))
    (steady,) = scenario.loads
    assert isinstance(steady, Steady)
    assert steady.orders == (1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert (steady.types.unmovable, steady.types.movable, steady.types.reclaimable) == (0, 3, 0)
    assert (steady.cpus, steady.rate_per_second) == ("all", 0)
    assert parsed(scenario.as_toml()) == scenario


def test_a_load_of_files() -> None:
    load = 'kind = "files"\nfiles = "64MiB"\nmlocked = "4KiB"\npattern = "sequential"'
    scenario = parsed(with_load(load))
    (files,) = scenario.loads
    assert isinstance(files, Files)
    assert (files.files_bytes, files.mlocked_bytes, files.tmpfs_bytes) == (64 << 20, 4096, 0)
    assert (files.pattern, files.rate_per_second, files.write_percent) == ("sequential", 0, 0)
    assert scenario.guest.writeback_ns == 20_000_000
    assert parsed(scenario.as_toml()) == scenario


def test_a_scenario_cannot_be_changed() -> None:
    scenario = parsed(LEAST)
    with pytest.raises(ValueError, match="frozen"):
        scenario.guest.cpus = 2
    with pytest.raises(ValueError, match="frozen"):
        scenario.seed = 2


def test_overrides_make_a_checked_copy() -> None:
    scenario = parsed(LEAST)
    other = scenario.with_overrides(policy="off", duration_ns=1_500_000_001, seed=0, touch=False)
    assert (other.reporting.policy, other.duration_ns, other.seed) == ("off", 1_500_000_001, 0)
    assert not other.guest.touch
    assert other.loads == scenario.loads
    assert scenario == parsed(LEAST)
    with pytest.raises(InputErrors) as caught:
        scenario.with_overrides(policy="", duration_ns=0, seed=-1)
    assert [error.key for error in caught.value.errors] == ["duration", "seed", "reporting.policy"]


def test_any_value_can_be_replaced_by_its_key() -> None:
    scenario = parsed(
        with_load(
            'kind = "bursts"\nleave_free = "1MiB"\nburst = "1MiB"\nthink = "1s"\nhold = "1s"'
        )
    )
    changes = {("host", "latency_per_call"): "20ms", ("load", 0, "think"): "2s"}
    other = scenario.with_values(changes)
    assert other.host.latency_per_call_ns == 20 * NS_PER_MS
    assert isinstance(other.loads[0], Bursts)
    assert other.loads[0].think_ns == 2 * NS_PER_SECOND
    assert scenario.with_values({}) == scenario
    with pytest.raises(InputErrors) as caught:
        scenario.with_values({("host", "latency_per_call"): 20, ("guest", "tuch"): True})
    assert [error.key for error in caught.value.errors] == ["guest.tuch", "host.latency_per_call"]
