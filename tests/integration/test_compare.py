"""`pagesoak compare` from outside: whole comparisons in virtual time, interrupted and broken ones,
and bad input.
"""

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.live_helper import (
    COMPILE_SECONDS_MAX,
    RUN_SECONDS_MAX,
    Finished,
    await_true,
    children,
    command,
    compile_core,
    environment,
    pagesoak,
    scenario_text,
    write_scenario,
)

pytestmark = pytest.mark.timeout(COMPILE_SECONDS_MAX)

BURSTS = {
    "kind": "bursts",
    "leave_free": "10MiB",
    "burst": "7MiB",
    "think": "100ms",
    "hold": "30ms",
}
TEXT = scenario_text([BURSTS], duration="3s", host={"latency_per_call": "100ms"})
VARYING = ("started", "finished", "wall_seconds", "directory")
"""Fields of the object that depend on the moment or the place: docs/compare.md says so."""


@pytest.fixture(scope="module", autouse=True)
def _core() -> None:
    compile_core()


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    return write_scenario(tmp_path, TEXT)


def compare(scenario: Path, *arguments: str | Path, sabotage: str = "") -> Finished:
    """Two policies and two seeds in virtual time unless the arguments say otherwise."""
    chosen = () if "--policies" in arguments else ("--policies", "off,mainline")
    return pagesoak(
        "compare", scenario, *chosen, "--seeds", "2", "--virtual",
        "--results", scenario.parent / "results", *arguments, sabotage=sabotage,
    )  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The usual comparison, made once."""
    return compare(write_scenario(tmp_path_factory.mktemp("plain"), TEXT), "--json")


def without_what_varies(document: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in document.items() if key not in VARYING}
    for variant in kept["variants"]:
        for run in variant["runs"]:
            assert Path(run.pop("directory")).is_dir()
    return kept


# ---- whole comparisons ----


def test_two_policies_with_two_seeds(plain: Finished) -> None:
    assert plain.code == 0
    document = plain.summary
    off, mainline = document["variants"]
    assert (off["variant"], mainline["variant"], document["baseline"]) == (
        "off", "mainline", "mainline",
    )  # fmt: skip
    assert off["totals"]["oom_events"]["isolated"] == 0
    assert mainline["totals"]["oom_events"]["isolated"] > 0
    assert mainline["totals"]["window_seconds"]["p50"] > 0.1
    assert [run["seed"] for run in off["runs"]] == [1, 2]
    kills = [one for one in document["differences"] if one["figure"] == "oom_isolated"]
    assert [one["variant"] for one in kills] == ["off"]
    assert kills[0]["mean"] < 0
    assert kills[0]["low"] is None
    assert re.match(r"Under off none of \d+ bursts was killed", document["found"][0])


def test_every_run_is_an_ordinary_one_below_the_comparison(plain: Finished) -> None:
    document = plain.summary
    folder = Path(document["directory"])
    assert folder.parent.name == "results"
    assert {path.name for path in folder.iterdir()} == {"1-off", "2-mainline", "compare.json"}
    assert json.loads((folder / "compare.json").read_text()) == document
    for variant in document["variants"]:
        for run in variant["runs"]:
            summary = json.loads((Path(run["directory"]) / "summary.json").read_text())
            assert (summary["policy"], summary["seed"]) == (variant["policy"], run["seed"])
            assert summary["oom_events"]["isolated"] == run["oom_isolated"]
            assert summary["window_seconds"]["count"] == run["windows"]


def test_the_same_command_gives_the_same_bytes(plain: Finished, scenario: Path) -> None:
    again = compare(scenario, "--json")
    first, second = (
        json.dumps(without_what_varies(json.loads(finished.out))) for finished in (plain, again)
    )
    assert first == second


def test_a_changed_key_is_a_variant_of_its_own(scenario: Path) -> None:
    document = compare(scenario, "--with", "host.latency_per_call=0ms", "--json").summary
    changed = document["variants"][2]
    assert changed["variant"] == "mainline + latency_per_call=0ms"
    assert changed["changes"] == {"host.latency_per_call": "0ms"}
    assert changed["totals"]["window_seconds"]["max"] < 0.1
    kept = (Path(changed["runs"][0]["directory"]) / "scenario.toml").read_text()
    assert 'latency_per_call = "0ns"' in kept or 'latency_per_call = "0s"' in kept


def test_people_get_words_tables_plots_a_page_and_a_picture(
    scenario: Path, tmp_path: Path
) -> None:
    page, picture = tmp_path / "c.html", tmp_path / "c.svg"
    finished = compare(scenario, "--html", page, "--plot", picture)
    assert finished.code == 0
    assert finished.out.startswith("planted, 2 variants, seeds 1 to 2, 3s each, virtual\n")
    for part in ("Under off none of", "OOM kills by cause*", "headroom over min", "windows by"):
        assert part in finished.out
    assert finished.out.splitlines()[-1].startswith("results  ")
    assert "\x1b" not in finished.out
    assert [line for line in finished.messages if not line.startswith("pagesoak: ")] == []
    assert len(finished.messages) == 4
    text = page.read_text()
    assert "Content-Security-Policy" in text
    assert "kernel of this machine Linux" in text
    assert picture.read_text().startswith("<?xml")


def test_a_policy_from_a_file(plain: Finished, scenario: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "from pagesoak.reporter.policies.mainline import Mainline\n"
        "@dataclass(frozen=True)\n"
        "class Mine(Mainline):\n"
        "    name = 'mine'\n"
    )
    document = compare(scenario, "--policies", f"off,{file}:Mine", "--json").summary
    off, mine = document["variants"]
    assert document["baseline"] == "off"
    assert mine["policy"] == f"{file}:Mine"
    assert [off["totals"], mine["totals"]] == [
        variant["totals"] for variant in plain.summary["variants"]
    ]


def test_live_runs_go_one_after_the_other(tmp_path: Path) -> None:
    path = write_scenario(tmp_path, scenario_text(duration="200ms"))
    finished = pagesoak(
        "compare", path, "--policies", "off,mainline", "--seeds", "1",
        "--results", tmp_path / "results", "--json",
    )  # fmt: skip
    assert finished.code == 0
    assert finished.summary["mode"] == "live"
    spans = []
    for variant in finished.summary["variants"]:
        summary = Path(variant["runs"][0]["directory"], "summary.json").read_text()
        began_ns = json.loads(summary)["started_monotonic_ns"]
        spans.append((began_ns, began_ns + 200_000_000))
    assert spans[0][1] <= spans[1][0]


# ---- ends before the end ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_done(scenario: Path, tmp_path: Path, number: int) -> None:
    with subprocess.Popen(
        command(
            "compare", scenario, "--policies", "off,mainline", "--seeds", "200", "--virtual",
            "--results", tmp_path / "results", "--json",
        ),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            seen = [process.stderr.readline() for _ in range(3)]
            process.send_signal(number)
            out, err = process.communicate(timeout=RUN_SECONDS_MAX)
        finally:
            process.kill()
    assert process.returncode == 130
    assert seen[-1].startswith("pagesoak: 3 of 400: ")
    assert "Traceback" not in err
    document = json.loads(out)
    assert document["interrupted"] is True
    done = sum(len(variant["runs"]) for variant in document["variants"])
    assert 3 <= done < 400
    assert f"Interrupted: {done} of 400 runs were made." in document["found"]
    assert json.loads(Path(document["directory"], "compare.json").read_text()) == document


def test_a_signal_in_the_first_run_leaves_words(tmp_path: Path) -> None:
    path = write_scenario(tmp_path, scenario_text(duration="60s"))
    with subprocess.Popen(
        command(
            "compare", path, "--policies", "off,mainline", "--results", tmp_path / "results",
            "--html", tmp_path / "c.html", "--plot", tmp_path / "c.png",
        ),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as process:  # fmt: skip
        try:

            def soaking() -> bool:
                runs = children(process.pid).values()
                return any("soak-guest-0" in children(pid) for pid in runs)

            await_true(soaking, "a guest of the first run")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=RUN_SECONDS_MAX)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Interrupted: 0 of 16 runs were made." in out
    assert err == "pagesoak: no run has ended: nothing to draw\n"
    assert "No run was made" in (tmp_path / "c.html").read_text()
    assert not (tmp_path / "c.png").exists()


BREAKS = """
import pagesoak.engine.runner as runner
from pagesoak.base.errors import HarnessError
def breaks(self):
    if self._soak.scenario.seed == 2 and self._soak.scenario.reporting.policy == "mainline":
        raise HarnessError("planted")
runner._Run._verify = breaks
"""


def test_a_broken_run_ends_it_and_is_named(scenario: Path) -> None:
    finished = compare(scenario, "--seeds", "50", "--json", sabotage=BREAKS)
    assert finished.code == 3
    assert finished.out == ""
    last = finished.messages[-1]
    match = re.fullmatch(r"pagesoak: (.*): planted", last)
    assert match is not None
    directory = Path(match[1])
    assert directory.name.endswith("-planted-mainline-2")
    assert (directory / "evidence").is_dir()
    assert not (directory.parent.parent / "compare.json").exists()


def test_a_run_that_cannot_start_is_one_message_and_leaves_nothing(tmp_path: Path) -> None:
    refuses = """
import pagesoak.engine.runner as runner
from pagesoak.base.errors import InputError
def refuses(*_, **__):
    raise InputError("too large")
runner.prepare = refuses
"""
    path = write_scenario(tmp_path, TEXT)
    finished = compare(path, sabotage=refuses)
    assert (finished.code, finished.out) == (2, "")
    assert finished.messages == ["pagesoak: too large"]
    assert not (tmp_path / "results").exists()


def test_a_run_that_dies_is_a_broken_one(scenario: Path) -> None:
    dies = """
import os, signal
import pagesoak.engine.runner as runner
runner._walk = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""
    finished = compare(scenario, sabotage=dies)
    assert finished.code == 3
    assert finished.messages[-1].endswith("the process of a run (seed 1) died of SIGKILL")


def test_bad_input_is_one_message_and_nothing_starts(scenario: Path) -> None:
    finished = compare(scenario, "--with", "host.latncy_per_call=1s")
    assert (finished.code, finished.out) == (2, "")
    said = "a scenario has no key 'host.latncy_per_call' (did you mean 'host.latency_per_call'"
    assert finished.messages[0].startswith(f"pagesoak: --with: {said}")
    assert len(finished.messages) == 1
    assert not (scenario.parent / "results").exists()


# ---- the seed scenario ----


@pytest.mark.slow
def test_off_never_kills_and_mainline_does(tmp_path: Path) -> None:
    finished = pagesoak(
        "compare", "seed-512m", "--policies", "off,mainline", "--virtual", "--json",
        "--results", tmp_path / "results",
    )  # fmt: skip
    assert finished.code == 0
    off, mainline = (variant["totals"] for variant in finished.summary["variants"])
    assert off["oom_events"] == {"isolated": 0, "fragmented": 0, "exhausted": 0}
    assert off["bursts"]["run"] > 200
    assert mainline["runs_with_isolated_kill"] >= 6
    share = mainline["isolated_kills_per_burst"]
    # 34 of 268 bursts of the recorded kernel with calls of half a second: 12.7 %
    assert share["low"] < 0.127 < share["high"]
    (kills,) = [one for one in finished.summary["differences"] if one["figure"] == "oom_isolated"]
    assert kills["told"] is True
    assert kills["high"] < 0
