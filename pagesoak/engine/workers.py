"""The workers of a run, made from its scenario: the same generators for either driver."""

from pagesoak.allocator.worker import guest_worker
from pagesoak.base.wants import Worker
from pagesoak.engine.policy_limit import limited
from pagesoak.engine.prepare import Soak
from pagesoak.host.device import HostModel
from pagesoak.host.faults import SegmentFaults
from pagesoak.host.worker import host_worker
from pagesoak.reporter.policy import Policy
from pagesoak.reporter.worker import ReporterSettings, reporter_worker


def make_guest(soak: Soak, cpu: int) -> Worker:
    """A guest CPU with the programs of its loads."""
    return guest_worker([make() for make in soak.programs[cpu]])


def make_reporter(soak: Soak, policy: Policy, eventfd: int = -1) -> Worker:
    """The reporter; `eventfd` wakes it, -1 without."""
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
    )
    return reporter_worker(soak.segment.base, soak.segment.plan.cpus, limited(policy), settings)


def make_host(soak: Soak) -> Worker:
    """The balloon host."""
    host = soak.scenario.host
    model = HostModel(host.latency_per_call_ns, host.latency_per_mib_ns, host.error_every_calls)
    faults = SegmentFaults(soak.segment)
    return host_worker(soak.segment.base, soak.segment.plan.cpus + 1, soak.ram, model, faults)


def make_all(soak: Soak, policy: Policy) -> dict[int, Worker]:
    """Every worker of a run in one process, by number; `off` has neither reporter nor host."""
    cpus = soak.segment.plan.cpus
    workers = {cpu: make_guest(soak, cpu) for cpu in range(cpus)}
    if limited(policy).registers_device:
        workers[cpus] = make_reporter(soak, policy)
        workers[cpus + 1] = make_host(soak)
    return workers
