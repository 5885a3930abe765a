"""The tables of a scenario file as frozen pydantic models, one class per table and kind of load.

Here each key alone has its type, range and default (`docs/scenarios.md` lists them); what must
hold between keys is in `scenario_checks`. An attribute names its unit where the key of the file
does not, and the key is then its alias: `guest.memory` is `memory_bytes`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from pagesoak.base import scenario_values as values
from pagesoak.base.costs import Costs
from pagesoak.base.faults import KILL_GUEST, KILL_HOST, KILL_REPORTER
from pagesoak.base.units import (
    GIB,
    INT64_MAX,
    MIB,
    NS_PER_DAY,
    NS_PER_HOUR,
    NS_PER_MS,
    NS_PER_SECOND,
    PAGE_SIZE_BYTES,
)

GUEST_BYTES_MIN = 16 * MIB  # below, not even zone DMA is whole
GUEST_BYTES_MAX = 64 * GIB  # the largest guest pagesoak models
GUEST_BYTES_MULTIPLE = 4 * MIB  # a block of the highest order, 10
CPUS_MAX = 16  # a worker process each
NODES_MAX = 2  # of the zones, what the segment has room for
ORDER_MAX = 10  # the largest block of the modelled kernels
CAPACITY_MAX = 32  # PAGE_REPORTING_CAPACITY: entries of the kernel's scatterlist
WATERMARK_SCALE_FACTOR_MAX = 3000  # the sysctl's own upper end
SYSCTL_INT_MAX = (1 << 31) - 1  # sysctls of C type int
RATE_MAX = 1_000_000_000  # operations per second: one a nanosecond

SOAK_NS_MIN = NS_PER_MS  # shorter, nothing can happen
SOAK_NS_MAX = 3650 * NS_PER_DAY  # far above any soak, far below the 292 years of a 64-bit clock
PAUSE_NS_MAX = NS_PER_DAY  # think and hold: a longer pause is an idle guest
DELAY_NS_MAX = NS_PER_HOUR  # a reporter or a host that waits longer is as good as switched off
COST_NS_MAX = NS_PER_SECOND  # nothing that is modelled one by one takes as long
FAULT_NS_MIN = 10 * NS_PER_MS  # a recovery takes about as long
AUDIT_INTERVAL_NS_MIN = NS_PER_SECOND  # an audit holds the zone lock: each second or rarer

NAME_LENGTH_MAX = 64  # part of directory names
DESCRIPTION_LENGTH_MAX = 1000  # a paragraph

_COSTS = Costs()

Count = Annotated[int, Field(ge=0, le=INT64_MAX)]
Number = Annotated[int, Field(ge=-INT64_MAX, le=INT64_MAX)]
CpuNumber = Annotated[int, Field(ge=0, le=CPUS_MAX - 1)]
Percent = Annotated[int, Field(ge=0, le=100)]
Weight = Annotated[int, Field(ge=0, le=values.WEIGHT_MAX)]
SizeOfPages = Annotated[
    int, BeforeValidator(values.size(PAGE_SIZE_BYTES, GUEST_BYTES_MAX, PAGE_SIZE_BYTES))
]
PagesOrNone = Annotated[int, BeforeValidator(values.size(0, GUEST_BYTES_MAX, PAGE_SIZE_BYTES))]
Pause = Annotated[int, BeforeValidator(values.duration(0, PAUSE_NS_MAX))]
Delay = Annotated[int, BeforeValidator(values.duration(0, DELAY_NS_MAX))]
Cost = Annotated[int, BeforeValidator(values.duration(0, COST_NS_MAX))]


class Reading:
    """What validating one table needs, the file's folder, and what it leaves, the valid values."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.valid: dict[str, Any] = {}


def _path_reader(
    exists: Callable[[Path], bool], what: str
) -> Callable[[object, ValidationInfo], Path]:
    def read(value: object, info: ValidationInfo) -> Path:
        if not isinstance(value, str) or not value:
            raise ValueError("must be a path, in quotes")
        folder = info.context.folder if isinstance(info.context, Reading) else Path()
        path = (folder / value).absolute()
        if "\0" in value or not exists(path):
            raise ValueError(f"no such {what}: {value!r} ({path})")
        return path

    return read


ExistingFile = Annotated[Path | None, BeforeValidator(_path_reader(os.path.isfile, "file"))]
ExistingFolder = Annotated[Path | None, BeforeValidator(_path_reader(os.path.isdir, "folder"))]


class Table(BaseModel):
    """A table of the file: no unknown keys, no conversion of types, no change afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @field_validator("*", mode="after")
    @classmethod
    def _keep_valid(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(info.context, Reading) and info.field_name is not None:
            info.context.valid[cls.key_of(info.field_name)] = value
        return value

    @classmethod
    def key_of(cls, name: str) -> str:
        """The key in the file of the attribute `name`."""
        return cls.model_fields[name].alias or name

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Key to default value; None for a key that must be given or has none."""
        return {
            cls.key_of(name): field.get_default() if not field.is_required() else None
            for name, field in cls.model_fields.items()
        }

    def document(self) -> dict[str, Any]:
        """This table as its TOML values, without what is None."""
        return {
            self.key_of(name): value.document() if isinstance(value, Table) else toml
            for name, value in self
            if (toml := values.toml_value(name, value)) is not None
        }


class Guest(Table):
    """The guest: its memory (one of three starts), vCPUs, and the settings that shape its zones.

    `recording` starts it from the first exact snapshot in that recording's trace.
    """

    memory_bytes: (
        Annotated[
            int,
            BeforeValidator(values.size(GUEST_BYTES_MIN, GUEST_BYTES_MAX, GUEST_BYTES_MULTIPLE)),
        ]
        | None
    ) = Field(default=None, alias="memory")
    snapshot: ExistingFile = None
    recording: ExistingFolder = None
    cpus: Annotated[int, Field(ge=1, le=CPUS_MAX)] = 1
    kernel: Literal["6.1", "6.12"] = "6.1"
    compaction: bool = True
    oom_waits_for_report: bool = False
    nodes: Annotated[int, Field(ge=1, le=NODES_MAX)] = 1
    thp: Literal["never", "always"] = "never"
    hz: Literal[100, 250, 300, 1000] = 250
    touch: bool = True
    min_free_kbytes: Annotated[int, Field(ge=0, le=SYSCTL_INT_MAX)] | None = None
    watermark_scale_factor: Annotated[int, Field(ge=1, le=WATERMARK_SCALE_FACTOR_MAX)] = 10
    writeback_ns: Delay = Field(default=20 * NS_PER_MS, alias="writeback")
    watermark_boost_factor: Annotated[int, Field(ge=0, le=SYSCTL_INT_MAX)] = 15_000
    movable_bytes: Annotated[
        int, BeforeValidator(values.size(0, GUEST_BYTES_MAX, GUEST_BYTES_MULTIPLE))
    ] = Field(default=0, alias="movable")


class Reporting(Table):
    """Free page reporting; every n-th allocation of the scatterlist array fails (0: none)."""

    policy: Annotated[str, Field(min_length=1)] = "mainline"
    order: Annotated[int, Field(ge=0, le=ORDER_MAX)] = 9
    delay_ns: Delay = Field(default=2 * NS_PER_SECOND, alias="delay")
    capacity: Annotated[int, Field(ge=1, le=CAPACITY_MAX)] = CAPACITY_MAX
    list_allocation_fails_every: Count = 0
    factor_percent: Percent | None = Field(default=None, alias="factor")


class Host(Table):
    """The balloon host: time added to each report call; every n-th call fails (0: none)."""

    latency_per_call_ns: Delay = Field(default=0, alias="latency_per_call")
    latency_per_mib_ns: Delay = Field(default=0, alias="latency_per_mib")
    error_every_calls: Count = 0


class Virtual(Table):
    """What things take in a virtual run; `base.costs` says where the defaults come from."""

    operation_ns: Annotated[int, BeforeValidator(values.duration(1, COST_NS_MAX))] = Field(
        default=_COSTS.operation_ns, alias="operation"
    )
    page_touch_ns: Cost = Field(default=_COSTS.page_touch_ns, alias="page_touch")
    lock_ns: Cost = Field(default=_COSTS.lock_ns, alias="lock")
    lock_block_ns: Cost = Field(default=_COSTS.lock_block_ns, alias="lock_block")
    list_step_ns: Cost = Field(default=_COSTS.list_step_ns, alias="list_step")
    wake_up_ns: Cost = Field(default=_COSTS.wake_up_ns, alias="wake_up")
    host_range_ns: Cost = Field(default=_COSTS.host_range_ns, alias="host_range")
    host_mib_ns: Cost = Field(default=_COSTS.host_mib_ns, alias="host_mib")
    reclaim_page_ns: Cost = Field(default=_COSTS.reclaim_page_ns, alias="reclaim_page")


class Audit(Table):
    """How often the state of the allocator is audited while the soak runs."""

    interval_ns: Annotated[
        int, BeforeValidator(values.duration(AUDIT_INTERVAL_NS_MIN, NS_PER_DAY))
    ] = Field(default=NS_PER_SECOND, alias="interval")


class Limits(Table):
    """What the summary must keep to for the verdict `pass`; None is no limit."""

    oom_events_isolated_max: Count = 0
    oom_events_max: Count | None = None
    alloc_failures_isolated_max: Count = 0
    watermark_margin_min_pages: Number | None = None


class Faults(Table):
    """Faults that are made to happen, one of `kinds` every so often on average; None: none."""

    every_ns: Annotated[int, BeforeValidator(values.duration(FAULT_NS_MIN, NS_PER_DAY))] | None = (
        Field(default=None, alias="every")
    )
    kinds: Annotated[tuple[str, ...], BeforeValidator(values.fault_kinds)] = (
        KILL_GUEST,
        KILL_REPORTER,
        KILL_HOST,
    )
    stopped_for_ns: Pause = Field(default=NS_PER_SECOND, alias="stopped_for")
    slower_by_ns: Delay = Field(default=500 * NS_PER_MS, alias="slower_by")


class Replay(Table):
    """A recorded trace; `speed_ppm` is relative to its own clock, 0 is as fast as it goes."""

    kind: Literal["replay"]
    recording: ExistingFolder = None
    trace: ExistingFile = None
    speed_ppm: Annotated[int, BeforeValidator(values.replay_speed_ppm)] = Field(
        default=values.SPEED_RECORDED_PPM, alias="speed"
    )
    cpu: CpuNumber = 0


class Bursts(Table):
    """Over a hog that stays: think, take and touch a burst, hold it, give it back."""

    kind: Literal["bursts"]
    leave_free_bytes: SizeOfPages = Field(alias="leave_free")
    burst_bytes: SizeOfPages = Field(alias="burst")
    jitter_percent: Percent = Field(default=0, alias="jitter")
    think_ns: Pause = Field(alias="think")
    hold_ns: Pause = Field(alias="hold")
    order: Annotated[int, BeforeValidator(values.burst_order)] = 0
    cpu: CpuNumber = 0


class MigratetypeWeights(Table):
    """Shares of the requests of a steady load by migratetype."""

    unmovable: Weight = 0
    movable: Weight = 0
    reclaimable: Weight = 0


class Steady(Table):
    """A random mix of allocations and frees that keeps about `target_bytes` in use.

    `rate_per_second` counts operations, 0 is as fast as it goes. `cpus` is "all" or None; then
    `cpu` says where.
    """

    kind: Literal["steady"]
    target_bytes: SizeOfPages = Field(alias="target")
    rate_per_second: Annotated[int, Field(ge=0, le=RATE_MAX)] = Field(default=0, alias="rate")
    orders: Annotated[tuple[int, ...], BeforeValidator(values.order_weights)] = (
        *(90, 4, 3, 2, 0, 0, 0, 0, 0, 1, 0),
    )
    types: MigratetypeWeights = MigratetypeWeights(unmovable=15, movable=80, reclaimable=5)
    atomic_percent: Percent = 0
    cpu: CpuNumber = 0
    cpus: Literal["all"] | None = None


class Files(Table):
    """Reads and writes of files through the page cache; `rate_per_second` counts pages."""

    kind: Literal["files"]
    files_bytes: SizeOfPages = Field(alias="files")
    rate_per_second: Annotated[int, Field(ge=0, le=RATE_MAX)] = Field(default=0, alias="rate")
    write_percent: Percent = 0
    pattern: Literal["random", "sequential"] = "random"
    mlocked_bytes: PagesOrNone = Field(default=0, alias="mlocked")
    tmpfs_bytes: PagesOrNone = Field(default=0, alias="tmpfs")
    cpu: CpuNumber = 0


class Idle(Table):
    """Nothing: the guest only lives."""

    kind: Literal["idle"]


class Head(Table):
    """The keys above the first table."""

    name: Annotated[str, Field(pattern="^[a-z0-9-]+$", max_length=NAME_LENGTH_MAX)]
    description: Annotated[str, Field(max_length=DESCRIPTION_LENGTH_MAX)] = ""
    duration_ns: Annotated[int, BeforeValidator(values.duration(SOAK_NS_MIN, SOAK_NS_MAX))] = (
        Field(alias="duration")
    )
    seed: Count = 1


Load = Replay | Bursts | Steady | Files | Idle
LOADS: dict[str, type[Replay] | type[Bursts] | type[Steady] | type[Files] | type[Idle]] = {
    "replay": Replay,
    "bursts": Bursts,
    "steady": Steady,
    "files": Files,
    "idle": Idle,
}
TABLES: dict[str, type[Table]] = {
    "guest": Guest,
    "reporting": Reporting,
    "host": Host,
    "virtual": Virtual,
    "audit": Audit,
    "limits": Limits,
    "faults": Faults,
}
