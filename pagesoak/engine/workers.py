"""The workers of a run, made from its scenario: the same generators for either driver."""

from collections.abc import Callable
from dataclasses import replace

from pagesoak.allocator.worker import guest_worker
from pagesoak.base import layout
from pagesoak.base.wants import Worker
from pagesoak.engine.policy_choice import find_policy
from pagesoak.engine.policy_limit import limited
from pagesoak.engine.prepare import Soak
from pagesoak.engine.wishes import Wishes
from pagesoak.host.device import HostModel
from pagesoak.host.faults import SegmentFaults
from pagesoak.host.worker import host_worker
from pagesoak.reporter.passes import ReporterSettings
from pagesoak.reporter.policy import Policy
from pagesoak.reporter.worker import Change, no_changes, reporter_worker


def make_guest(soak: Soak, cpu: int) -> Worker:
    """A guest CPU with the programs of its loads."""
    return guest_worker([make() for make in soak.programs[cpu]])


def make_reporter(
    soak: Soak, policy: Policy, eventfd: int = -1, wishes: Wishes | None = None
) -> Worker:
    """The reporter; `eventfd` wakes it, -1 without. `wishes` may change it while it runs."""
    reporting = soak.scenario.reporting
    settings = ReporterSettings(
        zones=soak.segment.plan.zones,
        order=reporting.order,
        capacity=reporting.capacity,
        delay_ns=reporting.delay_ns,
        list_allocation_fails_every=reporting.list_allocation_fails_every,
        eventfd=eventfd,
        factor=reporting.factor_percent,
        hz=soak.scenario.guest.hz,
        names_points=False,
    )
    changes = no_changes if wishes is None else _Changes(soak, settings, wishes)
    cpus = soak.segment.plan.cpus
    return reporter_worker(soak.segment.base, cpus, limited(policy), settings, changes)


class _Changes:
    """What the user wishes of the reporter, each wish given once."""

    def __init__(self, soak: Soak, settings: ReporterSettings, wishes: Wishes) -> None:
        self._report = soak.segment.report
        self._settings = settings
        self._wishes = wishes
        self._heeded = 0
        self._policy = soak.scenario.reporting.policy

    def __call__(self) -> Change | None:
        if self._wishes.generation == self._heeded:
            return None
        self._heeded, change = self._wishes.read()
        settings = self._settings
        if change.factor_percent is not None:
            settings = replace(settings, factor=change.factor_percent)
        if change.delay_ns is not None:
            settings = replace(settings, delay_ns=change.delay_ns)
            self._report[layout.R_DELAY_NS] = change.delay_ns
        if change.policy is None or change.policy == self._policy:
            return Change(None, settings)
        self._policy = change.policy
        return Change(limited(find_policy(change.policy)), settings)


def make_host(soak: Soak, wishes: Wishes | None = None) -> Worker:
    """The balloon host; `wishes` may change what it costs while it runs."""
    host = soak.scenario.host
    model = HostModel(host.latency_per_call_ns, host.latency_per_mib_ns, host.error_every_calls)
    now = None if wishes is None else _wished_host(model, wishes)
    faults = SegmentFaults(soak.segment)
    cpus = soak.segment.plan.cpus
    return host_worker(soak.segment.base, cpus + 1, soak.ram, model, now=now, faults=faults)


def _wished_host(model: HostModel, wishes: Wishes) -> Callable[[], HostModel]:
    """The device as the user wishes it at the moment of a call."""

    def now() -> HostModel:
        _, change = wishes.read()
        per_call_ns, per_mib_ns = change.latency_per_call_ns, change.latency_per_mib_ns
        return replace(
            model,
            latency_per_call_ns=model.latency_per_call_ns if per_call_ns is None else per_call_ns,
            latency_per_mib_ns=model.latency_per_mib_ns if per_mib_ns is None else per_mib_ns,
        )

    return now


def make_all(soak: Soak, policy: Policy) -> dict[int, Worker]:
    """Every worker of a run in one process, by number; `off` has neither reporter nor host."""
    cpus = soak.segment.plan.cpus
    workers = {cpu: make_guest(soak, cpu) for cpu in range(cpus)}
    if limited(policy).registers_device:
        workers[cpus] = make_reporter(soak, policy)
        workers[cpus + 1] = make_host(soak)
    return workers
