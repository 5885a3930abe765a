"""When reporting passes start: each 2 s after its cause, as late as the timer wheel makes it.

The cause of a pass is the registration of the device, a freed block (notify) while the device was
idle, or the end of a pass that was requested again meanwhile. The demand is what holds for every
guest at 250 Hz whatever the phase of its ticks: 2 s, and then 0 to 32 ms plus one tick, which is
for the way from the timer to the first thing recorded.

Once one start is known, so is the phase of the wheel's buckets, and every other start follows to
the tick. That is counted too, without being demanded: a guest on a busy machine may serve a timer
late.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pagesoak.base.timer_wheel import (
    TickClock,
    bucket_ticks,
    tick_at,
    tick_starts_ns,
    ticks_of,
    timer_fires_ns,
    wheel_level,
)
from pagesoak.base.units import NS_PER_MS
from pagesoak.reporter.passes import DELAY_NS
from pagesoak.study.fidelity_result import DIVERGENCES_MAX, Demand, Divergence, NotChecked

NS_PER_US = 1_000


class PassStart(NamedTuple):
    """A pass as recorded, and its cause; times in ns of the guest's clock."""

    number: int
    """From 1."""
    start_ns: int
    where: str
    cause: str
    """In words; why it is not known when `cause_ns` is None."""
    cause_ns: int | None


class StartsChecked(NamedTuple):
    """What comes of it; `clock` has the phase that the first start shows, None without starts."""

    figures: dict[str, Any]
    demands: tuple[Demand, ...]
    divergences: tuple[Divergence, ...]
    not_checked: tuple[NotChecked, ...]
    clock: TickClock | None


def clock_of(starts: Iterable[PassStart], delay_ns: int = DELAY_NS) -> TickClock | None:
    """The guest's ticks, counted so that the first pass started at the border of a bucket."""
    first = next(iter(starts), None)
    if first is None:
        return None
    plain = TickClock()
    tick = tick_at(plain, first.start_ns)
    # Only the phase within a bucket of the delay's level matters, and it fits in one.
    bucket = bucket_ticks(wheel_level(ticks_of(plain, delay_ns)))
    return TickClock(phase_ns=tick_starts_ns(plain, tick % bucket))


def check_pass_starts(
    starts: Sequence[PassStart], *, delay_ns: int = DELAY_NS, busy: bool = False
) -> StartsChecked:
    """Hold every pass with a known cause to the timer wheel.

    In a `busy` guest the worker may have to wait for its CPU after the timer fired, and the tick
    of the cause may be one that is still to be counted: there it is demanded only that no pass
    starts more than a tick too early. Within the wheel or not is counted all the same.
    """
    clock = clock_of(starts, delay_ns)
    tick_ns = tick_starts_ns(TickClock(), 1)
    latest_ns = bucket_ticks(wheel_level(ticks_of(TickClock(), delay_ns))) * tick_ns + tick_ns
    known = [(start, start.cause_ns) for start in starts if start.cause_ns is not None]
    late = [start.start_ns - cause_ns - delay_ns for start, cause_ns in known]
    within = [0 <= late_ns <= latest_ns for late_ns in late]
    divergences = tuple(
        Divergence(
            start.where,
            f"pass {start.number} starts {_ms(delay_ns + late_ns)} after its cause",
            f"{_ms(delay_ns)} to {_ms(delay_ns + latest_ns)} after it",
            f"cause: {start.cause}",
        )
        for (start, _), late_ns, fits in zip(known, late, within, strict=True)
        if not fits
    )
    later = [(start, cause_ns) for start, cause_ns in known if start is not starts[0]]
    at_tick = sum(
        1
        for start, cause_ns in later
        if clock is not None
        and tick_at(clock, start.start_ns)
        == tick_at(clock, timer_fires_ns(clock, cause_ns, delay_ns))
    )
    figures = {
        "pass_starts": {
            "within_wheel": sum(within),
            "total": len(known),
            "not_checked": len(starts) - len(known),
            "late_us": [bound(late) // NS_PER_US for bound in (min, max)] if late else [],
            "to_the_tick": {"exact": at_tick, "total": len(later)},
        }
    }
    text = f"every pass starts {_ms(delay_ns)} to {_ms(delay_ns + latest_ns)} after its cause"
    held = all(within)
    if busy:
        text = f"no pass starts earlier than {_ms(delay_ns - tick_ns)} after its cause"
        held = all(late_ns >= -tick_ns for late_ns in late)
    demands = (Demand(text, held),) if known else ()
    left_out = tuple(
        NotChecked(f"start of pass {start.number}", start.where, start.cause)
        for start in starts
        if start.cause_ns is None
    )
    return StartsChecked(figures, demands, divergences[:DIVERGENCES_MAX], left_out, clock)


def _ms(duration_ns: int) -> str:
    """Milliseconds without trailing zeros."""
    whole, rest = divmod(abs(duration_ns), NS_PER_MS)
    decimals = f"{rest // NS_PER_US:03d}".rstrip("0")
    sign = "-" if duration_ns < 0 else ""
    return f"{sign}{whole:,}{'.' if decimals else ''}{decimals} ms"
