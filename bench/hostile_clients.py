"""Hostile clients against a daemon with a run: generated requests, then a thousand slow clients,
by turns on the control socket and on the page's TCP port.

    .venv/bin/python bench/hostile_clients.py [--requests 100000] [--slow 1000] [--seed 1]

Prints what went where, how long a plain request took there meanwhile, threads and descriptors of
the daemon before, during and after, and what its log says. Exit code 1 if there was a traceback,
if a plain request took longer than a second, or if threads have grown or a run was touched; it
fails with the reason if the daemon is gone, a plain request is not answered, or descriptors are
not given back.
"""

import argparse
import contextlib
import resource
import sys
import tempfile
import time
from collections import Counter
from itertools import cycle
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.daemon_helper import LONG, wait_until
from tests.hostile_requests import place_of, plain_seconds, requests, send, slow_client, use_of
from tests.page_helper import PageDaemon

ATTACKED = ("control", "page")
PLAIN_SECONDS_MAX = 1.0
PLAIN_EVERY = 250
"""Requests between two plain ones to each socket."""
PLAIN_BESIDE_SLOW = 50
LOG_SHOWN_MAX = 4_000
"""Of the log, from the first traceback on."""
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
    _allow_descriptors(wanted.slow + SPARE_DESCRIPTORS)
    with tempfile.TemporaryDirectory() as folder, PageDaemon(Path(folder)) as daemon:
        daemon.run("soak", LONG)
        places = [place_of(daemon, name) for name in ATTACKED]
        sent: Counter[str] = Counter()
        slow_sent: Counter[str] = Counter()
        took: dict[tuple[str, str], list[float]] = {}

        def ask_plainly(beside: str) -> None:
            for place in places:
                took.setdefault((beside, place.name), []).append(plain_seconds(daemon, place))

        pid = daemon.process.pid
        ask_plainly("requests")
        before = use_of(pid)
        began = time.monotonic()
        generated = requests(wanted.seed, wanted.requests, daemon.token)
        for number, (request, place) in enumerate(zip(generated, cycle(places), strict=False)):
            send(daemon, request, place.port)
            sent[place.name] += 1
            if number % PLAIN_EVERY == 0:
                ask_plainly("requests")
        seconds = time.monotonic() - began
        slow = []
        for _, place in zip(range(wanted.slow), cycle(places), strict=False):
            with contextlib.suppress(OSError):
                slow.append(slow_client(daemon, place.port))
                slow_sent[place.name] += 1
        during = use_of(pid)
        for _ in range(PLAIN_BESIDE_SLOW):
            ask_plainly("slow clients")
        for connection in slow:
            connection.close()
        wait_until(lambda: use_of(pid).descriptors <= before.descriptors + DESCRIPTORS_MORE_MAX)
        after = use_of(pid)
        runs = [run["run"] for run in daemon.client.get("/v1/runs")["runs"]]
        tracebacks = daemon.log_text.count("Traceback")
        log_kib = len(daemon.log_text) >> 10
        print(f"requests      {_shares(sent)} in {seconds:.0f} s, seed {wanted.seed}")
        print(f"slow clients  {_shares(slow_sent)}")
        for (beside, name), times in took.items():
            median = sorted(times)[len(times) // 2] * 1000
            longest = max(times) * 1000
            said = f"median {median:.1f} ms, longest {longest:.0f} ms"
            print(f"plain request beside {beside}, {name}: {said}")
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
        if tracebacks:
            print(daemon.log_text[daemon.log_text.index("Traceback") :][:LOG_SHOWN_MAX])
        bad = (
            tracebacks
            or max(map(max, took.values())) > PLAIN_SECONDS_MAX
            or after.threads > before.threads + 1
            or runs != ["soak"]
        )
        return 1 if bad else 0


def _allow_descriptors(needed: int) -> None:
    """So many for this process, as far as it may have them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))


def _shares(sent: Counter[str]) -> str:
    """A total, and how much of it went where."""
    return f"{sent.total():,}: " + ", ".join(f"{sent[name]:,} to {name}" for name in ATTACKED)


if __name__ == "__main__":
    sys.exit(main())
