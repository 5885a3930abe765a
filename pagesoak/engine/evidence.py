"""What is kept when a harness invariant is broken: enough to find out why, from the run's
directory alone.

The flight recorders of all workers, the whole segment (compressed: most of it is regular), the
first bytes of every page that a recorded violation names (its content word in a virtual run), and
the message.
"""

import gzip
import json
from pathlib import Path

from pagesoak.base.recorder import read_all_events
from pagesoak.base.segment import Segment
from pagesoak.base.units import PAGE_SIZE_BYTES
from pagesoak.host.ram import GuestRam, NoRam
from pagesoak.host.virtual_ram import VirtualRam

COMPRESSION_LEVEL = 1
"""Fast: the run is over and somebody waits."""
PAGE_EXCERPT_BYTES = 64
"""Of each page in question: the stamp and what follows it."""
PAGES_MAX = 256
"""Of pages in question; the flight recorder holds them all."""
CHUNK_BYTES = 1 << 24


def save_evidence(
    directory: Path, message: str, segment: Segment, ram: GuestRam | NoRam | VirtualRam
) -> Path:
    """Write the evidence below `directory`; its folder. OSError when it cannot be written."""
    folder = directory / "evidence"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "message.txt").write_text(message + "\n")
    events = read_all_events(segment)
    with (folder / "events.jsonl").open("w") as out:
        for event in events:
            line = {"monotonic_ns": event.time_ns, "worker": event.worker, "kind": event.name}
            out.write(json.dumps(line | event.fields) + "\n")
    with (
        gzip.open(folder / "segment.bin.gz", "wb", COMPRESSION_LEVEL) as out_segment,
        segment.file.view() as raw,
    ):
        for start in range(0, len(raw), CHUNK_BYTES):
            out_segment.write(raw[start : start + CHUNK_BYTES])
    if isinstance(ram, VirtualRam):
        pfns = sorted({event.fields["pfn"] for event in events if event.name == "violation"})
        with (folder / "pages.jsonl").open("w") as out:
            for pfn in pfns[:PAGES_MAX]:
                content = f"{segment.contents[pfn]:#x}" if pfn < len(segment.contents) else None
                out.write(json.dumps({"pfn": pfn, "content": content}) + "\n")
    if isinstance(ram, GuestRam):
        pfns = sorted({event.fields["pfn"] for event in events if event.name == "violation"})
        with (folder / "pages.jsonl").open("w") as out, ram.file.view() as memory:
            for pfn in pfns[:PAGES_MAX]:
                start = pfn * PAGE_SIZE_BYTES
                words = bytes(memory[start : start + PAGE_EXCERPT_BYTES]).hex(" ", 8)
                out.write(json.dumps({"pfn": pfn, "bytes": words}) + "\n")
    return folder
