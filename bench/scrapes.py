"""Scrape the metrics of a busy soak many times, and hold every scrape to what must be so.

    .venv/bin/python bench/scrapes.py [--scrapes 10000] [--seconds-between 0] [--scenario NAME]

Starts a daemon of its own with one run, and after each scrape looks that the pages of every zone
add up (`pagesoak_zone_pages`: free, pageset, isolated, in use; managed), that no counter and no
histogram has gone back, that what is worst of the run has not become better, and that every cause
is there. Prints how long scrapes took, how many readings were tried again or given twice, and how
many windows the run had that were shorter than the time between two scrapes. Exit code 1 for a
scrape that was wrong.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.daemon_helper import Daemon, wait_until
from tests.scrape_checks import Scrapes

SOAK_SECONDS_MAX = 86_400


def main() -> int:
    """Scrape, check, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scrapes", type=int, default=10_000)
    parser.add_argument("--seconds-between", type=float, default=0.0)
    parser.add_argument("--scenario", default="seed-512m")
    parser.add_argument("--plain", action="store_true", help="run the core as plain Python")
    wanted = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Daemon(Path(folder), plain=wanted.plain) as daemon,
    ):
        request = {"run": "busy", "scenario": wanted.scenario, "duration": f"{SOAK_SECONDS_MAX}s"}
        daemon.client.post("/v1/runs", request)
        wait_until(lambda: daemon.record("busy")["state"] == "running", 1800)
        scrapes, took = Scrapes(), []
        for _ in range(wanted.scrapes):
            began = time.perf_counter()
            text = daemon.scrape()
            took.append(time.perf_counter() - began)
            scrapes.check(text)
            time.sleep(wanted.seconds_between)
        last = scrapes.last
        print(f"scrapes              {len(took):,}, {scrapes.series:,} series in the last")
        print(
            f"took                 median {statistics.median(took) * 1000:.1f} ms, "
            f"longest {max(took) * 1000:.1f} ms"
        )
        print(f"counts of pages      {scrapes.counts:,} different ones, all add up")
        print(f"readings tried again {last['pagesoak_scrape_torn_reads_total']:,.0f}")
        print(f"readings given twice {last['pagesoak_scrape_stale_reads_total']:,.0f}")
        windows = last['pagesoak_isolation_window_seconds_count{run="busy"}']
        print(f"report windows       {windows:,.0f}")
        for complaint in scrapes.complaints[:10]:
            print(f"WRONG {complaint}")
        print(f"wrong scrapes        {len(scrapes.complaints):,}")
        daemon.client.post("/v1/runs/busy/stop")
        return 1 if scrapes.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
