"""The words of `pagesoak explain`: times, pages, workers, what the reporter was doing, and why a
request got nothing.

Pure functions of records; what they say is what was recorded or follows from it. The
counterfactual is the attribution's own question (`allocator.attribution`) with numbers put in
where they are certain.
"""

from typing import NamedTuple

from pagesoak.base.units import NS_PER_MS, NS_PER_SECOND, NS_PER_US
from pagesoak.study import report_windows as rw
from pagesoak.study.gfp_names import gfp_name
from pagesoak.study.report_windows import ReporterMoment, Window
from pagesoak.study.run_failures import BECAUSE, FAILED, KILLED, Failure
from pagesoak.study.run_record import RunRecord

PAGES_PER_MIB = 256
WORKERS_AFTER_VCPUS = ("reporter", "host", "runner")


def mib(pages: int) -> str:
    """Pages as MiB with one decimal."""
    return f"{pages / PAGES_PER_MIB:,.1f} MiB"


def pages_words(pages: int) -> str:
    """`25,600 pages (100.0 MiB)`."""
    return f"{pages:,} page{'' if pages == 1 else 's'} ({mib(pages)})"


def span(duration_ns: int) -> str:
    """A duration in the unit that suits it."""
    size_ns = abs(duration_ns)
    if size_ns < NS_PER_MS:
        return f"{duration_ns / NS_PER_US:,.1f} us"
    if size_ns < NS_PER_SECOND:
        return f"{duration_ns / NS_PER_MS:,.1f} ms"
    return f"{duration_ns / NS_PER_SECOND:,.3f} s"


class Words:
    """The words for one run: it knows the zones', loads' and workers' names."""

    def __init__(self, record: RunRecord, start_ns: int) -> None:
        self.record = record
        self.start_ns = start_ns
        self._kinds = record.load_kinds()

    def at(self, time_ns: int) -> str:
        """A time on the soak's clock."""
        return f"{(time_ns - self.start_ns) / NS_PER_SECOND:,.4f} s"

    def worker(self, number: int) -> str:
        """Who recorded an event."""
        cpus = self.record.cpus
        if cpus is None or number < cpus:
            return f"vCPU {number}" if cpus is not None else f"worker {number}"
        rest = number - cpus
        return WORKERS_AFTER_VCPUS[rest] if rest < len(WORKERS_AFTER_VCPUS) else f"worker {number}"

    def load(self, number: int) -> str:
        """A load by its number and kind."""
        known = 0 <= number < len(self._kinds)
        return f"load {number} ({self._kinds[number]})" if known else f"load {number}"

    def zone(self, number: int | None) -> str:
        """A zone by its number in the events."""
        if number is None:
            return "its zone"
        zones = self.record.zones
        return f"zone {zones[number].name if 0 <= number < len(zones) else number}"

    def doing(self, moment: ReporterMoment, now_ns: int) -> str:
        """What the policy was doing at that moment."""
        window = moment.window
        if moment.state in rw.WITH_ISOLATED_PAGES and window is not None:
            return self._with_pages(moment, window, now_ns)
        since_ns = now_ns if moment.since_ns is None else moment.since_ns
        ago = span(now_ns - since_ns)
        if moment.state == rw.REQUESTED:
            return self._requested(moment, now_ns)
        if moment.state == rw.WAITING and moment.waiting is not None:
            fields = moment.waiting.fields
            return (
                f"waiting: {fields['free_pages']:,} pages free in {self.zone(fields['zone'])}, "
                f"{fields['floor_pages']:,} must stay free (looks again after "
                f"{span(fields['retry_ns'])})"
            )
        said = {
            rw.NO_DEVICE: "nothing: there is no reporting device",
            rw.IDLE: f"idle for {ago}: no pass was asked for",
            rw.PASS: f"pass {moment.pass_number} at work, no page isolated",
        }
        return said.get(moment.state, "not on record")

    def _requested(self, moment: ReporterMoment, now_ns: int) -> str:
        if moment.requested_ns is None:
            return "a pass is asked for"
        said = f"a pass was asked for {span(now_ns - moment.requested_ns)} before"
        due_ns = self.record.pass_due_ns(moment.requested_ns)
        if due_ns is None:
            return said
        left_ns = due_ns - now_ns
        return f"{said}, due in {span(left_ns)}" if left_ns > 0 else f"{said}, due now"

    def _with_pages(self, moment: ReporterMoment, window: Window, now_ns: int) -> str:
        open_for = span(now_ns - window.opened_ns)
        pages = f"{window.pages:,} pages isolated"
        if moment.state == rw.FILLING:
            return f"pass {moment.pass_number} filling its list, {pages} so far, for {open_for}"
        if moment.state == rw.ANSWERED:
            return f"request {window.request} answered, {pages} for {open_for}, not back yet"
        return f"request {window.request} with the host, {pages} for {open_for}"

    def request(self, failure: Failure) -> str:
        """What was asked for."""
        return f"order {failure.order} {gfp_name(failure.gfp)}"

    def outcome(self, failure: Failure) -> str:
        """What became of the request, in a word or two."""
        if failure.outcome == KILLED:
            if failure.victim is None:
                return "killed nobody: nobody to kill"
            return f"killed {self.load(failure.victim)}"
        if failure.outcome == FAILED:
            return "failed"
        if "NORETRY" in gfp_name(failure.gfp):
            return "stalled; served, or gave way to less"
        return "stalled, waited for the window" if failure.waited else "stalled, then served"

    def cause(self, failure: Failure) -> str:
        """The cause in a phrase."""
        return BECAUSE.get(failure.cause or "", "for a cause that was not recorded")

    def header(self, failure: Failure) -> str:
        """What happened and why, in plain words."""
        who = self.worker(failure.worker)
        if failure.load is not None:
            who = f"{self.load(failure.load)} on {who}"
        asked = f"{who} asked for a page" if failure.order == 0 else f"{who} asked for a block"
        ended = f"At {self.at(failure.time_ns)} {asked} ({self.request(failure)})"
        became = {KILLED: self._killed(failure), FAILED: "got nothing"}.get(failure.outcome)
        if became is None:
            became = "had to reclaim by itself before it was served"
            if failure.waited:
                became = "had to wait for the open window before it was served"
        there = f"{pages_words(failure.free_pages)} were free"
        if failure.isolated_pages:
            there += f", {pages_words(failure.isolated_pages)} isolated for a report"
        return f"{ended} and {became} {self.cause(failure)}: {there}."

    def _killed(self, failure: Failure) -> str:
        if failure.victim is None:
            return "would have killed, but there was nobody to kill,"
        if failure.victim == failure.load:
            return "was killed"
        return f"{self.load(failure.victim)} was killed for it"


class Counterfactual(NamedTuple):
    """The attribution's question with numbers: pages of the zone with isolated pages counted as
    free, at least, and what the slow path asks for at most (more must be there).
    """

    zone: str
    pages_at_least: int
    asked_pages: int


def counterfactual(failure: Failure, record: RunRecord) -> Counterfactual | None:
    """The numbers behind the cause `isolated`, as far as they are certain; None otherwise.

    Free pages are recorded over all zones. A zone that refused a page of order 0 has at most what
    was asked of it; what is free beyond that, summed over the other zones, lies in the zone with
    the isolated pages. Above order 0 a zone may refuse for lack of a block, so nothing is
    subtracted and nothing added.
    """
    window = failure.reporter.window
    if failure.cause != "isolated" or window is None or window.zone is None:
        return None
    if not 0 <= window.zone < len(record.zones):
        return None
    asked = [zone.asked_pages(failure.gfp) for zone in record.zones]
    own = asked[window.zone]
    free_at_least = 0
    if failure.order == 0:
        others = sum(pages for number, pages in enumerate(asked) if number != window.zone)
        free_at_least = max(0, failure.free_pages - others)
    needed = own + (1 << failure.order) - 1
    total = free_at_least + failure.isolated_pages
    if free_at_least > own or total <= needed:  # a boost at that time, which is not recorded
        return None
    return Counterfactual(record.zones[window.zone].name, total, needed)


def why(failure: Failure, record: RunRecord) -> str:
    """What the cause says, and what would have been without reporting."""
    isolated = failure.isolated_pages
    if failure.cause is None:
        return "This run was recorded before stalls had a cause."
    if failure.cause == "isolated":
        return _why_isolated(failure, counterfactual(failure, record))
    if failure.cause == "fragmented":
        counted = ", isolated ones counted" if isolated else ""
        return (
            f"There were pages enough{counted}, but no free block of order {failure.order} on a "
            "list it may use, and none would arise from isolated blocks: reporting is not to "
            "blame."
        )
    if isolated == 0:
        return "No page was isolated: reporting had no part in it."
    return (
        f"With the {isolated:,} isolated pages counted as free the request would still get "
        "nothing, or it would have been served at its next attempt: reporting is not to blame."
    )


def _why_isolated(failure: Failure, numbers: Counterfactual | None) -> str:
    passes = f"With the {failure.isolated_pages:,} isolated pages counted as free the request"
    block = ""
    if failure.order:
        block = f", and a block of order {failure.order} is there or arises when they are back"
    if numbers is None:
        return f"{passes} passes the slow path's test{block}: reporting is the cause."
    return (
        f"{passes} passes: zone {numbers.zone} then has at least {numbers.pages_at_least:,} "
        f"pages, {numbers.pages_at_least:,} > {numbers.asked_pages:,}{block}. "
        "Reporting is the cause."
    )
