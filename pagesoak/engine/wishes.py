"""What a user wishes of workers that run: one shared page, written by the runner, read by all.

It is made before the fork and is no part of the guest's segment, because it outlives that: a
worker that is forked later reads the same wishes. Each wish is a word, written whole; the number
of the last change is written after them. The text of a policy lies behind the words, and is good
if that number is the same after reading it as before. A worker looks between two of its wants, so
never inside a lock.
"""

import mmap

from pagesoak.engine.settings import TEXT_CHARS_MAX, Change

WORD_BYTES = 8
GENERATION = 0
"""Number of the last change, 0 before the first."""
PAUSED = 1
NUMBERS_FIRST = 2
"""A word for each number of a change, in their order."""
NUMBERS = (
    "factor_percent",
    "delay_ns",
    "latency_per_call_ns",
    "latency_per_mib_ns",
    "pace_ppm",
)
POLICY_BYTES = NUMBERS_FIRST + len(NUMBERS)
"""Length of the policy's text, 0: as the scenario says."""
WORDS = 16
UNSET = -2
"""Of a number that nobody has set."""
TEXT_AT = WORDS * WORD_BYTES
UTF8_BYTES_MAX = 4
SIZE_BYTES = TEXT_AT + TEXT_CHARS_MAX * UTF8_BYTES_MAX


class Wishes:
    """The page; nothing is wished at first."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, SIZE_BYTES)
        self._words = memoryview(self._map)[:TEXT_AT].cast("q")
        for number in range(len(NUMBERS)):
            self._words[NUMBERS_FIRST + number] = UNSET

    @property
    def generation(self) -> int:
        """Number of the last change that is there whole."""
        return self._words[GENERATION] // 2  # odd while one is being written

    @property
    def paused(self) -> bool:
        """Whether guests and reporter are to stand still."""
        return self._words[PAUSED] != 0

    def pause(self, *, paused: bool) -> None:
        """Let guests and reporter stand still, or go on."""
        self._words[PAUSED] = int(paused)

    def write(self, change: Change) -> None:
        """Wish what a change says, all of it; what it leaves open is the scenario's."""
        self._words[GENERATION] += 1
        for number, name in enumerate(NUMBERS):
            value = getattr(change, name)
            self._words[NUMBERS_FIRST + number] = UNSET if value is None else value
        text = (change.policy or "").encode()
        self._map[TEXT_AT : TEXT_AT + len(text)] = text
        self._words[POLICY_BYTES] = len(text)
        self._words[GENERATION] += 1

    def read(self) -> tuple[int, Change]:
        """What is wished now, and its number."""
        while True:
            before = self._words[GENERATION]
            change = self._read()
            if before % 2 == 0 and self._words[GENERATION] == before:
                return before // 2, change

    def _read(self) -> Change:
        words = (self._words[NUMBERS_FIRST + number] for number in range(len(NUMBERS)))
        numbers = {
            name: None if word == UNSET else word
            for name, word in zip(NUMBERS, words, strict=True)
        }
        length = min(self._words[POLICY_BYTES], SIZE_BYTES - TEXT_AT)
        text = self._map[TEXT_AT : TEXT_AT + length].decode("utf-8", "replace")
        return Change(policy=text or None, **numbers)

    def close(self) -> None:
        """Give the page back."""
        self._words.release()
        self._map.close()
