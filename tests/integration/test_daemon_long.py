"""What shows after a while only: a real Prometheus on a live soak, many runs, odd requests."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon_helper import LOADS, SLOW_TEST_SECONDS_MAX, Daemon, wait_until
from tests.live_helper import ROOT, environment, scenario_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SLOW_TEST_SECONDS_MAX)]

PROMETHEUS = shutil.which("prometheus")
LEAK_SLOPES = ROOT / "bench" / "leak_slopes.py"
RUNS = 6
REQUESTS = 3_000
SEED = 20260314
MEMORY_GROWTH_KIB_MAX = 4 << 10
"""Of the daemon's own memory over all of those requests: caches of names and formats, once."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as started:
        yield started


# ---- a real Prometheus ----

CONFIGURATION = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: pagesoak
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
  - job_name: pagesoak-guest
    metrics_path: /metrics/guest
    params: {{run: [one]}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


def query(port: int, expression: str) -> list[dict[str, Any]]:
    """What Prometheus answers to an expression; nothing while it is not there yet."""
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    except OSError:
        return []
    return found


@pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus (Debian: apt install prometheus)")
def test_a_real_prometheus_scrapes_a_live_soak(daemon: Daemon, tmp_path: Path) -> None:
    daemon.run("one")
    file = tmp_path / "prometheus.yml"
    file.write_text(CONFIGURATION.format(port=daemon.port))
    port = random.randrange(20_000, 60_000)  # noqa: S311 - just a port
    with subprocess.Popen(
        [
            str(PROMETHEUS), f"--config.file={file}", f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
        ],
        stderr=subprocess.DEVNULL,
    ) as prometheus:  # fmt: skip
        try:
            wait_until(lambda: len(query(port, "up == 1")) == 2)
            wait_until(lambda: query(port, "increase(pagesoak_report_calls_total[30s]) > 0"))
            kills = 'increase(pagesoak_oom_events_total{cause="isolated"}[30s])'
            (joined,) = query(port, f"{kills} * on(run) group_left(policy) pagesoak_run_info")
            assert joined["metric"]["policy"] == "mainline"
            assert float(joined["value"][1]) == 0
            quantile = (
                "histogram_quantile(0.99, rate(pagesoak_isolation_window_seconds_bucket[1m]))"
            )
            assert 0 < float(query(port, quantile)[0]["value"][1]) < 1
            assert query(port, "node_zoneinfo_nr_free_pages > 0")
            assert query(port, 'up{job="pagesoak"} == 0') == []
        finally:
            prometheus.send_signal(signal.SIGKILL)


# ---- leaks ----


def resources(pid: int) -> tuple[int, int]:
    """Descriptors and threads of a process."""
    process = Path(f"/proc/{pid}")
    return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))


def own_kib(pid: int) -> int:
    """Memory that a process has for itself."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("RssAnon:")[2].split()[0])


def test_nothing_leaks_while_soaks_come_and_go() -> None:
    """The bench of an hour, for as long as a test may take."""
    command = [sys.executable, str(LEAK_SLOPES), "--seconds", "30", "--every", "3", "--json"]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr or ended.stdout
    found = json.loads(ended.stdout)
    assert found["exceeded"] == []
    assert found["samples"] >= 8
    assert found["last"]["operations"] > found["first"]["operations"]


def test_runs_leave_no_descriptor_thread_or_process(daemon: Daemon) -> None:
    text = scenario_text(loads=LOADS, duration="200ms")
    before = None
    for number in range(RUNS):
        name = f"run-{number}"
        daemon.client.post("/v1/runs", {"run": name, "scenario_toml": text})
        if number % 3 == 2:
            pid = wait_until(lambda name=name: daemon.record(name)["pid"])  # type: ignore[misc]
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda name=name: daemon.record(name)["pid"] is None)  # type: ignore[misc]
        before = before or resources(daemon.process.pid)
    wait_until(lambda: resources(daemon.process.pid) == before)
    wait_until(lambda: daemon.workers() == set())
    assert len(daemon.client.get("/v1/runs")["runs"]) >= RUNS - RUNS // 3


# ---- generated requests ----

METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get", "\x00", "TRACE")
PLACES = (
    "/v1/runs", "/v1/runs/x", "/v1/runs/x/stop", "/v1/runs/x/events?follow=false&after=9",
    "/v1/status", "/metrics", "/metrics/guest?run=x", "/healthz", "/v1/openapi.json", "/", "*",
)  # fmt: skip
HEADERS = (
    b"Host: localhost", b"Host: [::1", b"Content-Type: application/json", b"Origin: http://[",
    b"Content-Length: 7", b"Content-Length: x", b"Transfer-Encoding: chunked", b"Accept: \xff/*",
    b"Pagesoak-Api: 1", b"Pagesoak-Api: \xe9", b"Last-Event-ID: -1", b"Expect: 100-continue",
    b"Range: bytes=0-", b"Accept: application/openmetrics-text; version=1.0.0", b"Cookie: a=b",
)  # fmt: skip
BODIES = (
    b"", b"{}", b'{"run":"x"}', b"[1,2,3]", b"7\r\n{}\r\n0\r\n\r\n", b"\x00" * 50, b"null", b'"a"',
    b'{"run":"../x","scenario":"idle-512m"}', b'{"run":"x","scenario_toml":"a=1\\nb"}',
)  # fmt: skip


def generated(source: random.Random) -> bytes:
    """A request that is right in parts."""
    line = f"{source.choice(METHODS)} {source.choice(PLACES)} HTTP/1.{source.choice('01')}"
    headers = source.sample(HEADERS, source.randrange(6))
    if source.random() < 0.7:
        headers.append(b"Host: localhost")
    raw = b"\r\n".join([line.encode(), *headers, b"Connection: close", b"", source.choice(BODIES)])
    if source.random() < 0.3:
        place = source.randrange(len(raw))
        raw = raw[:place] + source.randbytes(source.randrange(8)) + raw[place + 1 :]
    return raw


def test_generated_requests_leave_no_trace(daemon: Daemon) -> None:
    source = random.Random(SEED)  # noqa: S311 - to be the same each time
    pid = daemon.process.pid
    grown_from = 0
    for number in range(REQUESTS):
        with daemon.http() as connection:
            try:
                connection.sendall(generated(source))
                connection.shutdown(1)
                connection.recv(1 << 16)
            except (ConnectionResetError, BrokenPipeError):
                continue
        if number == REQUESTS // 3:
            grown_from = own_kib(pid)
    assert daemon.client.get("/v1/runs") == {"runs": []}
    assert "Traceback" not in daemon.log_text
    assert own_kib(pid) - grown_from < MEMORY_GROWTH_KIB_MAX
    wait_until(lambda: resources(pid)[0] < 40)
    assert resources(pid)[1] < 4
