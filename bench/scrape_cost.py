"""What a scrape each second costs the guest: its throughput with it, and without.

    .venv/bin/python bench/scrape_cost.py [--pairs 60] [--seconds 3] [--json]

One soak in a daemon: one vCPU, 512 MiB, a steady mix as fast as it goes, every page stamped. Spans
with a scrape each second and spans without follow each other, in an order that changes from pair
to pair; each pair gives a ratio of operations per second. Operations are read from the run's
shared memory at both ends of a span, on both sides alike. One pair says little, because the clock
of a processor moves by far more than a scrape costs: the median of all counts, with the interval
that holds it in 95 of 100 cases.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.daemon_helper import Daemon, wait_until
from tests.live_helper import scenario_text

GOAL = 0.98
"""Of the throughput without."""
SCENARIO = scenario_text(
    loads=({"kind": "steady", "target": "200MiB"},), memory="512MiB", duration="1d"
)
COMPILE_SECONDS_MAX = 1800.0
WARM_SECONDS = 3.0


def operations(daemon: Daemon) -> int:
    """Allocations and frees so far."""
    figures = daemon.client.get("/v1/runs/busy")["figures"]
    return int(figures["alloc_requests"] + figures["frees"])


def rate(daemon: Daemon, seconds: float, *, scraped: bool) -> float:
    """Operations per second over a span."""
    before, began = operations(daemon), time.monotonic()
    for second in range(int(seconds)):
        if scraped:
            daemon.scrape()
        time.sleep(max(began + second + 1 - time.monotonic(), 0))
    return (operations(daemon) - before) / (time.monotonic() - began)


def median_interval(ratios: list[float]) -> tuple[float, float]:
    """Where the median of such pairs lies in 95 of 100 cases, from their order alone."""
    away = int(0.98 * math.sqrt(len(ratios)))
    middle = (len(ratios) - 1) / 2
    least, most = math.floor(middle - away), math.ceil(middle + away)
    ordered = sorted(ratios)
    return ordered[max(least, 0)], ordered[min(most, len(ordered) - 1)]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--plain", action="store_true", help="run the core as plain Python")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    wanted = parser.parse_args()
    ratios, rates = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        Daemon(Path(folder), plain=wanted.plain) as daemon,
    ):
        daemon.client.post("/v1/runs", {"run": "busy", "scenario_toml": SCENARIO})
        wait_until(lambda: daemon.record("busy")["state"] == "running", COMPILE_SECONDS_MAX)
        time.sleep(WARM_SECONDS)
        for pair in range(wanted.pairs):
            order = (True, False) if pair % 2 else (False, True)
            found = {on: rate(daemon, wanted.seconds, scraped=on) for on in order}
            ratios.append(found[True] / found[False])
            rates.append(found[False])
        daemon.client.post("/v1/runs/busy/stop")
    result = {
        "pairs": wanted.pairs,
        "span_seconds": wanted.seconds,
        "operations_per_second_without": statistics.median(rates),
        "ratio": statistics.median(ratios),
        "ratio_interval": median_interval(ratios),
        "goal": GOAL,
    }
    if wanted.json:
        print(json.dumps(result))
        return
    least, most = median_interval(ratios)
    print(
        f"{result['operations_per_second_without']:12,.0f} operations a second without\n"
        f"{result['ratio']:12.3f} of that with a scrape each second, the median of"
        f" {wanted.pairs} pairs (95 %: {least:.3f} to {most:.3f}); goal {GOAL}"
    )


if __name__ == "__main__":
    main()
