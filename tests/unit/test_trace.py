"""Traces: every printed layout gives the same records; the fast way agrees with the thorough."""

import gzip
from itertools import islice
from pathlib import Path

import pytest

from pagesoak.allocator import trace_record as kinds
from pagesoak.allocator.gfp import parse_packed_gfp
from pagesoak.allocator.trace import parse_trace, read_trace
from pagesoak.allocator.trace_line import parse_line
from pagesoak.allocator.trace_record import TraceRecord
from pagesoak.base.errors import InputError
from pagesoak.base.textfile import TextFile

RECORDINGS = Path(__file__).parents[1] / "recordings"


def records(text: str) -> list[TraceRecord]:
    assert text.endswith("\n")
    return list(parse_trace(enumerate(text.split("\n")[:-1], 1), "trace.txt"))


def record(text: str) -> TraceRecord:
    (only,) = records(f"{text}\n")
    return only


USER = parse_packed_gfp("GFP_HIGHUSER_MOVABLE|__GFP_COMP")
MOVABLE = "migratetype=1 gfp_flags=GFP_HIGHUSER_MOVABLE|__GFP_COMP"
FIELDS = f"page=0000000011378dcf pfn=0x5ffc order=1 {MOVABLE}"


@pytest.mark.parametrize(
    "text",
    [
        f"           wl-131     [003] .....     6.386820: mm_page_alloc: {FIELDS}",
        f"           wl-131     [003]     6.386820: mm_page_alloc: {FIELDS}",
        f"           wl-131     (    131) [003] d..2.     6.386820: mm_page_alloc: {FIELDS}",
        f"        <...>-131     (-------) [003] .N..     6.386820: mm_page_alloc: {FIELDS}",
        f" kworker/u8:1-131     [003] d.h3.     6.386820: mm_page_alloc: {FIELDS}",
        f"    my-app [x]-131     [003] .....     6.386820: mm_page_alloc: {FIELDS}",
        f"  a [0] b: c-d-131     [003] .....     6.386820: mm_page_alloc: {FIELDS}",
        f"wl-131 [003] .....     6.386820: mm_page_alloc:        {FIELDS}",
        f"wl-131   [003]     6.386820: mm_page_alloc:        {FIELDS}",
        f"wl-131   [003]     6.386820000: mm_page_alloc:        {FIELDS}",
        f"wl   131 [003]     6.386820: kmem:mm_page_alloc: {FIELDS}",
        f"wl   131 [003]     6.386820000: kmem:mm_page_alloc: {FIELDS}",
        f"wl   131 [003]     6.386820:             kmem:mm_page_alloc: {FIELDS}",
        f"wl   130/131   [003]     6.386820: kmem:mm_page_alloc: {FIELDS}",
        f"           a b   131 [003]     6.386820: kmem:mm_page_alloc: {FIELDS}",
        (
            "wl-131 [003] 6.386820: mm_page_alloc: page=0x5ffc pfn=24572 order=1 migratetype=1"
            " gfp_flags=0x140cca"
        ),
        (
            "wl-131 [003] 6.386820: mm_page_alloc: [FAILED TO PARSE] pfn=0x5ffc order=1"
            " gfp_flags=1313994 migratetype=1"
        ),
    ],
)
def test_layouts_of_an_allocation(text: str) -> None:
    assert record(text) == TraceRecord(
        kinds.MM_PAGE_ALLOC, 6_386_820_000, 3, 1, 0x5FFC, 1, 1, USER
    )


HEAD = "  wl-131 [000] ..... 6.000001: "


@pytest.mark.parametrize(
    "fields",
    [
        "page=(nil) pfn=0x0",
        "page=(nil) pfn=0",
        "page=0000000000000000 pfn=0x0",
        "page=(____ptrval____) pfn=0",
    ],
)
def test_failed_allocation(fields: str) -> None:
    failed = record(f"{HEAD}mm_page_alloc: {fields} order=3 {MOVABLE}")
    assert failed == TraceRecord(kinds.MM_PAGE_ALLOC, 6_000_001_000, 0, 1, -1, 3, 1, USER)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mm_page_free: page=x pfn=0x10 order=4", {"kind": 1, "pfn": 16, "order": 4}),
        ("mm_page_free_batched: page=x pfn=0x10 order=0", {"kind": 2, "pfn": 16}),
        ("mm_page_free_batched: page=x pfn=16 order=0 cold=0", {"kind": 2, "pfn": 16}),
        ("mm_page_alloc_zone_locked: page=x pfn=0x10 order=1 migratetype=2 percpu_refill=1",
         {"kind": 3, "pfn": 16, "order": 1, "migratetype": 2, "value": 1}),
        ("mm_page_pcpu_drain: page=x pfn=0x10 order=9 migratetype=1",
         {"kind": 4, "pfn": 16, "order": 9, "migratetype": 1}),
        (("mm_page_alloc_extfrag: page=x pfn=0x400 alloc_order=1 fallback_order=10 "
         "pageblock_order=9 alloc_migratetype=2 fallback_migratetype=1 fragmenting=0"),
         {"kind": 5, "pfn": 0x400, "order": 1, "migratetype": 2, "value": 10,
          "text": "page=x pfn=0x400 alloc_order=1 fallback_order=10 pageblock_order=9 "
                  "alloc_migratetype=2 fallback_migratetype=1 fragmenting=0"}),
        ("process: (page_reporting_process+0x0/0x570)", {"kind": 6}),
        ("process: (ffffffff81234567)", {"kind": 6}),
        ("process_ret: (process_one_work+0x1c7/0x380 <- page_reporting_process)", {"kind": 7}),
        ("isolate: (__isolate_free_page+0x0/0x2b0) page=0xffd40000002b8000 order=9",
         {"kind": 8, "pfn": 0xAE00, "order": 9}),
        ("isolate: (__isolate_free_page+0x0/0x2b0) page=0xffffea00002b8000 order=9",
         {"kind": 8, "pfn": 0xAE00, "order": 9}),
        ("isolate_ret: (page_reporting_process+0x2a1/0x570 <- __isolate_free_page) ret=512",
         {"kind": 9, "value": 512}),
        ("putback: (__putback_isolated_page+0x0/0x50) page=0xffd4000000490000 order=10 mt=1",
         {"kind": 10, "pfn": 0x12400, "order": 10, "migratetype": 1}),
        ("notify: (__page_reporting_notify+0x0/0x50)", {"kind": 11}),
        ("report: (virtballoon_free_page_report+0x0/0x120 [virtio_balloon]) nents=14 len0=4194304",
         {"kind": 12, "value": 14}),
        ("report_ret: (page_reporting_process+0x237/0x570 <- x) ret=-5",
         {"kind": 13, "value": -5}),
        ("truth_capture: (truth_capture+0x0/0x330 [truthdev])", {"kind": 14}),
        ("tracing_mark_write: SNAP 0: begin ", {"kind": 15, "text": "SNAP 0: begin"}),
        ("print:                tracing_mark_write: SNAP 0: begin",
         {"kind": 15, "text": "SNAP 0: begin"}),
        ("tracing_mark_write:", {"kind": 15}),
        ("mm_compaction_begin: zone_start=0x1, mode=sync",
         {"kind": 17, "name": "mm_compaction_begin", "text": "zone_start=0x1, mode=sync"}),
        ("vmscan:mm_vmscan_kswapd_wake: nid=0 order=0",
         {"kind": 17, "name": "mm_vmscan_kswapd_wake", "text": "nid=0 order=0"}),
        ("pr:notify: (ffffffff81234567)", {"kind": 11}),
        # Probes of the same names that somebody else set, for something else.
        ("isolate: (somewhere+0x0/0x2b0) bus=3",
         {"kind": 17, "name": "isolate", "text": "(somewhere+0x0/0x2b0) bus=3"}),
        ("report: what=ever", {"kind": 17, "name": "report", "text": "what=ever"}),
    ],
)  # fmt: skip
def test_events(text: str, expected: dict[str, int | str]) -> None:
    assert record(HEAD + text) == TraceRecord(
        **{"time_ns": 6_000_001_000, "cpu": 0, "line": 1, **expected}
    )


FREE = "mm_page_free: page=x pfn=0x10 order=0\n"


def test_lines_without_events_are_skipped() -> None:
    text = (
        "# tracer: nop\n#\nversion = 6\ncpus=2\nCPU 1 is empty\n\n"
        f"##### CPU 1 buffer started ####\n{HEAD}{FREE}"
        f"{HEAD}<stack trace>\n => free_unref_page\n => __put_page\n"
        f"wl 131 [000] 6.000002: kmem:{FREE}"
        "    ffffffffbe23e32e free_unref_page+0x22e (/lib/modules/build/vmlinux)\n"
        "\t7efdf7f7d3e8 __poll+0x18 (/usr/lib64/libc-2.28.so)\n\n"
    )
    assert [(each.line, each.kind) for each in records(text)] == [(8, 1), (12, 1)]


@pytest.mark.parametrize(
    ("text", "cpu", "count", "time_ns"),
    [
        ("CPU:0 [LOST 123 EVENTS]", 0, 123, 6_000_001_000),
        ("CPU:7 [204600 EVENTS DROPPED]", 7, 204600, 0),
        ("CPU:0 [LOST EVENTS]", 0, -1, 6_000_001_000),
        ("CPU:0 [EVENTS DROPPED]", 0, -1, 6_000_001_000),
        ("swapper     0 [007]  6.000000: PERF_RECORD_LOST lost 12", 0, 12, 6_000_001_000),
        ("wl 1/2 [007] 6.000000001: unknown: PERF_RECORD_LOST lost 9", 7, 9, 0),
        ("PERF_RECORD_LOST_SAMPLES lost 5", 0, 5, 6_000_001_000),
    ],
)
def test_lost_events(text: str, cpu: int, count: int, time_ns: int) -> None:
    _, lost, _ = records(f"{HEAD}{FREE}{text}\n{HEAD}{FREE}")
    assert lost == TraceRecord(kinds.LOST, time_ns, cpu, 2, value=count)


ALLOC = f"mm_page_alloc: page=x pfn=0x10 order=0 {MOVABLE}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "not a line of a trace: 'nonsense'"),
        ("wl-131 [000] ..... 6.38: mm_page_free: pfn=0x1 order=0", "not a line of a trace"),
        ("wl-131 [000] ..... mm_page_free: pfn=0x1 order=0", "not a line of a trace"),
        ("wl [000] ..... 6.000001: mm_page_free: pfn=0x1 order=0", "not a line of a trace"),
        ("x" * 99 + "-1 [000] 6.000001: mm_page_free: pfn=0x1 order=0", "not a line of a trace"),
        ("x" * 70_000, "the line is too long for a trace event"),
        (HEAD + ALLOC.replace("USER", "LOSER"),
         "mm_page_alloc: unknown GFP flag 'GFP_HIGHLOSER_MOVABLE'"),
        (HEAD + ALLOC.split(" gfp", maxsplit=1)[0], "mm_page_alloc: no gfp_flags= on the line"),
        (HEAD + ALLOC.replace("type=1", "type=6"), "migratetype=6 is out of range (0 to 5)"),
        (HEAD + ALLOC.replace("migratetype=1 ", ""), "mm_page_alloc: no migratetype= on the line"),
        (HEAD + ALLOC.replace("order=0", "order=11"), "order=11 is out of range (0 to 10)"),
        (HEAD + ALLOC.replace("order=0", "order=-1"), "order=-1 is out of range (0 to 10)"),
        (HEAD + ALLOC.replace("order=0", "order=one"), "order='one' is not a number"),
        (HEAD + "mm_page_free: page=x order=0", "mm_page_free: no pfn= on the line"),
        (HEAD + "mm_page_free: page=x pfn=0x10", "mm_page_free: no order= on the line"),
        (HEAD + "mm_page_free: page=x pfn=0xfffffffffff order=0", "is out of range"),
        (HEAD + "mm_page_free: page=x pfn=5ffc order=0", "pfn='5ffc' is not a number"),
        (HEAD + "mm_page_pcpu_drain: page=x pfn=0x1 order=0", "no migratetype= on the line"),
        (HEAD + "mm_page_alloc_zone_locked: page=x pfn=0x1 order=0 migratetype=0",
         "no percpu_refill= on the line"),
        (HEAD + "isolate: page=0xffd4000000000001 order=0",
         "page=0xffd4000000000001 is not the address of a struct page"),
        (HEAD + "isolate: page=0x1000 order=0", "page=0x1000 is not the address"),
    ],
)  # fmt: skip
def test_malformed(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        records(f"{HEAD}{FREE}{text}\n{HEAD}{FREE}")
    assert str(caught.value).startswith("trace.txt:2: "), caught.value
    assert message in str(caught.value)


def test_time_goes_forward_on_each_cpu() -> None:
    other = HEAD.replace("[000]", "[001]").replace("6.000001", "5.000001")
    assert len(records(f"{HEAD}{FREE}{other}{FREE}{HEAD}{FREE}")) == 3
    earlier = HEAD.replace("6.000001", "6.000000")
    with pytest.raises(InputError, match=r"^trace.txt:3: time goes backwards on cpu 0$"):
        records(f"{HEAD}{FREE}{other}{FREE}{earlier}{FREE}")


def test_fewer_events_than_promised() -> None:
    heading = "# entries-in-buffer/entries-written: 2/7   #P:1\n"
    assert len(records(f"{heading}{HEAD}{FREE}{HEAD}{FREE}")) == 2
    with pytest.raises(InputError, match=r"^trace.txt:3: cut off: the heading promises 2 events"):
        records(f"{heading}{HEAD}{FREE}")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_cut_off_inside_a_line(tmp_path: Path, pack: type[bytes]) -> None:
    path = tmp_path / "trace.txt"
    whole = f"{HEAD}{ALLOC}\n".encode()
    path.write_bytes(pack(whole))
    assert len(list(read_trace(path))) == 1
    for cut in range(1, len(whole)):
        path.write_bytes(pack(whole + whole[:cut]))
        with pytest.raises(InputError, match=r"trace.txt:2: the line is cut off"):
            list(read_trace(path))


COUNTS = {
    "w1": {0: 21460, 1: 20981, 2: 20849, 3: 19856, 4: 19809, 5: 3, 8: 97, 10: 97, 11: 30, 14: 7},
    "bal_idle": {6: 2, 7: 2, 8: 97, 9: 97, 10: 97, 12: 4, 13: 4, 14: 2, 15: 1},
    "realballoon/asis_s1": {6: 19, 8: 409, 10: 409, 11: 1553, 12: 17, 13: 17, 14: 2, 15: 99},
}


@pytest.mark.parametrize("run", COUNTS)
def test_recordings(run: str) -> None:
    found: dict[int, int] = {}
    for each in read_trace(RECORDINGS / run / "trace.txt.gz"):
        found[each.kind] = found.get(each.kind, 0) + 1
    assert COUNTS[run].items() <= found.items()


def test_fast_and_thorough_ways_agree() -> None:
    path = RECORDINGS / "w2thp/trace.txt.gz"
    lines = list(islice(TextFile(path), 12, None, 23))
    assert len(lines) > 8000
    fast = list(parse_trace(lines, "trace.txt"))
    assert fast == [parse_line(text, number, "trace.txt") for number, text in lines]


def test_isolated_pages_are_put_back() -> None:
    isolated = set()
    for each in read_trace(RECORDINGS / "w2/trace.txt.gz"):
        if each.kind == kinds.ISOLATE:
            isolated.add((each.pfn, each.order))
        elif each.kind == kinds.PUTBACK:
            isolated.remove((each.pfn, each.order))
    assert isolated == set()
