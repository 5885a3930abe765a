"""How a worker writes its figures (`base.statistics`), in compiled code, with plain stores."""

from pagesoak.base.core import Core, open_core
from pagesoak.base.external import fence, load_acquire, store_release
from pagesoak.base.layout import (
    HISTOGRAM_WORDS,
    STATISTICS_WORDS,
    W_COUNTERS,
    W_HISTOGRAMS,
    W_PUBLISHED,
    W_PUBLISHED_SEQUENCE,
    WORKER_WORDS,
)
from pagesoak.base.layout_virtual import H_VIRTUAL
from pagesoak.base.native import entry, inner, leaf
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import (
    BUCKETS,
    HISTOGRAM_BUCKETS,
    HISTOGRAM_COUNT,
    HISTOGRAM_MAX,
    HISTOGRAM_SUM,
    PARTS_PER_OCTAVE,
)


@leaf
def count(core: Core, worker: int, counter: int, amount: int) -> None:
    """Add to a counter of the worker that calls."""
    core.workers[worker * WORKER_WORDS + W_COUNTERS + counter] += amount


@inner
def bucket_of(value: int) -> int:
    """The bucket of a value >= 0: values below 8 each have their own, then eight to the octave."""
    if value < PARTS_PER_OCTAVE:
        return value
    octave = 3
    rest = value >> 4
    while rest > 0:
        rest >>= 1
        octave += 1
    bucket = (octave - 2) * 8 + ((value >> (octave - 3)) & 7)
    return min(bucket, BUCKETS - 1)


@inner
def observe(core: Core, worker: int, histogram: int, value: int) -> None:
    """Put a value (ns, or any whole number >= 0) into a histogram of the worker that calls."""
    words = core.workers
    at = worker * WORKER_WORDS + W_HISTOGRAMS + histogram * HISTOGRAM_WORDS
    words[at + HISTOGRAM_COUNT] += 1
    words[at + HISTOGRAM_SUM] += value
    words[at + HISTOGRAM_MAX] = max(words[at + HISTOGRAM_MAX], value)
    words[at + HISTOGRAM_BUCKETS + bucket_of(value)] += 1


@inner
def publish(core: Core, worker: int) -> None:
    """Let others see the worker's figures as they are now; in a virtual run who wants to look asks
    for that (`publish_all`).
    """
    if core.header[H_VIRTUAL] == 0:
        copy_to_published(core, worker)


@inner
def copy_to_published(core: Core, worker: int) -> None:
    """Publish, whoever may look."""
    words = core.workers
    at = worker * WORKER_WORDS
    sequence = words[at + W_PUBLISHED_SEQUENCE]
    store_release(words, at + W_PUBLISHED_SEQUENCE, sequence + 1)
    fence()
    for word in range(STATISTICS_WORDS):
        words[at + W_PUBLISHED + word] = words[at + W_COUNTERS + word]
    fence()
    store_release(words, at + W_PUBLISHED_SEQUENCE, sequence + 2)


@entry
def publish_statistics(base: int, worker: int) -> int:
    """Publish the figures of a worker that has changed them; returns the new sequence number."""
    core = open_core(base)
    copy_to_published(core, worker)
    return load_acquire(core.workers, worker * WORKER_WORDS + W_PUBLISHED_SEQUENCE)


def publish_all(segment: Segment) -> None:
    """Publish the figures of all workers, none of which may be at work meanwhile."""
    for worker in range(segment.plan.workers):
        publish_statistics(segment.base, worker)


@entry
def count_statistic(base: int, worker: int, counter: int, amount: int) -> int:
    """Add to a counter from Python; returns its new value."""
    core = open_core(base)
    count(core, worker, counter, amount)
    return core.workers[worker * WORKER_WORDS + W_COUNTERS + counter]


@entry
def observe_statistic(base: int, worker: int, histogram: int, value: int) -> int:
    """Put a value into a histogram from Python; returns the bucket it went to."""
    observe(open_core(base), worker, histogram, value)
    return bucket_of(value)
