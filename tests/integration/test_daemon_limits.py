"""The daemon where something is short or forbidden: users, descriptors, memory; and what it says
to shells and to the journal.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagesoak.daemon.client import RefusedError
from tests.daemon_helper import (
    END_SECONDS_MAX,
    LONG,
    SLOW_TEST_SECONDS_MAX,
    Daemon,
    is_there,
    wait_until,
)
from tests.live_helper import command, environment, scenario_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SLOW_TEST_SECONDS_MAX)]

NOBODY = 65_534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")

AS_ANOTHER = """
import os, socket, sys
os.chdir(sys.argv[1])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect("control.sock")
    connection.sendall(sys.argv[2].encode())
    sys.stdout.buffer.write(b"".join(iter(lambda: connection.recv(65536), b"")))
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, metrics=False) as started:
        yield started


def as_another(daemon: Daemon, request_line: str, body: str = "") -> tuple[int, str]:
    """Status and body of the answer that another user gets."""
    daemon.socket.parent.chmod(0o711)
    daemon.socket.chmod(0o666)  # as if he were of the group
    head = f"{request_line} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    text = f"{head}Content-Length: {len(body)}\r\n\r\n{body}"
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER, str(daemon.socket.parent), text],
        capture_output=True,
        check=True,
        cwd="/",
    )
    head_bytes, _, answer = done.stdout.partition(b"\r\n\r\n")
    return int(head_bytes.split()[1]), answer.decode()


@needs_root
def test_a_run_is_ended_or_held_up_only_by_who_may(daemon: Daemon) -> None:
    daemon.run("ours")
    assert as_another(daemon, "GET /v1/runs")[0] == 200
    orders = {"stop": "{}", "pause": "{}", "resume": "{}", "set": '{"load":2}'}
    for order, body in {**orders, "chaos": '{"fault":"kill-host"}'}.items():
        status, answer = as_another(daemon, f"POST /v1/runs/ours/{order}", body)
        assert status == 403
        assert "who started the run" in answer
    assert daemon.record("ours")["state"] == "running"
    wanted = json.dumps({"run": "theirs", "scenario_toml": LONG})
    assert as_another(daemon, "POST /v1/runs", wanted)[0] == 201
    wait_until(lambda: daemon.record("theirs")["state"] == "running")
    assert as_another(daemon, "POST /v1/runs/theirs/pause", "{}")[0] == 200
    assert as_another(daemon, "POST /v1/runs/theirs/stop", "{}")[0] == 202
    by = [(said["order"], said["run"], said["by_uid"]) for said in daemon.said("order")]
    assert by[:2] == [("start", "ours", 0), ("start", "theirs", NOBODY)]
    assert ("stop", "theirs", NOBODY) in by
    assert ("stop", "ours", NOBODY) not in by


def test_a_shell_is_offered_the_names_of_runs(daemon: Daemon) -> None:
    daemon.run("one")
    daemon.run("other")

    def offered(*words: str, **variables: str) -> list[str]:
        typed = " ".join(("pagesoak", *words))
        done = subprocess.run(
            command(),
            env=environment(
                _PAGESOAK_COMPLETE="complete_bash",
                COMP_WORDS=typed,
                COMP_CWORD=str(len(words)),
                **{"PAGESOAK_SOCKET": str(daemon.socket), **variables},
            ),
            capture_output=True,
            text=True,
            check=False,
            timeout=END_SECONDS_MAX,
        )
        assert done.stderr == ""
        return done.stdout.split()

    assert sorted(offered("stop", "o")) == ["one", "other"]
    assert offered("set", "oth") == ["other"]
    assert offered("stop", "x") == []
    assert offered("stop", "o", PAGESOAK_SOCKET=str(daemon.folder / "nobody")) == []
    assert "stop" in offered("st")


def test_lines_for_the_journal_have_their_priority_in_front(tmp_path: Path) -> None:
    log = tmp_path / "journal"
    with Daemon(tmp_path, metrics=False) as first, log.open("wb") as journal:
        status = os.fstat(journal.fileno())
        second = subprocess.Popen(
            command("serve", "--config", _other(tmp_path), "--allow-root"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=journal,
            env=environment(
                NUMBA_DISABLE_JIT="1", JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino}"
            ),
        )
        try:
            wait_until(lambda: b"daemon.started" in log.read_bytes())
            (tmp_path / "other.toml").write_text("nonsense")
            second.send_signal(1)
            wait_until(lambda: b"config.kept" in log.read_bytes())
        finally:
            second.terminate()
            assert second.wait(END_SECONDS_MAX) == 0
        lines = log.read_text().splitlines()
        by_event = {json.loads(line[3:])["event"]: line[:3] for line in lines}
        assert by_event["daemon.started"] == "<6>"
        assert by_event["config.kept"] == "<3>"
        assert first.log_text.startswith("{")  # a file is no journal


def _other(folder: Path) -> Path:
    file = folder / "other.toml"
    file.write_text(
        f'[control]\nsocket = "{folder}/o/o.sock"\n[runs]\ndirectory = "{folder}/other"\n'
    )
    return file


def test_a_daemon_out_of_descriptors_refuses_and_goes_on(daemon: Daemon) -> None:
    pid = daemon.process.pid
    daemon.run("one")
    used = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 3, before[1]))
    with pytest.raises(RefusedError, match="cannot be executed"):
        daemon.client.post("/v1/runs", {"run": "two", "scenario_toml": LONG})
    held = [daemon.http() for _ in range(20)]
    for connection in held:
        connection.close()
    assert daemon.client.get("/v1/runs/one")["state"] == "running"
    assert "Traceback" not in daemon.log_text
    assert any("Too many open files" in said["reason"] for said in daemon.said("daemon.short_of"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert daemon.run("two")["state"] == "running"


def test_a_guest_beyond_the_memory_limit_is_refused_with_the_reason(daemon: Daemon) -> None:
    limit_bytes = 1 << 30
    resource.prlimit(daemon.process.pid, resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    large = scenario_text(memory="4GiB", guest={"touch": True})
    daemon.client.post("/v1/runs", {"run": "large", "scenario_toml": large})
    refused = wait_until(lambda: (found := daemon.record("large"))["state"] == "refused" and found)
    assert "RLIMIT_AS" in refused["reason"]
    assert daemon.run("small")["state"] == "running"


def test_a_runner_is_killed_for_memory_before_the_daemon(daemon: Daemon) -> None:
    record = daemon.run("one")

    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    ours = score(daemon.process.pid)
    workers = [pid for pid in daemon.workers() if pid != daemon.process.pid]
    assert record["pid"] in workers
    assert score(record["pid"]) == min(ours + 300, 1000)
    others = {score(pid) for pid in workers if pid != record["pid"] and is_there(pid)}
    assert others == {min(ours + 800, 1000)}
