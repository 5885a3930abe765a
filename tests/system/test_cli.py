"""`pagesoak` from outside: what goes to which stream, exit codes, and streams that fail."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live_helper import (
    COMPILE_SECONDS_MAX,
    RUN_SECONDS_MAX,
    LiveRun,
    children,
    command,
    compile_core,
    environment,
    pagesoak,
    scenario_text,
    write_scenario,
)

pytestmark = pytest.mark.timeout(COMPILE_SECONDS_MAX)

DEMO_SECONDS_MAX = 240.0
"""Four times what it takes."""
SHORT = scenario_text(duration="200ms")


@pytest.fixture(scope="module", autouse=True)
def _core() -> None:
    compile_core()


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    return write_scenario(tmp_path, SHORT)


# ---- stdout, stderr and the directory ----


def test_json_is_one_object_on_the_only_line_of_stdout(scenario: Path, tmp_path: Path) -> None:
    finished = pagesoak("run", scenario, "--json", "--results", tmp_path / "results")
    assert finished.code == 0
    assert finished.summary["verdict"] == "pass"
    assert finished.messages == []


def test_without_json_people_get_a_table(scenario: Path, tmp_path: Path) -> None:
    finished = pagesoak("run", scenario, "--results", tmp_path / "results")
    assert finished.code == 0
    title, *rows = finished.out.splitlines()
    assert all(word in title for word in ("planted", "mainline", "pass"))
    assert any("violations" in row for row in rows)
    assert any(str(tmp_path / "results") in row for row in rows)
    assert "\x1b" not in finished.out
    assert finished.messages == []


def test_a_run_in_which_nothing_happens_has_a_table_too(scenario: Path, tmp_path: Path) -> None:
    finished = pagesoak("run", scenario, "--policy", "off", "--results", tmp_path / "results")
    assert finished.code == 0
    assert "off" in finished.out.splitlines()[0]
    assert "pass" in finished.out.splitlines()[0]
    assert finished.messages == []


@pytest.mark.usefixtures("scenario")
def test_results_go_below_the_callers_directory_by_default(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    finished = pagesoak("run", "../planted.toml", "--json", cwd=here)
    (directory,) = (here / "pagesoak-results").iterdir()
    assert directory.name == finished.summary["run"]
    assert (here / finished.summary["directory"]).samefile(directory)


def test_two_runs_of_one_second_have_directories_of_their_own(
    scenario: Path, tmp_path: Path
) -> None:
    arguments = command("run", scenario, "--json", "--results", tmp_path / "results")
    runs = [
        subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment()) for _ in range(2)
    ]
    outputs = [run.communicate(timeout=RUN_SECONDS_MAX)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    names = {json.loads(output)["run"] for output in outputs}
    assert {path.name for path in (tmp_path / "results").iterdir()} == names
    assert len(names) == 2


def test_options_replace_what_the_scenario_says(scenario: Path, tmp_path: Path) -> None:
    finished = pagesoak(
        "run", scenario, "--json", "--results", tmp_path / "results",
        "--duration", "150ms", "--seed", "42", "--policy", "off", "--no-touch",
    )  # fmt: skip
    summary = finished.summary
    assert summary["duration_seconds"] == pytest.approx(0.15)
    assert (summary["seed"], summary["policy"]) == (42, "off")
    kept = (finished.directory / "scenario.toml").read_text()
    assert "touch = false" in kept
    assert 'duration = "150ms"' in kept


def test_a_scenario_whose_limits_break_fails_with_1(tmp_path: Path) -> None:
    text = scenario_text(duration="200ms", limits={"watermark_margin_min_pages": 10**6})
    path = write_scenario(tmp_path, text)
    finished = pagesoak("run", path, "--json", "--results", tmp_path / "results")
    assert finished.code == 1
    assert finished.summary["verdict"] == "fail"
    (broken,) = finished.summary["limits_broken"]
    assert broken.startswith("watermark_margin_min_pages = 1000000, found ")


def test_a_terminal_gets_progress_and_stdout_stays_clean(scenario: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command("run", scenario, "--json", "--results", tmp_path / "results"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment(TERM="xterm"),
    ) as run:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 1 << 16)
            except OSError:  # the terminal's last writer has gone
                break
            shown += piece
        assert run.stdout is not None
        out = run.stdout.read()
    os.close(ours)
    assert run.returncode == 0
    assert out.count(b"\n") == 1
    assert json.loads(out)["verdict"] == "pass"
    assert b"planted, mainline" in shown
    assert b"\x1b[?25l" in shown  # the cursor hidden, and given back
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")


def test_colour_that_is_forced_does_not_make_a_pipe_a_terminal(
    scenario: Path, tmp_path: Path
) -> None:
    finished = pagesoak(
        "run", scenario, "--json", "--results", tmp_path / "results", FORCE_COLOR="1"
    )
    assert finished.code == 0
    assert finished.messages == []


# ---- streams that fail ----


@pytest.mark.parametrize("json_option", [["--json"], []], ids=["json", "table"])
def test_a_full_disk_behind_stdout_is_one_message(
    json_option: list[str], scenario: Path, tmp_path: Path
) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            command("run", scenario, *json_option, "--results", tmp_path / "results"),
            stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), check=False,
        )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr == "pagesoak: standard output: No space left on device\n"
    (directory,) = (tmp_path / "results").iterdir()
    assert json.loads((directory / "summary.json").read_text())["verdict"] == "pass"


@pytest.mark.parametrize("json_option", [["--json"], []], ids=["json", "table"])
def test_a_reader_that_has_gone_changes_no_verdict(
    json_option: list[str], scenario: Path, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(
        command("run", scenario, *json_option, "--results", tmp_path / "results"),
        stdout=writer, stderr=subprocess.PIPE, text=True, env=environment(), check=False,
    )  # fmt: skip
    os.close(writer)
    assert (run.returncode, run.stderr) == (0, "")


def test_standard_streams_that_are_closed_are_missed_by_nobody(
    scenario: Path, tmp_path: Path
) -> None:
    arguments = command("run", scenario, "--json", "--results", tmp_path / "results")
    closing = "import os, sys; os.closerange(0, 3); os.execv(sys.argv[1], sys.argv[1:])"
    run = subprocess.run(
        [sys.executable, "-c", closing, *arguments], env=environment(), check=False
    )
    assert run.returncode == 0
    (directory,) = (tmp_path / "results").iterdir()
    assert json.loads((directory / "summary.json").read_text())["verdict"] == "pass"


# ---- other verbs ----


def test_scenarios_lists_what_is_built_in() -> None:
    finished = pagesoak("scenarios", "--json")
    names = {scenario["name"] for scenario in finished.summary["scenarios"]}
    assert names == {"idle-512m", "idle-64g", "recorded-w2", "seed-512m", "seed-large"}
    people = pagesoak("scenarios")
    assert all(name in people.out for name in names)


def test_a_scenario_that_is_shown_can_be_run(tmp_path: Path) -> None:
    shown = pagesoak("scenarios", "idle-512m")
    path = tmp_path / "mine.toml"
    path.write_text(shown.out)
    finished = pagesoak(
        "run", path, "--json", "--results", tmp_path / "results",
        "--duration", "100ms", "--no-touch",
    )  # fmt: skip
    assert finished.code == 0
    assert finished.summary["scenario"] == "idle-512m"


def test_version_needs_no_heavy_module() -> None:
    program = (
        "import sys; sys.argv = ['pagesoak', '--version'];"
        " from pagesoak.__main__ import main; main();"
        " print(sorted({'numpy', 'numba', 'typer', 'rich', 'pydantic'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(),
        check=True,
    )  # fmt: skip
    first, second = run.stdout.splitlines()
    assert first.startswith("pagesoak 0.")
    assert second == "[]"


@pytest.mark.slow
def test_the_demo_shows_the_failure_and_its_control(tmp_path: Path) -> None:
    """In full, as a newcomer runs it first."""
    done = subprocess.run(
        command("demo", "--json", "--results", tmp_path / "results"),
        capture_output=True, text=True, env=environment(), check=False, timeout=DEMO_SECONDS_MAX,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["shown"] is True
    assert found["recorded"]["replay"]["made"] == found["recorded"]["replay"]["requests"] > 0
    assert found["recorded"]["unmatched_frees"] == 0
    assert found["reporting"]["oom_events"]["isolated"] > 0
    assert sum(found["off"]["oom_events"].values()) == 0
    for part in ("recorded", "reporting", "off"):
        assert found[part]["integrity"]["violations"] == found[part]["audits"]["failed"] == 0
    assert "bursts were killed because pages were isolated" in done.stderr
    assert len(list((tmp_path / "results").iterdir())) == 3


@pytest.mark.slow
def test_a_demo_that_is_interrupted_ends_in_order(tmp_path: Path) -> None:
    with subprocess.Popen(
        command("demo", "--results", tmp_path / "results"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as demo:  # fmt: skip
        try:
            while not children(demo.pid):
                assert demo.poll() is None
            demo.send_signal(signal.SIGINT)
            out, err = demo.communicate(timeout=RUN_SECONDS_MAX)
        finally:
            demo.kill()
    assert demo.returncode == 130
    assert "interrupted" in out
    assert "without reporting" not in out
    assert err == ""
    (directory,) = (tmp_path / "results").iterdir()
    assert json.loads((directory / "summary.json").read_text())["interrupted"] is True


INTERRUPTED_IMPORT = """
import sys

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "pagesoak.cli.scenarios":
            exec("raise KeyboardInterrupt")

sys.meta_path.insert(0, Interrupted())
"""
"""An interrupt that passes through generated code, as a dataclass is made of."""


def test_an_interrupt_while_modules_are_imported_ends_with_130(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTED_IMPORT)
    path = os.pathsep.join((str(tmp_path), environment()["PYTHONPATH"]))
    finished = pagesoak("scenarios", PYTHONPATH=path)
    assert (finished.code, finished.out, finished.err) == (130, "", "")


SWALLOWED_INTERRUPT = """
import os, signal, sys, time

class Swallowing:
    def find_spec(self, name, path=None, target=None):
        if name == "pagesoak.engine.runner":
            try:
                os.kill(os.getpid(), signal.{name})
                time.sleep(10)
            except KeyboardInterrupt:
                pass

sys.meta_path.insert(0, Swallowing())
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_that_was_swallowed_is_not_forgotten(
    name: str, scenario: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SWALLOWED_INTERRUPT.format(name=name))
    path = os.pathsep.join((str(tmp_path), environment()["PYTHONPATH"]))
    results = tmp_path / "results"
    finished = pagesoak("run", scenario, "--results", results, PYTHONPATH=path)
    assert (finished.code, finished.out, finished.err) == (130, "", "")
    assert not results.exists()


def test_the_command_is_kept_as_it_was_given(tmp_path: Path) -> None:
    with LiveRun(tmp_path, SHORT, "--seed", "9") as run:
        finished = run.finish()
    kept = json.loads((finished.directory / "run.json").read_text())["command"]
    assert kept[1:] == [
        "run", str(tmp_path / "planted.toml"), "--results", str(tmp_path / "results"),
        "--seed", "9", "--json",
    ]  # fmt: skip
