"""How long `pagesoak list` and `status` take, next to a bare program of two commands, and what a
scrape of a live soak costs; README.md says how to read it.

    .venv/bin/python bench/daemon_verbs.py
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pagesoak.daemon.client import Client

ROUNDS = 15
"""Calls of each; the median counts."""
SCRAPES = 200
START_SECONDS_MAX = 60.0
BARE = """
import typer
app = typer.Typer()
@app.command()
def one() -> None:
    print("one")
@app.command()
def two() -> None:
    print("two")
app()
"""


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """How long a program takes."""
    began = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def wait_for(client: Client, target: str, key: str, value: object) -> None:
    """Until the daemon answers so."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            if client.get(target)[key] == value:
                return
        time.sleep(0.1)
    raise SystemExit(f"{target} did not say {key} = {value}")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="one object on one line")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "s"
        places = f'[control]\nsocket = "{path}"\n[runs]\ndirectory = "runs"\n'
        (folder / "c.toml").write_text(places)
        environment = {**os.environ, "PAGESOAK_SOCKET": str(path)}
        pagesoak = [sys.executable, "-m", "pagesoak"]
        daemon = subprocess.Popen(
            [*pagesoak, "serve", "--config", str(folder / "c.toml"), "--allow-root"],
            stderr=subprocess.DEVNULL,
        )
        try:
            client = Client(str(path))
            wait_for(client, "/v1/version", "api", 1)
            client.post("/v1/runs", {"run": "one", "scenario": "idle-512m", "duration": "1h"})
            wait_for(client, "/v1/runs/one", "state", "running")
            verbs = _verbs(folder, pagesoak, environment)
            scrape = _scrapes(path)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()
    found = {
        "seconds": verbs,
        "list_ratio": verbs["list"] / verbs["bare"],
        "status_ratio": verbs["status"] / verbs["bare"],
        "version_ratio": verbs["version"] / verbs["python"],
        "scrape_seconds": scrape,
    }
    if arguments.json:
        print(json.dumps(found))
        return
    for verb, other in (("list", "bare"), ("status", "bare"), ("version", "python")):
        times = f"{verbs[verb] * 1e3:.0f} ms, {other} {verbs[other] * 1e3:.0f} ms"
        print(f"{verb:<8} {times}: ratio {found[f'{verb}_ratio']:.2f}")
    middle, longest = scrape["median"] * 1e3, scrape["max"] * 1e3
    print(f"a scrape of {scrape['bytes']} bytes: median {middle:.1f} ms, longest {longest:.1f} ms")


def _verbs(folder: Path, pagesoak: list[str], environment: dict[str, str]) -> dict[str, float]:
    """The median of each program, in seconds."""
    bare = folder / "bare.py"
    bare.write_text(BARE)
    calls = {
        "bare": [sys.executable, str(bare), "one"],
        "list": [*pagesoak, "list"],
        "status": [*pagesoak, "status"],
        "python": [sys.executable, "-c", "pass"],
        "version": [*pagesoak, "--version"],
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):  # in turn, so that what else the machine does meets all of them
        for name, command in calls.items():
            taken[name].append(seconds(command, environment))
    return {name: statistics.median(times) for name, times in taken.items()}


def _scrapes(path: Path) -> dict[str, float]:
    """What a scrape takes, in seconds, and its bytes."""
    times = []
    size = 0
    for _ in range(SCRAPES):
        began = time.perf_counter()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
            size = sum(map(len, iter(lambda: connection.recv(1 << 16), b"")))
        times.append(time.perf_counter() - began)
    return {"median": statistics.median(times), "max": max(times), "bytes": size}


if __name__ == "__main__":
    main()
