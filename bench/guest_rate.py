"""Guest operations per second of a live soak: one vCPU, 512 MiB, every page stamped and verified.

A steady mix as fast as it goes, in the live engine as `pagesoak run` starts it: guest, reporter
and host in processes of their own, audits and zone lock times on, freed memory reported and
punched out meanwhile. An operation is an allocation or a free; each writes or checks every page of
its block. Sustained is what the slowest sample of the run's series shows: allocations alone, for
frees are not in the series.

    .venv/bin/python bench/guest_rate.py [--duration 20s] [--json]
"""

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

GOAL_PER_SECOND = 50_000
"""Operations per second that the guest must sustain on two cores."""
DURATION = "20s"

SCENARIO = """\
name = "guest-rate"
description = "A steady mix as fast as it goes, every page stamped"
duration = "20s"

[guest]
memory = "512MiB"
touch = true

[[load]]
kind = "steady"
target = "200MiB"
"""


def allocation_rates(series: Path) -> list[float]:
    """Allocations per second from sample to sample."""
    with series.open(newline="") as file:
        rows = [
            (float(row["elapsed_seconds"]), int(row["alloc_requests"]))
            for row in csv.DictReader(file)
        ]
    return [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for earlier, later in itertools.pairwise(rows)
    ]


def measure(duration: str) -> dict[str, Any]:
    """Run the soak; returns what is printed. Raises CalledProcessError when it does not pass."""
    with tempfile.TemporaryDirectory(prefix="pagesoak-rate-") as directory:
        scenario = Path(directory) / "guest-rate.toml"
        scenario.write_text(SCENARIO)
        command = [
            sys.executable, "-m", "pagesoak", "run", str(scenario),
            "--duration", duration, "--results", directory, "--json",
        ]  # fmt: skip
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        summary = json.loads(done.stdout.splitlines()[-1])
        slowest = min(allocation_rates(Path(summary["directory"]) / "series.csv"))
    operations = summary["alloc_requests"] + summary["frees"]
    return {
        "core": summary["core"],
        "cores": len(os.sched_getaffinity(0)),
        "operations": operations,
        "duration_seconds": summary["duration_seconds"],
        "operations_per_second": operations / summary["duration_seconds"],
        "slowest_allocations_per_second": slowest,
        "goal_per_second": GOAL_PER_SECOND,
        "pages_verified": summary["integrity"]["pages_verified"],
        "violations": summary["integrity"]["violations"],
        "punched_bytes": summary["punched_bytes"],
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--duration", default=DURATION, help="how long, as 20s or 1m")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    arguments = parser.parse_args()
    try:
        found = measure(arguments.duration)
    except subprocess.CalledProcessError as error:
        return error.returncode  # pagesoak has said why
    if arguments.json:
        print(json.dumps(found))
        return 0
    print(
        f"live guest, 1 vCPU, 512 MiB, stamping on, {found['cores']} cores\n"
        f"  operations  {found['operations_per_second']:12,.0f} a second\n"
        f"  slowest     {found['slowest_allocations_per_second']:12,.0f} allocations a second,"
        f" of all samples\n"
        f"  goal        {GOAL_PER_SECOND:12,} a second, at least\n"
        f"  {found['pages_verified']:,} pages verified, {found['violations']} violations,"
        f" {found['punched_bytes'] >> 20} MiB punched out"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
