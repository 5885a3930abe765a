"""The commands of docs/grafana.md lead from nothing to a Prometheus that knows the soaks: they are
run as they stand there, but for ports, which must be free ones here, and the place of the daemon.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon_helper import END_SECONDS_MAX, SLOW_TEST_SECONDS_MAX
from tests.live_helper import environment
from tests.prometheus_helper import MISSING, PROMETHEUS, PROMTOOL
from tests.treefiles import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(SLOW_TEST_SECONDS_MAX),
    pytest.mark.skipif(PROMETHEUS is None or PROMTOOL is None, reason=MISSING),
]

PAGE = ROOT / "docs" / "grafana.md"
DEMO = "./soak demo\n"
"""Has tests of its own, and takes minutes."""
SOAK = '#!/bin/sh\nexec "{python}" -m pagesoak "$@"\n'


def commands(text: str) -> str:
    """What is to be typed in, up to Grafana itself, without the demo."""
    before, found, _ = text.partition("## 4. Grafana")
    assert found
    blocks = re.findall(r"^```sh\n(.*?)^```$", before, re.MULTILINE | re.DOTALL)
    assert blocks[0] == DEMO
    return "".join(blocks[1:])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def checkout(folder: Path) -> None:
    """A place with what the commands name: `./soak` and the dashboards."""
    (folder / "soak").write_text(SOAK.format(python=sys.executable))
    (folder / "soak").chmod(0o755)
    (folder / "dashboards").mkdir()
    for name in ("rules", "json", "provisioning"):
        (folder / "dashboards" / name).symlink_to(ROOT / "dashboards" / name)
    config = (ROOT / "dashboards" / "prometheus.yml").read_text()
    (folder / "dashboards" / "prometheus.yml").write_text(config)


def test_the_commands_of_the_page_lead_to_a_prometheus_that_knows_both_soaks(
    tmp_path: Path,
) -> None:
    checkout(tmp_path)
    script = commands(PAGE.read_text()).replace("./soak serve", "./soak serve --allow-root")
    config = tmp_path / "dashboards" / "prometheus.yml"
    for named in ("9464", "9090"):
        port = str(free_port())
        assert named in script
        script = script.replace(named, port)
        config.write_text(config.read_text().replace(named, port))
    shell = subprocess.Popen(
        ["bash", "-euc", f"{script}\nwait"],
        cwd=tmp_path,
        env=environment(
            NUMBA_DISABLE_JIT="1",
            PAGESOAK_SOCKET=str(tmp_path / "s" / "control.sock"),
            XDG_STATE_HOME=str(tmp_path),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    said = ""
    try:
        assert shell.stdout
        for line in shell.stdout:
            said += line
            if said.count("pagesoak_run_info{") == 2:
                break
        for run in ("bursts", "control"):
            assert f'run="{run}"' in said, said
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        try:
            shell.wait(END_SECONDS_MAX)
        finally:
            ended(shell.pid)


def ended(group: int) -> None:
    """See a process group gone; what is left after a while is killed."""
    for _ in range(int(END_SECONDS_MAX * 10)):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        signal.sigtimedwait([], 0.1)
    os.killpg(group, signal.SIGKILL)
