"""The daemon from outside, with real processes: what it starts, ends, refuses and survives."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pagesoak.daemon.client import NoDaemonError, RefusedError
from tests.daemon_helper import (
    END_SECONDS_MAX,
    LOADS,
    LONG,
    SLOW_TEST_SECONDS_MAX,
    Daemon,
    is_there,
    wait_until,
)
from tests.live_helper import (
    command,
    environment,
    pagesoak,
    process_name,
    scenario_text,
    write_scenario,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SLOW_TEST_SECONDS_MAX)]

ORPHANS_GONE_SECONDS = 10.0
"""After the daemon's death, by the issue."""
END_IN_ORDER_SECONDS = 15.0


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as started:
        yield started


def summary_of(daemon: Daemon, run: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((daemon.results / run / "summary.json").read_text())
    return document


# ---- the life of a run ----


def test_a_run_is_started_shown_and_stopped(daemon: Daemon, tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, LONG)
    started = daemon.cli("start", scenario, "--name", "one", "--seed", "7", "--json")
    assert started.code == 0, started.err
    assert started.summary["run"] == "one"
    running = wait_until(
        lambda: (found := daemon.cli("status", "one", "--json").summary)["figures"] and found
    )
    assert running["seed"] == 7
    assert running["figures"]["zones"][0]["managed_pages"] > 0
    listed = daemon.cli("list", "--json").summary["runs"]
    assert [run["run"] for run in listed] == ["one"]
    stopped = daemon.cli("stop", "one", "--json")
    assert stopped.summary["state"] == "ended"
    assert stopped.summary["interrupted"] is True
    assert summary_of(daemon, "one")["integrity"]["violations"] == 0
    assert "one" in daemon.cli("list").out
    assert "pass (interrupted)" in daemon.cli("status", "one").out


def test_a_run_ends_by_itself_with_its_verdict(daemon: Daemon) -> None:
    text = scenario_text(duration="300ms", limits={"watermark_margin_min_pages": 10**6})
    first = daemon.client.post("/v1/runs", {"run": "short", "scenario_toml": text})
    ended = wait_until(lambda: (run := daemon.record("short"))["state"] == "ended" and run)
    assert (ended["verdict"], ended["interrupted"], ended["pid"]) == ("fail", False, None)
    summary = ended["summary"]
    assert summary == summary_of(daemon, "short")
    assert first["started"] == ended["started"] == summary["started"] <= summary["finished"]
    assert ended["elapsed_seconds"] == summary["duration_seconds"]


def test_several_runs_go_on_at_once_up_to_the_limit(tmp_path: Path) -> None:
    with Daemon(tmp_path, "at_once_max = 2\n") as daemon:
        pids = {daemon.run("one")["pid"], daemon.run("two")["pid"]}
        assert len(pids) == 2
        with pytest.raises(RefusedError, match="at_once_max"):
            daemon.client.post("/v1/runs", {"run": "three", "scenario_toml": LONG})
        assert {run["run"] for run in daemon.client.get("/v1/status")["runs"]} == {"one", "two"}


def test_asking_twice_for_a_run_starts_it_once(daemon: Daemon) -> None:
    first = daemon.run("one")
    again = daemon.client.post("/v1/runs", {"run": "one", "scenario_toml": LONG})
    assert again["pid"] == first["pid"]
    with pytest.raises(RefusedError, match="another scenario"):
        daemon.client.post("/v1/runs", {"run": "one", "scenario_toml": LONG, "seed": 99})
    daemon.client.post("/v1/runs/one/stop")
    wait_until(lambda: daemon.record("one")["state"] == "ended")
    over = daemon.client.post("/v1/runs", {"run": "one", "scenario_toml": LONG})
    assert over["state"] == "ended"


def test_a_run_that_cannot_be_is_refused_and_leaves_its_name_free(daemon: Daemon) -> None:
    huge = scenario_text(memory="64GiB", guest={"touch": True})
    refused = daemon.cli("start", write_scenario(daemon.folder, huge), "--name", "one")
    assert refused.code == 2
    assert "MiB may be used" in refused.err
    assert not (daemon.results / "one").exists()
    assert daemon.run("one")["state"] == "running"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"run": "../x", "scenario": "idle-512m"}, "run"),
        ({"run": "x", "scenario": "idle-512"}, "did you mean 'idle-512m'"),
        ({"run": "x", "scenario": "/etc/passwd"}, "no built-in scenario"),
        ({"run": "x", "scenario": "idle-512m", "policy": "mine.py:Policy"}, "built in or inst"),
        ({"run": "x", "scenario": "idle-512m", "policy": "halvin"}, "halving"),
        ({"run": "x", "scenario": "idle-512m", "duration": "soon"}, "duration"),
        ({"run": "x", "scenario_toml": "name = 1"}, "name: must be a text"),
        ({"run": "x"}, "exactly one"),
        ({"run": "x", "scenario": "idle-512m", "scenario_toml": ""}, "exactly one"),
        ({"run": "x", "scenario": "idle-512m", "odd": 1}, "odd"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    daemon: Daemon, wanted: dict[str, Any], said: str
) -> None:
    with pytest.raises(RefusedError, match=said) as refused:
        daemon.client.post("/v1/runs", wanted)
    assert refused.value.status == 422
    assert daemon.client.get("/v1/runs") == {"runs": []}


def test_a_scenario_reads_only_below_the_folders_that_are_named(tmp_path: Path) -> None:
    outside = tmp_path / "trace.txt"
    outside.write_text("")
    text = scenario_text(loads=({"kind": "replay", "trace": str(outside)},))
    with Daemon(tmp_path) as daemon, pytest.raises(RefusedError, match="none of the folders"):
        daemon.client.post("/v1/runs", {"run": "x", "scenario_toml": text})


def test_an_unknown_run_is_said_to_be_unknown(daemon: Daemon) -> None:
    for verb in ("status", "stop", "events", "logs", "attach"):
        finished = daemon.cli(verb, "nobody")
        assert finished.code == 2, verb
        assert finished.err == "pagesoak: there is no run named 'nobody'\n"


# ---- following ----


def test_events_and_logs_are_followed_to_the_runs_end(daemon: Daemon) -> None:
    text = scenario_text(loads=LOADS, duration="1s")
    daemon.client.post("/v1/runs", {"run": "short", "scenario_toml": text})
    for verb, file in (("events", "events.jsonl"), ("logs", "worker.log.jsonl")):
        lines = daemon.cli(verb, "short", "--follow", "--json").out
        assert lines == (daemon.results / "short" / file).read_text()
        people = daemon.cli(verb, "short").out
        assert people.count("\n") == lines.count("\n")


def test_attach_gives_samples_until_the_end(daemon: Daemon) -> None:
    text = scenario_text(loads=LOADS, duration="2500ms")
    daemon.client.post("/v1/runs", {"run": "short", "scenario_toml": text})
    lines = daemon.cli("attach", "short", "--json").out.splitlines()
    samples = [json.loads(line)["sample"] for line in lines]
    elapsed = [sample["elapsed_seconds"] for sample in samples if sample is not None]
    assert elapsed
    assert elapsed == sorted(elapsed)


@pytest.mark.parametrize("verb", [["events", "-f"], ["attach"], ["attach", "--json"]])
def test_a_follower_ends_when_nobody_reads_what_it_says(daemon: Daemon, verb: list[str]) -> None:
    daemon.run("one")
    with subprocess.Popen(
        command(verb[0], "one", *verb[1:]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(NUMBA_DISABLE_JIT="1", PAGESOAK_SOCKET=str(daemon.socket)),
    ) as following:
        assert following.stdout is not None
        assert following.stdout.readline()
        following.stdout.close()
        assert following.wait(END_SECONDS_MAX) == 0
    assert daemon.record("one")["state"] == "running"


def test_a_follower_that_goes_away_is_missed_by_nobody(daemon: Daemon) -> None:
    daemon.run("one")
    for _ in range(5):
        with daemon.http() as connection:
            connection.sendall(b"GET /v1/runs/one/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200 OK" in connection.recv(1 << 16)
    wait_until(lambda: len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir())) < 40)
    daemon.client.get("/v1/status")
    assert "Traceback" not in daemon.log_text


def answers_soon(daemon: Daemon) -> None:
    """Within a second, as promised; five on a machine that is busy."""
    began = time.monotonic()
    daemon.client.get("/v1/status")
    assert time.monotonic() - began < 5.0


def test_a_runner_that_stands_still_is_named_while_the_daemon_answers(daemon: Daemon) -> None:
    pid = daemon.run("one")["pid"]
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: daemon.client.get("/v1/status")["silent"] == ["one"], 20.0)
    answers_soon(daemon)
    assert daemon.client.get("/healthz") == {"status": "degraded"}
    assert "not heard from" in daemon.cli("status").out
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: daemon.client.get("/healthz") == {"status": "ok"})


def test_a_worker_that_is_stopped_is_named_while_the_daemon_answers(daemon: Daemon) -> None:
    daemon.run("one")
    names = {process_name(pid): pid for pid in daemon.workers()}
    pid = names["soak-reporter"]
    os.kill(pid, signal.SIGSTOP)
    (found,) = wait_until(lambda: daemon.client.get("/v1/status")["unwell"], 10.0)
    answers_soon(daemon)
    assert (found["run"], found["worker"], found["how"]) == ("one", "reporter", "stopped")
    assert "reporter of one is stopped" in daemon.cli("status").out
    assert daemon.client.get("/healthz") == {"status": "degraded"}
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: daemon.client.get("/healthz") == {"status": "ok"}, 10.0)
    assert [record["worker"] for record in daemon.said("worker.well_again")] == ["reporter"]


# ---- ends ----


def test_sigterm_ends_runs_in_order_and_keeps_their_results(daemon: Daemon) -> None:
    daemon.run("one")
    daemon.run("two")
    began = time.monotonic()
    for _ in range(20):
        daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(END_IN_ORDER_SECONDS) == 0
    assert time.monotonic() - began < END_IN_ORDER_SECONDS
    assert daemon.workers() == set()
    assert not daemon.socket.exists()
    for run in ("one", "two"):
        assert summary_of(daemon, run)["interrupted"] is True


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_daemon_that_is_killed_leaves_no_worker_and_loses_no_result(
    daemon: Daemon, *, is_stopped: bool
) -> None:
    runner = daemon.run("one")["pid"]
    workers = daemon.workers()
    assert len(workers) >= 4  # the runner, a guest CPU, the reporter, the host
    if is_stopped:
        os.kill(runner, signal.SIGSTOP)
    daemon.process.kill()
    daemon.process.wait()
    wait_until(lambda: not any(map(is_there, workers)), ORPHANS_GONE_SECONDS)
    assert summary_of(daemon, "one")["interrupted"] is True
    daemon.start()  # its socket and locks are in nobody's way
    assert daemon.record("one")["state"] == "ended"
    assert daemon.client.get("/v1/status")["ended_uncleanly"] == []


def test_after_a_kill_of_everything_the_next_start_says_what_ended_uncleanly(
    daemon: Daemon,
) -> None:
    runner = daemon.run("one")["pid"]
    before = daemon.workers()
    wait_until((daemon.results / "one" / "events.jsonl").exists)
    os.kill(daemon.process.pid, signal.SIGSTOP)  # it does not see the runner end
    os.kill(runner, signal.SIGKILL)
    daemon.process.kill()
    daemon.process.wait()
    wait_until(lambda: not any(map(is_there, before)), ORPHANS_GONE_SECONDS)
    daemon.start()
    (said,) = daemon.said("run.ended_uncleanly")
    assert said["run"] == "one"
    assert daemon.client.get("/v1/status")["ended_uncleanly"] == ["one"]
    record = daemon.record("one")
    assert record["state"] == "unclean"
    assert (daemon.results / "one" / "events.jsonl").stat().st_size > 0
    assert "one" in daemon.cli("status").out
    assert 'pagesoak_run_state{run="one",state="unclean"} 1.0' in daemon.scrape()


def test_what_reads_results_finds_those_of_the_daemons_runs(daemon: Daemon) -> None:
    daemon.run("one")
    assert daemon.cli("stop", "one", "--json").code == 0
    for words in ("report --json", "explain --json", "timeline"):
        verb, *options = words.split()
        done = daemon.cli(verb, "one", *options)
        assert done.code == 0, done.err
        unknown = daemon.cli(verb, "another", *options)
        assert unknown.code == 2
        assert "no such run" in unknown.err
    assert (daemon.results / "one" / "timeline.png").is_file()


def test_a_runner_that_is_killed_takes_only_its_own_run_with_it(daemon: Daemon) -> None:
    os.kill(daemon.run("one")["pid"], signal.SIGKILL)
    daemon.run("two")
    killed = wait_until(lambda: (run := daemon.record("one"))["state"] == "unclean" and run)
    assert "SIGKILL" in killed["reason"]
    assert daemon.record("two")["state"] == "running"


# ---- configuration and instances ----


def test_a_second_daemon_is_refused_and_names_the_first(daemon: Daemon) -> None:
    daemon.run("one")
    second = pagesoak("serve", "--config", daemon.config, "--allow-root")
    assert second.code == 2
    assert f"process {daemon.process.pid}" in second.err
    assert daemon.record("one")["state"] == "running"


def test_a_socket_that_is_left_over_is_replaced_but_no_other_file(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.socket.parent.mkdir()
    daemon.socket.write_text("precious")
    refused = pagesoak("serve", "--config", daemon.config, "--allow-root")
    assert refused.code == 2
    assert "is no socket" in refused.err
    assert daemon.socket.read_text() == "precious"


def test_the_socket_is_for_owner_and_group(daemon: Daemon) -> None:
    assert daemon.socket.stat().st_mode & 0o777 == 0o660
    assert daemon.socket.parent.stat().st_mode & 0o777 == 0o700
    assert (daemon.results / "index.sqlite3").stat().st_mode & 0o077 == 0


def test_sighup_takes_the_new_configuration_or_keeps_the_old(daemon: Daemon) -> None:
    good = daemon.config.read_text()
    daemon.config.write_text(good.replace("[runs]", "[runs]\nat_once_max = 1"))
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.said("config.reloaded"))
    daemon.run("one")
    with pytest.raises(RefusedError, match="at_once_max"):
        daemon.client.post("/v1/runs", {"run": "two", "scenario_toml": LONG})
    daemon.config.write_text("[runs]\nat_once_max = -1\n")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.said("config.kept"))
    assert (
        f"{daemon.config}:2: runs.at_once_max" in daemon.client.get("/v1/status")["config_problem"]
    )
    assert 'pagesoak_config_reloads_total{result="refused"} 1.0' in daemon.scrape()
    assert daemon.record("one")["state"] == "running"
    daemon.config.write_text(good.replace("control.sock", "other.sock"))
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(daemon.said("config.kept")) == 2)
    assert "control.socket" in daemon.client.get("/v1/status")["config_problem"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be refused as root")
def test_root_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    refused = pagesoak("serve", "--config", Daemon(tmp_path).config)
    assert refused.code == 2
    assert "--allow-root" in refused.err


def test_without_a_daemon_the_advice_is_to_start_one(tmp_path: Path) -> None:
    for verb in (["list"], ["status"], ["stop", "x"], ["start", "idle-512m"], ["attach", "x"]):
        finished = pagesoak(*verb, PAGESOAK_SOCKET=str(tmp_path / "nobody"))
        assert finished.code == 69, verb
        assert "pagesoak serve" in finished.err
        assert finished.out == ""


def test_a_stopped_daemon_is_told_from_none(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagesoak.daemon.client.ANSWER_SECONDS_MAX", 0.5)
    daemon.process.send_signal(signal.SIGSTOP)
    with pytest.raises(NoDaemonError, match="does not answer"):
        daemon.client.get("/v1/version")
    daemon.process.send_signal(signal.SIGCONT)
    assert daemon.client.get("/v1/version")["api"] == 1


def test_the_daemon_loads_no_compiler_and_stays_small(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        daemon.run("one")
        daemon.scrape()
        maps = Path(f"/proc/{daemon.process.pid}/maps").read_text()
        assert "pydantic" in maps
        assert not {"llvmlite", "numba", "numpy"} & set(maps.replace("/", " ").split())
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        own_kib = int(status.partition("RssAnon:")[2].split()[0])
        assert own_kib < 80 << 10
        assert environment()["PYTHONPATH"]


def test_doctor_looks_at_the_disk_of_the_daemon_that_answers(daemon: Daemon) -> None:
    found = {each["check"]: each for each in daemon.cli("doctor", "--json").summary["findings"]}
    assert found["disk"]["text"].endswith(f"free for {daemon.results}")
    assert found["daemon"]["level"] == "ok"


def test_a_configuration_is_checked_without_a_daemon(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    good = pagesoak("serve", "--config", daemon.config, "--check", "--json")
    assert good.code == 0
    assert good.summary["config"]["socket"] == str(daemon.socket)
    daemon.config.write_text("[metrics]\nlisten = 3\n[odd]\n")
    bad = pagesoak("serve", "--config", daemon.config, "--check")
    assert bad.code == 2
    assert [
        line.partition(": ")[0] for line in bad.err.replace("pagesoak: ", "").splitlines()
    ] == [
        f"{daemon.config}:2",
        f"{daemon.config}:3",
    ]
    missing = pagesoak("serve", "--config", tmp_path / "nowhere", "--check")
    assert missing.code == 2
    assert "No such file" in missing.err
