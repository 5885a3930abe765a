"""What a comparison found, in plain sentences: who was killed, what differs, what it costs, and
what cannot be said.

A difference is claimed where its interval leaves out 0; else the sentence says that none could be
told, with the interval that says how large it may still be.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction

from pagesoak.base.units import MIB, NS_PER_SECOND, PAGE_SHIFT, format_duration
from pagesoak.study.compare import Comparison, FoundDifference
from pagesoak.study.compare_totals import Rate, Totals
from pagesoak.study.paired import SEEDS_TO_TELL_MIN

MANY = 100
"""From here on, and of what is a whole number, no decimal is shown."""
SMALL_SHARE = 0.01


def sentences(comparison: Comparison) -> list[str]:
    """The findings, most important first."""
    return [
        *_killed(comparison),
        *_kills_differ(comparison),
        *_closest(comparison),
        *_given_back(comparison),
        *_waited(comparison),
        *_caveats(comparison),
    ]


# ---- numbers as people read them ----


def counted(number: int, noun: str) -> str:
    """`1 burst`, `2 bursts`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def short(number: float | Fraction) -> str:
    """One decimal, none where it is whole or large."""
    value = float(number)
    return f"{value:,.0f}" if value == int(value) or abs(value) >= MANY else f"{value:,.1f}"


def percent(share: float) -> str:
    """`12.3`, without the sign."""
    return f"{share * 100:.{2 if 0 < share < SMALL_SHARE else 1}f}"


def mebibytes(size_bytes: float | Fraction) -> str:
    """`1,228 MiB`."""
    return f"{short(Fraction(size_bytes) / MIB)} MiB"


def pages_as_mebibytes(pages: float | Fraction) -> str:
    """Pages as MiB."""
    return mebibytes(Fraction(pages) * (1 << PAGE_SHIFT))


def beside(pages: int, mark: str) -> str:
    """`26 pages below min`."""
    return f"{counted(abs(pages), 'page')} {'below' if pages < 0 else 'above'} {mark}"


def rate_interval(rate: Rate, shown: Callable[[float], str]) -> str:
    """`9.1 to 18.0`, or nothing where there is no interval."""
    if rate.low is None or rate.high is None:
        return ""
    return f"{shown(rate.low)} to {shown(rate.high)}"


# ---- who was killed ----


def _killed(comparison: Comparison) -> Iterator[str]:
    """One sentence: what became of the bursts, or who was killed, under each variant."""
    parts: list[str] = []
    for label, totals in zip(comparison.labels, comparison.totals, strict=True):
        if totals is not None:
            parts.append(f"under {label} {_kills(totals, first=not parts)}")
    if parts:
        text = "; ".join(parts)
        yield f"{text[0].upper()}{text[1:]}."
    for label, totals in zip(comparison.labels, comparison.totals, strict=True):
        if totals is not None and totals.other_kills:
            oom = totals.oom_events
            yield (
                f"Under {label} {counted(totals.other_kills, 'kill')} had another cause: "
                f"{oom['fragmented']:,} fragmented, {oom['exhausted']:,} exhausted."
            )


def _kills(totals: Totals, *, first: bool) -> str:
    isolated = totals.oom_events["isolated"]
    because = " because pages were isolated" if first else ""
    per_burst = totals.isolated_kills_per_burst
    if per_burst is None:
        soaked = format_duration(int(totals.soak_seconds) * NS_PER_SECOND)
        hourly = rate_interval(totals.isolated_kills_per_hour, short)
        interval = f", 95 % interval {hourly}" if hourly else ""
        per_hour = f" ({short(totals.isolated_kills_per_hour.value)} an hour{interval})"
        kills = counted(isolated, "OOM kill") if isolated else "no OOM kill"
        return f"{kills}{because} in {soaked}{per_hour if isolated else ''}"
    bursts = counted(totals.bursts_run, "burst") if first else f"{totals.bursts_run:,}"
    if not isolated:
        return f"none of {bursts}{' was killed' + because if first else ''}"
    share = rate_interval(per_burst, percent)
    interval = f", 95 % interval {share} %" if share else ""
    killed = " was killed" if isolated == 1 else " were killed"
    return (
        f"{isolated:,} of {bursts}{killed + because if first else ''} "
        f"({percent(per_burst.value)} %{interval})"
    )


def _kills_differ(comparison: Comparison) -> Iterator[str]:
    """For each variant, its kills beside the baseline's."""
    base_label = comparison.labels[comparison.plan.baseline]
    for number, label in enumerate(comparison.labels):
        found = comparison.of(number, "oom_isolated")
        if found is None:
            continue
        differs = found.difference
        seeds = counted(differs.seeds, "seed")
        if differs.told:
            way = "fewer" if differs.mean < 0 else "more"
            agree = differs.lower if differs.mean < 0 else differs.higher
            yield (
                f"{label}: {short(abs(differs.mean))} {way} kills because of isolated pages a run "
                f"than {base_label} (95 % interval {_range(found, way)}; {way} in {agree} of "
                f"{seeds})."
            )
        elif differs.interval is None:
            yield (
                f"{label}: {_signed(differs.mean)} kills a run beside {base_label}, in {seeds}: "
                f"too few to tell a difference from chance."
            )
        elif found.baseline_mean == 0 and differs.lower == differs.higher == 0:
            yield _nobody(comparison, number, label, base_label)
        else:
            low, high = differs.interval
            yield (
                f"{label}: no difference to {base_label} in kills could be told with {seeds} "
                f"({_signed(differs.mean)} a run, 95 % interval {_signed(low)} to "
                f"{_signed(high)})."
            )


def _nobody(comparison: Comparison, number: int, label: str, base_label: str) -> str:
    """Nothing was seen on both sides: say how much may have been missed."""
    totals = comparison.totals[number]
    share = totals.isolated_kill_runs_share_max if totals is not None else None
    return (
        f"{label}: no kill, and none under {base_label}. Up to {percent(share or 0)} % of such "
        f"runs may have one all the same (95 % confidence)."
    )


def _range(found: FoundDifference, way: str) -> str:
    """An interval of so many fewer, or more: smaller end first."""
    low, high = found.difference.interval or (Fraction(), Fraction())
    ends = (-high, -low) if way == "fewer" else (low, high)
    return f"{short(ends[0])} to {short(ends[1])}"


def _signed(value: Fraction) -> str:
    text = short(value)
    return text if value <= 0 or text == "0" else f"+{text}"


# ---- how close, what it costs ----


def _closest(comparison: Comparison) -> Iterator[str]:
    """How near each came to the min watermark, in its worst moment."""
    parts = [
        f"{label} {beside(totals.margins_pages_min['min'], 'it')}"
        for label, totals in zip(comparison.labels, comparison.totals, strict=True)
        if totals is not None
    ]
    if parts:
        yield f"Closest to the min watermark in any run: {'; '.join(parts)}."


def _given_back(comparison: Comparison) -> Iterator[str]:
    """What each gave back to the host, beside the baseline."""
    number = comparison.plan.baseline
    totals = comparison.totals[number]
    base_label = comparison.labels[number]
    if totals is None or not any(one and one.punched_bytes for one in comparison.totals):
        return
    mean = Fraction(totals.punched_bytes, totals.runs)
    parts = [f"{base_label} gave back {mebibytes(mean)} a run"]
    for other, label in enumerate(comparison.labels):
        found = comparison.of(other, "punched_bytes")
        if found is None:
            continue
        parts.append(f"{label} {_less_or_more(found)}")
    yield f"{'; '.join(parts)}."


def _less_or_more(found: FoundDifference) -> str:
    differs = found.difference
    if found.baseline_mean + differs.mean == 0:
        return "nothing"
    amount = mebibytes(abs(differs.mean))
    way = "less" if differs.mean < 0 else "more"
    of_it = ""
    if found.baseline_mean:
        of_it = f" ({percent(float(abs(differs.mean) / found.baseline_mean))} %)"
    if differs.mean == 0:
        return "as much"
    if not differs.told:
        return f"{amount}{of_it} {way}, which may be chance"
    least, most = sorted(map(abs, differs.interval or (Fraction(), Fraction())))
    return f"{amount}{of_it} {way} (95 % interval {short(least / MIB)} to {mebibytes(most)})"


def _waited(comparison: Comparison) -> Iterator[str]:
    """The reporter's waits, where a policy waits, and those of requests that would kill."""
    for label, totals in zip(comparison.labels, comparison.totals, strict=True):
        if totals is not None and totals.reporter_waits:
            waits = short(Fraction(totals.reporter_waits, totals.runs))
            yield f"Under {label} reporting left a zone alone, waiting, {waits} times a run."
        if totals is not None and totals.oom_waits:
            waits = short(Fraction(totals.oom_waits, totals.runs))
            seconds = short(Fraction(totals.oom_waits_ns, totals.runs * NS_PER_SECOND))
            yield (
                f"Under {label} requests waited for a window to close instead of killing, {waits} "
                f"times a run, {seconds} s together."
            )


# ---- what cannot be said ----


def _caveats(comparison: Comparison) -> Iterator[str]:
    plan = comparison.plan
    if comparison.interrupted:
        done = sum(map(len, comparison.runs))
        planned = len(plan.variants) * len(plan.seeds)
        yield f"Interrupted: {done} of {counted(planned, 'run')} were made."
    pairs = min(map(len, comparison.runs))
    if pairs < SEEDS_TO_TELL_MIN:
        yield (
            f"{counted(pairs, 'seed')}: too few for any interval; at least {SEEDS_TO_TELL_MIN} "
            f"are needed to tell a difference from chance."
        )
    for label, totals in zip(comparison.labels, comparison.totals, strict=True):
        if totals is not None and totals.windows_lost:
            lost = counted(totals.windows_lost, "window")
            yield f"Under {label} events were lost: {lost} without a length."
    if not plan.virtual:
        yield (
            "Live runs with one seed draw the same numbers, but do not meet a window at the same "
            "moment: part of each difference is the machine's."
        )
