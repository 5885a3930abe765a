"""Hostile clients against a daemon with a run: generated requests, then a thousand slow clients.

    .venv/bin/python bench/hostile_clients.py [--requests 100000] [--slow 1000] [--seed 1]

Prints how long a plain request took meanwhile, threads and descriptors of the daemon before,
during and after, and what its log says. Exit code 1 if there was a traceback, if a plain request
took longer than a second, or if threads have grown or a run was touched; it fails with the reason
if the daemon is gone, or does not give its descriptors back.
"""

import argparse
import contextlib
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.daemon_helper import LONG, Daemon, wait_until
from tests.hostile_requests import plain_seconds, requests, send, use_of

PLAIN_SECONDS_MAX = 1.0
PLAIN_EVERY = 250
"""Requests between two plain ones."""
PLAIN_BESIDE_SLOW = 50
DESCRIPTORS_MORE_MAX = 8
"""Of the daemon, afterwards: connections that are just being closed."""
SPARE_DESCRIPTORS = 200


def main() -> int:
    """Attack, look, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--slow", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    needed = wanted.slow + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        daemon.run("soak", LONG)
        pid = daemon.process.pid
        plain_seconds(daemon)
        before, took = use_of(pid), []
        began = time.monotonic()
        for number, request in enumerate(requests(wanted.seed, wanted.requests)):
            send(daemon, request)
            if number % PLAIN_EVERY == 0:
                took.append(plain_seconds(daemon))
        seconds = time.monotonic() - began
        slow = []
        for _ in range(wanted.slow):
            with contextlib.suppress(OSError):
                connection = daemon.http()
                connection.sendall(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
                slow.append(connection)
        during = use_of(pid)
        beside_slow = [plain_seconds(daemon) for _ in range(PLAIN_BESIDE_SLOW)]
        for connection in slow:
            connection.close()
        wait_until(lambda: use_of(pid).descriptors <= before.descriptors + DESCRIPTORS_MORE_MAX)
        after = use_of(pid)
        runs = [run["run"] for run in daemon.client.get("/v1/runs")["runs"]]
        tracebacks = daemon.log_text.count("Traceback")
        log_kib = len(daemon.log_text) >> 10
        print(f"requests      {wanted.requests:,} in {seconds:.0f} s, seed {wanted.seed}")
        print(f"slow clients  {len(slow):,}")
        for what, times in (("requests", took), ("slow clients", beside_slow)):
            median = sorted(times)[len(times) // 2] * 1000
            longest = max(times) * 1000
            print(f"plain request beside {what}: median {median:.1f} ms, longest {longest:.0f} ms")
        print(
            f"threads       {before.threads} before, {during.threads} during, "
            f"{after.threads} after"
        )
        print(
            f"descriptors   {before.descriptors} before, {during.descriptors} during, "
            f"{after.descriptors} after"
        )
        print(f"log           {log_kib:,} KiB, {tracebacks} tracebacks")
        print(f"runs          {', '.join(runs)}, {daemon.record('soak')['state']}")
        bad = (
            tracebacks
            or max(took + beside_slow) > PLAIN_SECONDS_MAX
            or after.threads > before.threads + 1
            or runs != ["soak"]
        )
        return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
