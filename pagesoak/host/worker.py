"""The balloon host: waits for a report request, checks and punches its ranges, answers.

A worker in the sense of `base.wants`: it yields what it wants. Punching is handed in, as `ram`:
guest RAM in a live soak, whatever the virtual driver keeps in its place there.

A request is served as QEMU's handler serves it: range after range, one answer at the end
(`virtio_balloon_handle_report`); but an error is answered too, so that the guest's own handling
of it can be soaked. Extra latency is slept after the punching, before the answer: pages stay
isolated for that long. A request that is not pending, or was answered already, is dropped and
counted: what it names may be in use again.

A breach of the ledger is answered with an error, so that the reporter is not left waiting, and
then ends the host with a HarnessError that carries the evidence.
"""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Protocol

from pagesoak.base.errors import HarnessError
from pagesoak.base.wants import Answer, AwaitReport, Now, Run, Sleep, Want, Worker
from pagesoak.host.device import DEVICE_ERROR, HostModel, service
from pagesoak.host.faults import CallFault, HostFaults, NoFaults
from pagesoak.host.ledger import (
    BREACHES,
    DROPPED,
    NO_BREACH,
    begin_request,
    check_entry,
    entry_evidence,
    entry_range,
    finish_request,
    mark_punched,
)

NO_ENTRY = -1
"""In place of an entry, for a breach of the request as a whole."""


class Ram(Protocol):
    """What the host needs of guest RAM. A virtual one has `punch_entries` besides: a function of
    the core that does for a whole request what is done here for each of its entries.
    """

    def punch(self, first_pfn: int, pages: int) -> int:
        """Give the memory of a range back; returns how many bytes went."""
        ...


class _Breach(Exception):  # noqa: N818 - carries a breach from where it is found to where it is answered
    def __init__(self, index: int, breach: int) -> None:
        self.index = index
        self.breach = breach


def host_worker(
    base: int,
    worker: int,
    ram: Ram,
    model: HostModel,
    now: Callable[[], HostModel] | None = None,
    faults: HostFaults | None = None,
) -> Worker:
    """Serve report requests of the segment at `base` for ever, as worker number `worker`; `faults`
    says what is to go wrong with one.

    `now`, if it is given, is asked for the model at each request, in place of `model`.

    Raises HarnessError on a breach of the ledger, and when memory cannot be punched.
    """
    host = _Host(base, worker, ram, faults or NoFaults())
    while True:
        request = yield AwaitReport()
        fault = host.faults.of_call()
        try:
            error = yield from _serve(host, request, now() if now else model, fault)
        except _Breach as found:
            yield Run("finish-request", finish_request, (worker, request, DEVICE_ERROR))
            yield Answer(request, DEVICE_ERROR)
            raise HarnessError(breach_message(base, request, found.index, found.breach)) from None
        if error is not None:
            yield Answer(request, error)
            if fault.answers_twice:
                yield Answer(request, error)


class _Host(NamedTuple):
    """What a host has."""

    base: int
    worker: int
    ram: Ram
    faults: HostFaults


def _serve(
    host: _Host, request: int, model: HostModel, fault: CallFault
) -> Generator[Want, Any, int | None]:
    """Serve one request; the errno to answer, None for a request that is dropped."""
    base, worker, ram, faults = host
    begin = Run("begin-request", begin_request, (worker, request))
    breach, start, end, pages, call = yield begin
    if breach == DROPPED:
        return None
    _require(NO_ENTRY, breach)
    latency_ns, error = service(model, call, pages)
    latency_ns += fault.slower_ns
    error = DEVICE_ERROR if fault.fails else error
    breaks_off = start + (end - start) // 2 if fault.breaks_off and not error else end
    at_once = None if error or fault.breaks_off else getattr(ram, "punch_entries", None)
    if at_once is not None:
        breach, index = yield Run("punch-entries", at_once, (worker, request, start, end))
        _require(index, breach)
        start = end
    for index in range(start, end):
        _require(index, (yield Run("check-entry", check_entry, (worker, request, index))))
        if index == breaks_off:
            yield _punch_half(base, index, ram, faults, dies=fault.dies)
            error = DEVICE_ERROR
        if not error:
            punched_bytes = yield _punch(base, index, ram)
            arguments = (worker, request, index, punched_bytes)
            _require(index, (yield Run("mark-punched", mark_punched, arguments)))
    if latency_ns:
        now_ns = yield Now()
        yield Sleep(now_ns + latency_ns)
    yield Run("finish-request", finish_request, (worker, request, error))
    return error


def _punch_half(base: int, index: int, ram: Ram, faults: HostFaults, *, dies: bool) -> Run:
    """Punch half the range of an entry that has been checked, and stop there; or die of it."""

    def punch_half(_base: int, first_pfn: int, pages: int, _until_ns: int) -> int:
        half = max(pages // 2, 1)
        punched_bytes = ram.punch(first_pfn, half)
        if dies:
            faults.die()
        faults.half_punched(first_pfn, half)
        return punched_bytes

    return Run("punch-half", punch_half, entry_range(base, index))


def _punch(base: int, index: int, ram: Ram) -> Run:
    """Punch the range of an entry that has been checked."""

    def punch(_base: int, first_pfn: int, pages: int, _until_ns: int) -> int:
        try:
            return ram.punch(first_pfn, pages)
        except OSError as error:
            msg = (
                f"cannot punch {pages} pages at {first_pfn:#x} out of guest RAM: {error.strerror}"
            )
            raise HarnessError(msg) from error

    return Run("punch", punch, entry_range(base, index))


def _require(index: int, breach: int) -> None:
    if breach != NO_BREACH:
        raise _Breach(index, breach)


def breach_message(base: int, request: int, index: int, breach: int) -> str:
    """A breach of the ledger with its evidence, in one line."""
    message = f"host ledger: report {request}: {BREACHES[breach]}"
    if index == NO_ENTRY:
        return message
    pfn, order, pages, state, found_request, found_entry = entry_evidence(base, index)
    message = f"{message}: entry {index} names {pages} pages of order {order} at {pfn:#x};"
    if state < 0:
        return f"{message} there is no such page"
    return (
        f"{message} that page's record has state {state:#x},"
        f" request {found_request}, entry {found_entry}"
    )
