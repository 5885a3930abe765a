"""The bytes of guest RAM through its file: for who looks at pages without taking memory for them.

Reading a hole through a mapping makes a page there; reading it from the file does not.
"""

import os


class RamFile:
    """Guest RAM by its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, first_byte: int, length_bytes: int) -> bytes:
        """What is there; zeros for a hole."""
        return os.pread(self._descriptor, length_bytes, first_byte)

    def write(self, first_byte: int, contents: bytes) -> None:
        """Put something there."""
        os.pwrite(self._descriptor, contents, first_byte)
