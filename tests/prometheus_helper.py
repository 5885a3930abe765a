"""A real Prometheus for tests, which scrapes a daemon every second with the rules of this
repository; ended whatever the test does.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.daemon_helper import END_SECONDS_MAX, wait_until
from tests.treefiles import ROOT

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
MISSING = "prometheus is missing (Debian: apt install prometheus)"
RULES = ROOT / "dashboards" / "rules"
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}/pagesoak.rules.yml"]
scrape_configs:
  - job_name: pagesoak
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
CHOSEN = {
    "$__rate_interval": "10s",
    "$__range": "60s",
    "$job": ".+",
    "$instance": ".+",
    "$policy": ".+",
    "$run": ".+",
    "$zone": ".+",
}
"""What Grafana would put for its variables."""


def filled(expr: str) -> str:
    """An expression of a dashboard as Prometheus gets it."""
    for name, value in CHOSEN.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, expr
    return expr


class Prometheus:
    """One that is up; `folder` has its data."""

    def __init__(self, folder: Path, port_of_daemon: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        config = folder / "prometheus.yml"
        config.write_text(CONFIG.format(rules=RULES, port=port_of_daemon))
        assert PROMETHEUS
        self.log = folder / "prometheus.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    PROMETHEUS,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer; fails with what Prometheus says."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=END_SECONDS_MAX) as answer:
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.SERVICE_UNAVAILABLE:  # it is starting
                raise
            document = json.load(error)
        assert document["status"] == "success", f"{query}: {document.get('error')}"
        return document["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series of an instant query: labels as `metric`."""
        found: list[dict[str, Any]] = self.get("query", query=filled(expr))["result"]
        return found

    def is_up(self) -> bool:
        """Whether it answers and has scraped."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.query('up{job="pagesoak"} == 1'))
        except OSError:
            return False


@contextlib.contextmanager
def prometheus(folder: Path, port_of_daemon: int) -> Iterator[Prometheus]:
    """One that has scraped the daemon at least once."""
    started = Prometheus(folder, port_of_daemon)
    try:
        wait_until(started.is_up)
        yield started
    finally:
        started.process.kill()
        started.process.wait(END_SECONDS_MAX)
