"""The one random source of the core: integers only, the same on every machine and in both kinds of
run.

xoshiro128++ (Blackman and Vigna, 2018, public domain reference): four words of 32 bits, period
2**128 - 1. It is computed in 64-bit words with masks, so that plain Python gives the same numbers.
A think time is drawn from the exponential distribution with a fixed-point logarithm; no floating
point decides anything.
"""

from pagesoak.base.native import Words, inner

MASK32 = 0xFFFF_FFFF
STATE_WORDS = 4

LN2_FIXED = 2_977_044_472
"""ln 2 in units of 2**-32."""
LOG_BITS = 24
"""Fraction bits of the logarithm: finer than any clock it is used with."""

_SPLITMIX_STEP = 0x9E37_79B9_7F4A_7C15
_SPLITMIX_FIRST = 0xBF58_476D_1CE4_E5B9
_SPLITMIX_SECOND = 0x94D0_49BB_1331_11EB
_MASK64 = (1 << 64) - 1


def seed_words(seed: int, stream: int) -> tuple[int, int, int, int]:
    """The first state of stream number `stream` of a seed (splitmix64); never all zero."""
    state = (seed * 0x1000_0000_01B3 + stream) & _MASK64
    words = []
    for _ in range(2):
        state = (state + _SPLITMIX_STEP) & _MASK64
        mixed = ((state ^ (state >> 30)) * _SPLITMIX_FIRST) & _MASK64
        mixed = ((mixed ^ (mixed >> 27)) * _SPLITMIX_SECOND) & _MASK64
        mixed ^= mixed >> 31
        words += [mixed & MASK32, mixed >> 32]
    if not any(words):
        words[0] = 1
    return words[0], words[1], words[2], words[3]


@inner
def random_word(words: Words, at: int) -> int:
    """The next 32 random bits; the state is four 64-bit words from `at` on."""
    s0 = words[at]
    s1 = words[at + 1]
    s2 = words[at + 2]
    s3 = words[at + 3]
    total = (s0 + s3) & MASK32
    result = ((((total << 7) & MASK32) | (total >> 25)) + s0) & MASK32
    shifted = (s1 << 9) & MASK32
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= shifted
    s3 = ((s3 << 11) & MASK32) | (s3 >> 21)
    words[at] = s0
    words[at + 1] = s1
    words[at + 2] = s2
    words[at + 3] = s3
    return result


@inner
def random_below(words: Words, at: int, bound: int) -> int:
    """A number from 0 to bound - 1 (bound at most 2**31); the bias is below 2**-31 * bound."""
    return (random_word(words, at) * bound) >> 32


@inner
def exponential(words: Words, at: int, mean: int) -> int:
    """A whole number from the exponential distribution with this mean (at most 2**38: 4 minutes in
    ns).
    """
    value = random_word(words, at) | 1
    whole = 0
    while value < 1 << 31:
        value <<= 1
        whole += 1
    fraction = 0
    value >>= 1
    for _ in range(LOG_BITS):
        value = (value * value) >> 30
        fraction <<= 1
        if value >= 1 << 31:
            value >>= 1
            fraction |= 1
    minus_log2 = ((whole + 1) << LOG_BITS) - fraction
    minus_ln = (minus_log2 * (LN2_FIXED >> 8)) >> LOG_BITS
    return (mean >> 12) * minus_ln >> 12
