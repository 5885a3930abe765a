"""`pagesoak explain`: stories of events whose course is known, the reporter's states, and what is
said of a directory that is damaged, incomplete or hostile.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pagesoak.allocator import gfp
from pagesoak.base.errors import InputError
from pagesoak.base.recorder import FIELDS
from pagesoak.base.statistics import CAUSES
from pagesoak.cli.explain import ROWS_MAX, story, table
from pagesoak.engine.event_log import BYTES_MAX, EVENTS_LOST
from pagesoak.study import report_windows, run_events, run_failures
from pagesoak.study.explain import Explanation, document, explain_run
from pagesoak.study.gfp_names import gfp_name
from pagesoak.study.report_windows import ReporterTrack
from pagesoak.study.run_events import EventReader, RunEvent
from pagesoak.study.run_record import open_run
from tests.made_runs import (
    MS,
    REPORTER,
    SCENARIO,
    STARTED_NS,
    SUMMARY,
    VCPU,
    event,
    killed_burst,
    lines,
    request,
    window,
    write_run,
)


def explained(directory: Path, number: int | None = None) -> Explanation:
    return explain_run(open_run(str(directory), directory.parent), number)


def told(directory: Path, number: int | None = None) -> str:
    return "\n".join(story(explained(directory, number), None))


def said(directory: Path, **options: Any) -> dict[str, Any]:
    found = document(explained(directory, **options), listed=True)
    assert json.loads(json.dumps(found)) == found
    return found


# ---- the story ----


def test_the_story_of_a_killed_burst_has_its_course_with_times_and_pages(tmp_path: Path) -> None:
    found = said(write_run(tmp_path, killed_burst()))
    kinds = [step["kind"] for step in found["story"]["steps"]]
    assert kinds == [
        "notify", "pass-start", "isolated", "isolated", "report", "burst-begin", "stalled",
        "oom", "oom-kill", "burst-end", "answer", "drained",
    ]  # fmt: skip
    steps = dict(zip(kinds, found["story"]["steps"], strict=True))
    assert steps["report"]["seconds"] == 3.001
    assert steps["report"]["from_failure_seconds"] == -0.399
    assert steps["oom"]["failure"]
    assert "24,576 pages (96.0 MiB)" in steps["isolated"]["text"]
    assert "request 7" in steps["report"]["text"]
    assert "11,633 pages" in steps["oom-kill"]["text"]
    assert (
        "100.0 ms after the failure 25,600 pages (100.0 MiB) are back" in steps["drained"]["text"]
    )
    opened = found["story"]["window"]
    assert opened["pages_by_order"] == [
        {"order": 9, "pages": 1_024},
        {"order": 10, "pages": 24_576},
    ]
    assert (opened["window_seconds"], opened["returned_pages"], opened["complete"]) == (
        0.5, 25_600, True,
    )  # fmt: skip
    assert found["story"]["returned_after_seconds"] == 0.1


def test_the_record_of_a_failure_has_all_that_is_known(tmp_path: Path) -> None:
    found = said(write_run(tmp_path, killed_burst()))
    assert found["failures"] == [found["failure"]]
    assert found["failure"] == {
        "number": 1,
        "seconds": 3.4,
        "stalled_seconds": 3.3995,
        "worker": 0,
        "load": 1,
        "outcome": "killed",
        "victim_load": 1,
        "victim_pages": 11_633,
        "waited_for_report": False,
        "order": 0,
        "gfp": "GFP_HIGHUSER_MOVABLE",
        "free_pages": 1_137,
        "isolated_pages": 25_600,
        "margin_pages": 0,
        "cause": "isolated",
        "reporter_state": "window-open",
        "request": 7,
        "doing": "request 7 with the host, 25,600 pages isolated for 400.0 ms",
    }


def test_the_counterfactual_counts_what_other_zones_can_have_at_most(tmp_path: Path) -> None:
    # DMA refused, so it has at most 21 + 464 of the 1,137 pages: DMA32 has 652 at least.
    found = said(write_run(tmp_path, killed_burst()))
    assert found["story"]["counterfactual"] == {
        "zone": "DMA32",
        "pages_at_least": 652 + 25_600,
        "asked_pages": 678,
    }
    assert "26,252 > 678. Reporting is the cause." in found["story"]["conclusion"][0]


def test_no_number_is_put_into_a_counterfactual_that_a_boost_would_belie(tmp_path: Path) -> None:
    # 678 + 485 pages at most can be free where every zone refused without a boost.
    events = [
        one if one["kind"] != "oom" else one | {"free_pages": 1_164} for one in killed_burst()
    ]
    found = said(write_run(tmp_path, events))
    assert found["story"]["counterfactual"] is None
    assert "passes the slow path's test: reporting is the cause" in found["story"]["conclusion"][0]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cause": 1, "order": 3}, "no free block of order 3"),
        ({"cause": 2}, "would still get nothing"),
        ({"cause": 2, "isolated_pages": 0}, "reporting had no part in it"),
    ],
)
def test_another_cause_is_not_charged_to_reporting(
    tmp_path: Path, changed: dict[str, int], words: str
) -> None:
    events = [*window(3_000), request(3_400, "oom", **changed)]
    assert words in told(write_run(tmp_path, events))


def test_a_kill_without_a_reporting_device_tells_of_no_window(tmp_path: Path) -> None:
    burst = {"load": 1, "free_pages": 1_000, "isolated_pages": 0}
    events = [
        event(100, VCPU, "burst-begin", pages=25_600, **burst),
        request(200, "stalled", isolated_pages=0, cause=2),
        request(200, "oom", isolated_pages=0, cause=2),
        event(200, VCPU, "oom-kill", load=1, pages=9_000, badness=1, asking_load=1),
        event(210, VCPU, "burst-end", killed=1, **burst),
        event(300, VCPU, "burst-begin", pages=25_600, **burst),
    ]
    directory = write_run(tmp_path, events, summary=SUMMARY | {"policy": "off"})
    found = said(directory)
    assert [step["kind"] for step in found["story"]["steps"]] == [
        "burst-begin", "stalled", "oom", "oom-kill", "burst-end",
    ]  # fmt: skip
    assert found["story"]["window"] is None
    assert found["failure"]["doing"] == "nothing: there is no reporting device"


def test_a_window_that_never_closes_is_said_to_be_open(tmp_path: Path) -> None:
    events = [
        one for one in killed_burst() if one["kind"] not in {"answer", "drained", "pass-end"}
    ]
    text = told(write_run(tmp_path, events))
    assert "That the isolated pages came back is not on record." in text


def test_other_failures_of_the_same_window_are_counted(tmp_path: Path) -> None:
    events = [
        *killed_burst(),
        *(request(3_100 + n, "stalled", worker=5) for n in range(4)),
        *(request(3_450 + n, "allocation-failed", worker=5) for n in range(2)),
    ]
    directory = write_run(tmp_path, sorted(events, key=lambda one: one["monotonic_ns"]))
    assert "in this window 3 more requests failed or stalled before, 2 after" in told(directory)


def test_nothing_that_failed_is_said_with_how_close_it_came(tmp_path: Path) -> None:
    text = told(write_run(tmp_path, window(3_000)))
    assert "Nothing failed, and no request had to reclaim by itself." in text
    assert "1,137 pages (4.4 MiB) were free at least" in text
    assert "26 pages (0.1 MiB) below its min watermark of 678" in text
    assert "At most 25,600 pages (100.0 MiB) were isolated at once." in text


def test_a_window_opens_with_its_first_block_not_with_the_event_after_the_hold(
    tmp_path: Path,
) -> None:
    events = [
        one | {"window_ns": one["window_ns"] + 70_000} if one["kind"] == "answer" else one
        for one in killed_burst()
    ]
    opened = said(write_run(tmp_path, events))["story"]["window"]
    assert (opened["opened_seconds"], opened["window_seconds"]) == (2.99993, 0.50007)


# ---- which failure, and what became of a stall ----


def test_the_worst_is_a_kill_by_isolation_then_any_failure_then_the_deepest_stall(
    tmp_path: Path,
) -> None:
    stalls = [request(10, "stalled", margin_pages=5), request(20, "stalled", margin_pages=-7)]
    failed = request(30, "allocation-failed", cause=2, gfp=gfp.ATOMIC)
    kill = request(40, "oom", cause=0)
    for number, events in enumerate(([*stalls], [*stalls, failed], [*stalls, failed, kill])):
        directory = write_run(tmp_path, events, name=f"run{number}")
        chosen = said(directory)["failure"]
        assert chosen["seconds"] == (0.02, 0.03, 0.04)[number]
    assert said(directory, number=1)["failure"]["margin_pages"] == 5
    with pytest.raises(InputError, match=r"--failure: no failure 5: there are 4"):
        explained(directory, 5)


def test_a_stall_and_the_end_of_the_same_request_are_one_record(tmp_path: Path) -> None:
    events = [
        request(10, "stalled"),
        request(11, "stalled", worker=5),
        request(12, "oom"),
        request(13, "allocation-failed", worker=5, order=4),
    ]
    found = said(write_run(tmp_path, events))["failures"]
    assert [(one["seconds"], one["outcome"], one["stalled_seconds"]) for one in found] == [
        (0.011, "stalled", None),  # of order 0; the failure of order 4 is another request
        (0.012, "killed", 0.01),
        (0.013, "failed", None),
    ]


def test_a_request_that_waits_for_the_report_is_told_so(tmp_path: Path) -> None:
    waits = request(11, "oom-wait")
    waits = {key: waits[key] for key in waits if key not in {"margin_pages", "cause"}}
    directory = write_run(tmp_path, [request(10, "stalled"), waits, request(20, "stalled")])
    assert [one["waited_for_report"] for one in said(directory)["failures"]] == [True, False]
    assert "stalled, waited for the window" in "\n".join(table(explained(directory)))


def test_runs_from_before_stalls_had_a_cause_are_read(tmp_path: Path) -> None:
    old = request(10, "stalled")
    del old["cause"], old["margin_pages"]
    found = said(write_run(tmp_path, [old]))
    assert (found["failure"]["cause"], found["failure"]["margin_pages"]) == (None, None)
    assert found["failures_by_outcome"]["stalled"]["unknown"] == 1


def test_the_table_is_bounded_and_counts_the_rest(tmp_path: Path) -> None:
    events = [request(number, "allocation-failed") for number in range(ROWS_MAX + 3)]
    rows = list(table(explained(write_run(tmp_path, events))))
    assert rows[-1] == "and 3 more: `--all --json`"
    assert sum("GFP_HIGHUSER_MOVABLE" in row for row in rows) == ROWS_MAX


# ---- the reporter's states ----


def test_every_state_of_the_reporter_is_passed_through(tmp_path: Path) -> None:
    events = [
        event(0, REPORTER, "notify", pfn=-1, order=-1, state=0),
        *window(2_000),
        event(2_600, REPORTER, "pass-start", **{"pass": 4}),
        event(2_600, REPORTER, "waiting", zone=1, free_pages=9, floor_pages=99, retry_ns=2 * MS),
        event(2_601, REPORTER, "pass-end", state=0, calls=0, **{"pass": 4}),
        event(2_700, REPORTER, "events-lost", events=3),
    ]
    record = open_run(str(write_run(tmp_path, events)), tmp_path)
    track, seen = ReporterTrack(), ["unknown"]
    for one in EventReader(record):
        track.see(one)
        seen.append(track.state)
    assert [one for one, following in pairwise([*seen, ""]) if one != following] == [
        "unknown", "requested", "pass", "filling", "window-open", "draining", "pass", "idle",
        "pass", "waiting", "unknown",
    ]  # fmt: skip
    assert {*seen, ReporterTrack(has_device=False).state} == set(report_windows.STATES)


@pytest.mark.parametrize(
    ("at_ms", "words"),
    [
        (-5, "not on record"),
        (1_000, "a pass was asked for 950.0 ms before, due in 1.072 s"),
        (2_999.5, "pass 3 at work, no page isolated"),
        (3_000.5, "pass 3 filling its list, 25,600 pages isolated so far, for 500.0 us"),
        (3_400, "request 7 with the host, 25,600 pages isolated for 400.0 ms"),
        (3_499.5, "request 7 answered, 25,600 pages isolated for 499.5 ms, not back yet"),
        (3_600, "idle for 99.0 ms: no pass was asked for"),
        (
            4_500,
            "waiting: 9 pages free in zone DMA32, 99 must stay free (looks again after 2.0 s)",
        ),
    ],
)
def test_what_the_policy_was_doing_is_said_in_words(
    tmp_path: Path, at_ms: float, words: str
) -> None:
    events = [
        event(50, VCPU, "notify", pfn=512, order=9, state=0),
        *window(3_000),
        event(
            4_000, REPORTER, "waiting", zone=1, free_pages=9, floor_pages=99, retry_ns=2_000 * MS
        ),
        request(at_ms, "stalled"),
    ]
    directory = write_run(tmp_path, sorted(events, key=lambda one: one["monotonic_ns"]))
    found = said(directory)["failure"]["doing"]
    assert found.replace("2.000 s", "2.0 s") == words


def test_the_due_time_is_that_of_the_timer_wheel(tmp_path: Path) -> None:
    record = open_run(str(write_run(tmp_path)), tmp_path)
    assert record.pass_due_ns(STARTED_NS) == STARTED_NS + 2_008 * MS  # 500 ticks, by 8 of 4 ms


def test_a_pass_asked_for_during_a_pass_counts_from_its_end(tmp_path: Path) -> None:
    *first, last = window(3_000)
    events = [
        *first[:4],
        event(3_200, VCPU, "notify", pfn=512, order=9, state=2),
        *first[4:],
        last | {"state": 1},
        request(3_600, "stalled", isolated_pages=0),
    ]
    doing = said(write_run(tmp_path, events))["failure"]["doing"]
    assert doing.startswith("a pass was asked for 99.0 ms before")


# ---- what is missing, torn or hostile ----


def test_a_window_of_which_events_were_lost_is_incomplete_but_told(tmp_path: Path) -> None:
    lost = event(3_000, REPORTER, "events-lost", events=44)
    events = [one for one in killed_burst() if one["kind"] not in {"isolated", "pass-start"}]
    directory = write_run(tmp_path, [*events[:1], lost, *events[1:]])
    found = said(directory)
    assert found["windows_incomplete"] == 1
    assert found["story"]["window"]["request"] == 7
    assert found["story"]["window"]["complete"] is False
    assert any("44 events were lost" in note for note in found["notes"])
    assert "Some events of this window are not on record." in told(directory)


def test_only_the_end_of_a_window_gives_its_length_by_the_answer(tmp_path: Path) -> None:
    found = said(write_run(tmp_path, window(3_000)[4:]))
    (only,) = [found["windows_total"]]
    assert (only, found["windows_incomplete"]) == (1, 1)


def test_a_torn_last_line_is_noted_and_the_rest_is_told(tmp_path: Path) -> None:
    directory = write_run(tmp_path, killed_burst())
    with (directory / "events.jsonl").open("a") as out:
        out.write('{"monotonic_ns": 12, "wor')
    found = said(directory)
    assert found["failures_total"] == 1
    assert found["notes"] == [
        f"events.jsonl:{len(killed_burst()) + 1}: the last line is cut off: left out"
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("what is this", "not JSON"),
        ("[" * 100_000, "the line is longer than any event's"),
        ("[1]", "no object"),
        ('{"monotonic_ns": 1.5, "worker": 0, "kind": "oom"}', "no event"),
        ('{"monotonic_ns": 1, "worker": 0, "kind": "isolated", "zone": 1}', "no event: bad order"),
        (json.dumps(request(1, "oom", cause=9)), "no event: bad cause"),
        (json.dumps(request(1, "oom", free_pages=1 << 80)), "no event: bad free_pages"),
    ],
)
def test_a_damaged_line_is_named_with_its_place_and_left_out(
    tmp_path: Path, line: str, words: str
) -> None:
    directory = write_run(tmp_path, killed_burst())
    events = directory / "events.jsonl"
    events.write_text(lines(killed_burst()[:2]) + line + "\n" + lines(killed_burst()[2:]))
    found = said(directory)
    assert found["failures_total"] == 1
    assert found["notes"] == [f"events.jsonl:3: {words}: left out"]


def test_a_file_of_events_that_is_full_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write_run(tmp_path, killed_burst())
    assert said(directory)["notes"] == []
    monkeypatch.setattr(run_events, "FULL_BYTES", (directory / "events.jsonl").stat().st_size)
    assert said(directory)["notes"][0].startswith("events.jsonl is full")


def test_a_file_that_holds_no_event_at_all_is_refused(tmp_path: Path) -> None:
    directory = write_run(tmp_path)
    (directory / "events.jsonl").write_text("a\nb\nc\n")
    with pytest.raises(InputError, match=r"events.jsonl:1: holds no events"):
        explained(directory)


def test_a_run_without_a_summary_did_not_end_in_order_and_is_told(tmp_path: Path) -> None:
    found = said(write_run(tmp_path, killed_burst(), summary=None))
    assert found["verdict"] is None
    assert found["failure"]["seconds"] == pytest.approx(3.4 - 0.95)  # from the first event
    assert any("did not end in order" in note for note in found["notes"])


def test_a_damaged_summary_is_noted(tmp_path: Path) -> None:
    directory = write_run(tmp_path, killed_burst())
    (directory / "summary.json").write_text('{"verdict": ')
    assert said(directory)["notes"][0].startswith("summary.json: damaged: Expecting value: line 1")


def test_the_evidence_goes_on_where_the_written_events_end(tmp_path: Path) -> None:
    events = killed_burst()
    directory = write_run(tmp_path, events[:9])
    (directory / "evidence").mkdir()
    (directory / "evidence" / "events.jsonl").write_text(lines(events[3:]))
    record = open_run(str(directory), tmp_path)
    times = [(one.time_ns, one.kind) for one in EventReader(record)]
    assert times == [(one["monotonic_ns"], one["kind"]) for one in events]


def test_events_of_different_workers_are_put_into_the_order_of_their_times(tmp_path: Path) -> None:
    events = killed_burst()
    events[3], events[6] = events[6], events[3]
    found = [
        one.time_ns for one in EventReader(open_run(str(write_run(tmp_path, events)), tmp_path))
    ]
    assert found == sorted(found)


def test_names_from_files_are_shown_without_control_characters(tmp_path: Path) -> None:
    hostile = "\x1b[31mred\n$x_1$ " + "long" * 100
    directory = write_run(
        tmp_path,
        killed_burst(),
        summary=SUMMARY | {"scenario": hostile, "policy": hostile},
        scenario=SCENARIO | {"reporting": {"delay": hostile}},
    )
    text = told(directory)
    assert "\x1b" not in text
    assert "\\x1b[31mred\\n$x_1$" in text
    assert "long" * 30 not in text


# ---- which run ----


def test_a_run_is_found_by_directory_by_name_and_as_the_latest(tmp_path: Path) -> None:
    older = write_run(tmp_path, name="20260314T150926Z-b-mainline-1")
    newer = write_run(tmp_path, name="20260315T000000Z-a-mainline-1")
    assert open_run(str(older), tmp_path).directory == older
    assert open_run(older.name, tmp_path).directory == older
    assert open_run("latest", tmp_path).directory == newer


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("20260314T150926Z-made-mainlin-1", "did you mean '20260314T150926Z-made-mainline-1'"),
        ("zzz", "the newest is '20260314T150926Z-made-mainline-1'"),
        ("a\0b", "no such run"),
        ("n" * 300, "cannot be read: File name too long"),
        ("", "holds runs and is none; name one of them, as 20260314T150926Z-made-mainline-1"),
    ],
)
def test_a_run_that_is_not_there_is_one_message_with_a_way_on(
    tmp_path: Path, name: str, words: str
) -> None:
    write_run(tmp_path)
    with pytest.raises(InputError) as caught:
        open_run(name or str(tmp_path), tmp_path)
    assert words in str(caught.value)


def test_folders_and_files_that_are_no_run_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, words in (("file", "is no directory"), ("", "holds no run")):
        with pytest.raises(InputError, match=words):
            open_run(str(tmp_path / name), tmp_path / "none")
    with pytest.raises(InputError, match="no run is kept here yet"):
        open_run("latest", tmp_path / "none")


# ---- names that others define ----


def test_what_is_needed_of_an_event_is_what_workers_record() -> None:
    recorded = dict(FIELDS.values())
    for kind, names in run_events.NEEDED.items():
        assert kind in recorded or kind == EVENTS_LOST
        assert set(names) <= set(recorded.get(kind, names))
    assert run_failures.CAUSES == CAUSES
    assert 0 < BYTES_MAX - run_events.FULL_BYTES <= run_events.LINE_CHARS_MAX


@pytest.mark.parametrize(
    "name",
    [
        "GFP_HIGHUSER_MOVABLE", "GFP_KERNEL", "GFP_ATOMIC", "GFP_NOWAIT", "GFP_KERNEL_ACCOUNT",
        "GFP_KERNEL|__GFP_NORETRY", "GFP_TRANSHUGE_LIGHT|__GFP_NORETRY|__GFP_THISNODE",
    ],
)  # fmt: skip
def test_a_packed_mask_gets_its_name_back(name: str) -> None:
    assert sorted(gfp_name(gfp.parse_packed_gfp(name)).split("|")) == sorted(name.split("|"))


@pytest.mark.parametrize("number", [-1, 1 << 40])
def test_a_number_that_is_no_mask_is_shown_as_it_is(number: int) -> None:
    assert gfp_name(number) == hex(number)


def test_unknown_kinds_pass_without_effect() -> None:
    assert ReporterTrack().see(RunEvent(1, 2, "of the future", {})) is None
