"""What must hold of every scrape of a run, and from one scrape to the next."""

import re

WORSE_BY_GROWING = re.compile(r"_max(\{|$)")
WORSE_BY_SHRINKING = re.compile(r"_min(\{|$)")
NEVER_BACK = re.compile(r"^pagesoak_.*_(total|bucket|count|sum)(\{|$)")
CAUSES = ("isolated", "fragmented", "exhausted")


def samples(text: str) -> dict[str, float]:
    """Series by name and labels, as they are written."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


class Scrapes:
    """Scrapes one after another; `complaints` says what was wrong with which."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.last: dict[str, float] = {}
        self.counts = 0
        """Different counts of pages that were seen."""
        self._number = 0
        self._last_count: dict[str, float] = {}

    @property
    def series(self) -> int:
        """Of the last scrape."""
        return len(self.last)

    def check(self, text: str) -> None:
        """Take in the next scrape."""
        self._number += 1
        now = samples(text)
        self._adds_up(now)
        for name, before in self.last.items():
            value = now.get(name)
            if value is None:
                if name.startswith("pagesoak_"):
                    self._complain(f"{name} has gone")
            elif NEVER_BACK.search(name) and value < before:
                self._complain(f"{name} went back from {before} to {value}")
            elif name.startswith("pagesoak_") and (
                (WORSE_BY_GROWING.search(name) and value < before)
                or (WORSE_BY_SHRINKING.search(name) and value > before)
            ):
                self._complain(f"{name} became better: from {before} to {value}")
        for cause in CAUSES:
            if not any("oom_events_total" in name and f'"{cause}"' in name for name in now):
                self._complain(f"no OOM events by cause {cause}")
        self.last = now

    def _adds_up(self, now: dict[str, float]) -> None:
        count = {name: v for name, v in now.items() if name.startswith("pagesoak_zone_pages{")}
        self.counts += count != self._last_count
        self._last_count = count
        totals: dict[str, float] = {}
        for name, pages in count.items():
            zone = re.sub(r',?state="\w+"', "", name.partition("{")[2])
            totals[zone] = totals.get(zone, 0) + pages
        for zone, total in totals.items():
            managed = now.get("pagesoak_zone_managed_pages{" + zone)
            if managed != total:
                self._complain(f"{zone}: {total} pages, {managed} are managed")

    def _complain(self, what: str) -> None:
        self.complaints.append(f"scrape {self._number}: {what}")


def doctored(text: str, series: str, change: float) -> str:
    """A scrape in which one series is off by `change`; for tests of the checks."""
    lines = []
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        lines.append(f"{name} {float(value) + change}" if name == series else line)
    return "\n".join(lines)
