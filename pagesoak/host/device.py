"""The model of the balloon device: what a call costs beyond the punching, and what it answers.

Hosts differ in everything around the discard: the kick, the wake-up of the device's thread, an
IOMMU to unmap from, the big lock of the machine's main loop. That is a time per call and a time
per MiB reported, on top of what punching really takes on this machine.

A device may also fail a call. Such a call fails as a whole, before anything of it is punched,
with EIO: the guest puts its blocks back without the Reported flag, and their contents are still
there. It takes the time of a call, and none for memory, as none was discarded.

Figures for real hosts: docs/model.md, "Latency model". QEMU and Firecracker never fail a call;
the guest driver passes an error on from adding the buffer (Linux 6.1
`drivers/virtio/virtio_balloon.c`).
"""

import errno
from dataclasses import dataclass
from typing import NamedTuple

from pagesoak.base.units import MIB, PAGE_SIZE_BYTES

DEVICE_ERROR = errno.EIO
"""What a call answers that the device fails."""


@dataclass(frozen=True, slots=True)
class HostModel:
    """Extra nanoseconds for each call and each MiB reported; every n-th call fails (0: none)."""

    latency_per_call_ns: int = 0
    latency_per_mib_ns: int = 0
    error_every_calls: int = 0


class Service(NamedTuple):
    """What becomes of one call: how much longer it takes, and 0 or the errno it answers."""

    latency_ns: int
    error: int


def service(model: HostModel, call: int, pages: int) -> Service:
    """The service of call number `call` (from 1) that reports `pages` pages."""
    if model.error_every_calls and call % model.error_every_calls == 0:
        return Service(model.latency_per_call_ns, DEVICE_ERROR)
    memory_ns = model.latency_per_mib_ns * pages * PAGE_SIZE_BYTES // MIB
    return Service(model.latency_per_call_ns + memory_ns, 0)
