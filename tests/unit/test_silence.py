"""Whose silence counts, and from when on."""

from pagesoak.base import layout
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.engine.silence import AWAY_SECONDS, Silence
from tests.hostguest import make_segment

GUEST, REPORTER, HOST = 0, 1, 2


def _looked(*seconds: float) -> Silence:
    """Nobody has beaten since second 1; the runner has looked then."""
    segment = make_segment()
    for worker in (GUEST, REPORTER, HOST):
        segment.workers[worker * layout.WORKER_WORDS + layout.W_HEARTBEAT_NS] = NS_PER_SECOND
    silence = Silence(segment)
    for moment in seconds:
        silence.look(int(moment * NS_PER_SECOND))
    return silence


def _seconds(silence: Silence, now: float) -> list[float]:
    return [
        silence.seconds(worker, int(now * NS_PER_SECOND)) for worker in (GUEST, REPORTER, HOST)
    ]


def test_who_does_not_beat_is_silent() -> None:
    assert _seconds(_looked(1.0, 1.1, 2.0), 2.0) == [1.0, 1.0, 1.0]


def test_while_the_runner_was_away_nobody_is() -> None:
    back = 2.0 + 2 * AWAY_SECONDS
    assert _seconds(_looked(1.0, 2.0, back), back + 0.5) == [0.5, 0.5, 0.5]


def test_while_the_guest_is_made_to_stand_still_a_host_that_hangs_is_silent() -> None:
    silence = _looked(1.0)
    silence.guest_counts_from(60 * NS_PER_SECOND)
    assert _seconds(silence, 21.0) == [0.0, 0.0, 20.0]
    silence.guest_counts_from(30 * NS_PER_SECOND)
    assert _seconds(silence, 61.0) == [1.0, 1.0, 60.0]
