from __future__ import annotations

import base64
import io
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jetpare.events import recorder
from jetpare.events.decode import Event, EventDecoder, clean, parse_time
from jetpare.events.figures import CacheState, StageTiming, cache_state, critical_path, failure, summary
from jetpare.events.recorder import LogLine, Recorder, StageLog
from jetpare.events.step_names import StepKind, parse_name
from jetpare.events.steps import Interval, Timeline, merge, union_seconds, work_seconds

# Recorded with buildx 0.13.1 and Docker 26.1.5, which print indented objects; some are written a line each, as newer
# buildx does. 'pull' came from a registry, 'killed' had its process killed from outside, 'interrupted' got a SIGTERM.
EVENTS = Path(__file__).parent.parent / "data" / "events"


def decoded(data: bytes, size: int = 1 << 20) -> tuple[list[Event], list[str]]:
    decoder = EventDecoder()
    events: list[Event] = []
    for start in range(0, len(data), size):
        events += decoder.feed(data[start : start + size])
    return events + decoder.close(), decoder.text


def replay(name: str) -> tuple[Timeline, list[str]]:
    events, text = decoded((EVENTS / f"{name}.jsonl").read_bytes())
    return recorded(events), text


def recorded(events: list[Event]) -> Timeline:
    recorder = Recorder()
    for event in events:
        recorder.add(event)
    recorder.close()
    return recorder.timeline()


def at(seconds: float) -> str:
    return f"2026-01-01T00:00:{seconds:012.9f}Z"


def vertex(digest: str, name: str, start: float | None = None, end: float | None = None, **more: Any) -> Event:
    data: dict[str, Any] = {"digest": digest, "name": name} | more
    if start is not None:
        data["started"] = at(start)
    if end is not None:
        data["completed"] = at(end)
    return {"vertexes": [data]}


def log(digest: str, data: bytes, seconds: float, stream: int = 1) -> Event:
    encoded = base64.b64encode(data).decode()
    return {"logs": [{"vertex": digest, "stream": stream, "data": encoded, "timestamp": at(seconds)}]}


# --- decoding


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize("name", ["single-cold", "parallel-cold", "failing-parallel"])  # indented, and a line each
def test_chunks_of_any_size_give_the_same_events(name: str, size: int) -> None:
    data = (EVENTS / f"{name}.jsonl").read_bytes()
    assert decoded(data, size) == decoded(data)
    assert len(decoded(data)[0]) > 30


def test_both_shapes_give_the_same_events() -> None:
    events, text = decoded((EVENTS / "single-cold.jsonl").read_bytes())
    lines = "\n".join(json.dumps(event) for event in events).encode()
    assert decoded(lines) == (events, text)
    assert text == []


def test_objects_need_no_line_of_their_own() -> None:
    events, text = decoded(b'{"a": "}{"}{"b":1} {\n"c": [\n{"d": "\\"{"}]\n}\n')
    assert events == [{"a": "}{"}, {"b": 1}, {"c": [{"d": '"{'}]}]
    assert text == []


def test_text_is_kept_apart() -> None:
    data = b'WARNING: one\n{"a": 1}\n\x1b[31mERROR: two\x1b[0m\n\n{not json}\n{"b": 2}\nlast \xff'
    events, text = decoded(data)
    assert events == [{"a": 1}, {"b": 2}]
    assert text == ["WARNING: one", "ERROR: two", "{not json}", "last \ufffd"]


def test_an_object_cut_off_becomes_text_and_does_not_hide_what_follows() -> None:
    events, text = decoded(b'{\n  "a": [\nERROR: killed\n{"b": 2}\n{"c": ')
    assert events == [{"b": 2}]
    assert text == ["{", '  "a": [', "ERROR: killed", '{"c": ']


def test_decoding_is_linear() -> None:
    """One object as large as a stream, in 2,500 pieces: a decoder that rescans what it holds would take minutes."""
    big = json.dumps({"logs": [{"data": "A" * 10_000_000}]}).encode() + b"\n"
    many = (json.dumps({"logs": [{"data": "A" * 1000}]}, indent=2).encode() + b"\n") * 9_000
    for data in (big, many):
        start = time.monotonic()
        events, _ = decoded(data, 4096)
        assert time.monotonic() - start < 10
        assert events


def test_a_last_line_without_a_line_feed_is_in_the_tail_though_a_view_has_looked_before() -> None:
    recorder = Recorder()
    recorder.add(vertex("a", "[gdal 1/1] RUN x", 0))
    recorder.add(log("a", b"cc1plus: Killed", 1))
    assert recorder.timeline().steps[0].tail == ()
    recorder.close()
    assert recorder.timeline().steps[0].tail == ("cc1plus: Killed",)


def test_recording_is_linear_in_a_line_that_never_ends() -> None:
    recorder = Recorder()
    recorder.add(vertex("a", "[gdal 1/1] RUN x", 0))
    start = time.monotonic()
    for _ in range(5000):
        recorder.add(log("a", b"." * 4096, 1))
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("2026-11-22T14:40:36.297810206Z", 1795358436.2978102),
        ("2026-11-22T15:40:36.297810206+01:00", 1795358436.2978102),
        ("2026-11-22T09:10:36-05:30", 1795358436.0),
        ("0001-01-01T00:00:00Z", None),
        ("2026-13-01T00:00:00Z", None),
        ("", None),
        ("yesterday", None),
        (None, None),
        (3, None),
    ],
)
def test_time(text: object, seconds: float | None) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain\ttab", "plain\ttab"),
        ("\x1b[31m[red]\x1b[0m", "[red]"),
        ("10%\r50%\r100%", "100%"),
        ("100%\r", "100%"),
        ("\x1b]0;title\x07a\x1b(Bb\x00\x08c\x9bd", "abcd"),
        ("a\u202eb", "ab"),
        ("grün ✓", "grün ✓"),
    ],
)
def test_clean(line: str, shown: str) -> None:
    assert clean(line) == shown


# --- names


@pytest.mark.parametrize(
    ("name", "target", "stage", "number", "kind", "bare"),
    [
        ("[gdal 3/5] RUN make", None, "gdal", 3, StepKind.STAGE, "[gdal 3/5] RUN make"),
        ("[gdal  3/12] RUN make", None, "gdal", 3, StepKind.STAGE, "[gdal 3/12] RUN make"),
        ("[cuda-gdal gdal 3/5] RUN make", "cuda-gdal", "gdal", 3, StepKind.STAGE, "[gdal 3/5] RUN make"),
        ("[gdal gdal 3/5] RUN make", "gdal", "gdal", 3, StepKind.STAGE, "[gdal 3/5] RUN make"),
        ("[linux/arm64 gdal 3/5] RUN x", None, "gdal", 3, StepKind.STAGE, "[linux/arm64 gdal 3/5] RUN x"),
        ("[cuda linux/arm64 gdal 3/5] RUN x", "cuda", "gdal", 3, StepKind.STAGE, "[linux/arm64 gdal 3/5] RUN x"),
        ("[2/3] RUN x", None, None, 2, StepKind.STAGE, "[2/3] RUN x"),
        ("[gdal 1/5] FROM nvcr.io/x@sha256:1", None, "gdal", 1, StepKind.PULL, "[gdal 1/5] FROM nvcr.io/x@sha256:1"),
        ("[context base] nvcr.io/x:1", None, None, None, StepKind.PULL, "[context base] nvcr.io/x:1"),
        (
            "[cuda context base] load metadata for x",
            "cuda",
            None,
            None,
            StepKind.PULL,
            "[context base] load metadata for x",
        ),
        ("[cuda context src] load from client", "cuda", None, None, StepKind.CONTEXT, "[context src] load from client"),
        ("[cuda internal] load build context", "cuda", None, None, StepKind.CONTEXT, "[internal] load build context"),
        ("[internal] load .dockerignore", None, None, None, StepKind.INTERNAL, "[internal] load .dockerignore"),
        ("[internal] load metadata for x", None, None, None, StepKind.PULL, "[internal] load metadata for x"),
        (
            "[auth] nvidia/x:pull token for nvcr.io",
            None,
            None,
            None,
            StepKind.PULL,
            "[auth] nvidia/x:pull token for nvcr.io",
        ),
        ("[cuda-runtime] exporting to image", "cuda-runtime", None, None, StepKind.EXPORT, "exporting to image"),
        ("exporting to client directory", None, None, None, StepKind.EXPORT, "exporting to client directory"),
        ("https://example.org/gdal.tar.gz", None, None, None, StepKind.PULL, "https://example.org/gdal.tar.gz"),
        ("", None, None, None, StepKind.INTERNAL, ""),
    ],
)
def test_names(name: str, target: str | None, stage: str | None, number: int | None, kind: StepKind, bare: str) -> None:
    place = parse_name(name)
    assert (place.target, place.stage, place.number, place.kind, place.name) == (target, stage, number, kind, bare)


# --- figures by hand


def test_merge() -> None:
    given = [Interval(start=5, end=6), Interval(start=0, end=2), Interval(start=1, end=3), Interval(start=3, end=4)]
    assert merge(given) == (Interval(start=0, end=4), Interval(start=5, end=6))


def test_union_is_not_sum_and_gaps_do_not_count() -> None:
    """Step 1 looks up for 1 s, waits, runs 10-14; step 2 runs 12-15 beside it: 6 s, 8 s of work, 15.5 s of wall."""
    found = recorded(
        [
            vertex("i", "[internal] load local bake definitions", 0, 0),
            vertex("a", "[gdal 1/2] RUN a", 1, 2),
            vertex("a", "[gdal 1/2] RUN a", 10),
            vertex("b", "[gdal 2/2] RUN b", 12),
            vertex("a", "[gdal 1/2] RUN a", 10, 14),
            vertex("b", "[gdal 2/2] RUN b", 12, 15),
            vertex("x", "exporting to image", 15, 15.5),
        ]
    )
    timing = summary(found, stage="gdal", target="cuda-gdal")
    assert timing.seconds == pytest.approx(6, abs=1e-6)
    assert timing.work == pytest.approx(8, abs=1e-6)
    assert timing.export_seconds == pytest.approx(0.5, abs=1e-6)
    assert (timing.steps, timing.cached, timing.ran) == (2, 0, 2)
    assert timing.started == parse_time(at(1))
    assert len(found.steps[1].intervals) == 2


def test_overlapping_intervals_of_one_vertex_count_once() -> None:
    name = "[context base] load metadata for x"
    found = recorded([vertex("m", name, 0), vertex("m", name, 1), vertex("m", name, 0, 3), vertex("m", name, 1, 4)])
    assert summary(found, stage="gdal", target="t").pull_seconds == pytest.approx(4, abs=1e-6)


def test_a_step_of_two_targets_is_counted_once_and_as_run() -> None:
    """The second target's clock is 0.5 s off, and a third finds in the cache what the first ran."""
    found = recorded(
        [
            vertex("a", "[cuda-gdal gdal 1/1] RUN a", 1, 4),
            vertex("a", "[cuda-runtime gdal 1/1] RUN a", 1.5, 4.5),
            vertex("a", "[cuda-python gdal 1/1] RUN a", 5, 5, cached=True),
        ]
    )
    for target in ("cuda-gdal", "cuda-runtime", "cuda-python"):
        timing = summary(found, stage="gdal", target=target)
        assert timing.seconds == pytest.approx(3, abs=1e-6)
        assert (timing.steps, timing.cached, timing.ran) == (1, 0, 1)
    assert summary(found, stage="gdal", target="jetpack-gdal").steps == 0


def test_the_report_target_counts_for_its_target() -> None:
    found = recorded(
        [vertex("a", "[cuda-gdal-report gdal 1/1] RUN a", 1, 4), vertex("b", "[other gdal 1/1] RUN a", 1, 4)]
    )
    assert summary(found, stage="gdal", target="cuda-gdal").steps == 1


def test_what_was_over_before_the_call_took_none_of_its_time() -> None:
    """An engine that another call keeps busy tells what it did for that one, too."""
    found = recorded(
        [
            vertex("i", "[internal] load local bake definitions", 30, 30),
            vertex("a", "[gdal 1/2] RUN a", 1, 20),
            vertex("b", "[gdal 2/2] RUN b", 20, 35),
        ]
    )
    timing = summary(found, stage="gdal", target="t")
    assert timing.seconds == pytest.approx(5, abs=1e-6)
    assert (timing.cached, timing.ran) == (1, 1)


def test_what_still_runs_ends_at_the_latest_time() -> None:
    found = recorded([vertex("a", "[gdal 1/2] RUN a", 1), log("a", b"x\n", 9)])
    assert found.steps[0].running
    assert not found.complete
    assert union_seconds(found.steps) == pytest.approx(8, abs=1e-6)


def test_steps_that_buildkit_left_out_came_from_the_cache() -> None:
    announced = [vertex(name, f"[gdal {number}/3] RUN {name}") for number, name in enumerate("abc", 1)]
    found = recorded([*announced, vertex("c", "[gdal 3/3] RUN c", 1, 1, cached=True)])
    timing = summary(found, stage="gdal", target="t")
    assert (timing.steps, timing.cached, timing.ran) == (3, 3, 0)


def test_unknown_shapes_are_ignored() -> None:
    assert recorded([{"vertexes": None, "new": 1}, {"logs": [3]}, {"statuses": [{"vertex": "v"}]}]).steps == ()


# --- recorded streams


@pytest.mark.parametrize("name", ["single-cold", "single-cached"])
def test_a_single_target(name: str) -> None:
    found, text = replay(name)
    timing = summary(found, stage="gdal", target="cuda-gdal")
    ran = 4 if name == "single-cold" else 0
    assert (timing.steps, timing.ran, timing.cached) == (4, ran, 4 - ran)
    # By hand, from the stream: 42.107042053-42.882544748, 42.883737224-42.894423028, 42.895606160-43.559938021,
    # 43.560904512-43.737701493.
    assert timing.seconds == pytest.approx(1.627317 if ran else 0.000021, abs=1e-5)
    assert timing.work == pytest.approx(timing.seconds, abs=1e-6)
    assert failure(found, text) is None


def test_an_earlier_stage_is_not_counted_into_a_later_one() -> None:
    found, _ = replay("image-export")
    timing = summary(found, stage="runtime", target="cuda-runtime")
    assert (timing.steps, timing.ran) == (3, 3)
    # 44.306542047-44.323340562, 45.633312514-45.741800426, 45.742910270-46.209540038
    assert timing.seconds == pytest.approx(0.591916, abs=1e-5)
    assert timing.export_seconds == pytest.approx(0.062225, abs=1e-5)
    assert timing.transferred == 26
    assert timing.pulled == 0
    assert summary(found, stage="gdal", target="cuda-runtime").cached == 4


def test_what_a_target_had_to_make_first_counts_only_where_asked_for_and_run() -> None:
    made = recorded(
        [
            vertex("a", "[inputs-x tools 1/1] RUN apt", 0, 2, cached=True),
            vertex("b", "[inputs-x source 1/1] RUN fetch", 2, 7),
            vertex("c", "[inputs-x x 1/1] COPY", 7, 8),
        ]
    )
    alone = summary(made, stage="x", target="inputs-x")
    whole = summary(made, stage="x", target="inputs-x", others=())
    assert (alone.seconds, alone.steps, alone.cached) == (1, 1, 0)
    assert (whole.seconds, whole.steps, whole.cached) == (6, 2, 0)


def test_targets_in_one_solve() -> None:
    found, _ = replay("parallel-cold")
    gdal = summary(found, stage="gdal", target="cuda-gdal")
    python = summary(found, stage="python", target="cuda-python")
    runtime = summary(found, stage="runtime", target="cuda-runtime")
    assert [(each.steps, each.ran) for each in (gdal, python, runtime)] == [(4, 4), (2, 2), (3, 2)]
    # 46.674555812-47.728868932 and 47.730003222-48.084679541: one target's clock, not both
    assert python.seconds == pytest.approx(1.408989, abs=1e-5)
    assert gdal.seconds + python.seconds + runtime.seconds > union_seconds(found.steps)
    names = [step.name.split(" RUN ")[0].split(" COPY ")[0] for step in critical_path(found)]
    gdal_steps = [f"[gdal {number}/5]" for number in range(1, 5)]
    runtime_steps = [f"[runtime {number}/4]" for number in range(1, 4)]
    assert names == ["[context base] jetpare-tl/busybox", *gdal_steps, *runtime_steps, "exporting to image"]
    assert union_seconds(critical_path(found)) == pytest.approx(2.320, abs=1e-3)


@pytest.mark.parametrize("target", ["cuda-gdal", "jetpack-gdal"])
def test_a_target_that_equals_another_is_cached_as_a_whole(target: str) -> None:
    """BuildKit announced steps 2 to 4 of cuda-gdal, then went on with jetpack-gdal's."""
    found, _ = replay("two-images")
    timing = summary(found, stage="gdal", target=target)
    assert cache_state(timing) == (CacheState.CACHED, "all 4 steps from the layer cache")


def test_named_context_of_another_target() -> None:
    found, _ = replay("named-target")
    assert summary(found, stage="python", target="cuda-python").cached == 2
    via = summary(found, stage="via-target", target="cuda-via")
    assert (via.steps, via.ran) == (1, 1)
    assert via.export_seconds == 0
    assert summary(found, stage="python", target="cuda-python").export_seconds == pytest.approx(0.078819, abs=1e-5)


def test_local_export() -> None:
    found, _ = replay("local-export")
    assert summary(found, stage="python", target="cuda-python").export_seconds == pytest.approx(0.205, abs=1e-3)


def test_pull() -> None:
    """Many callers ask for the metadata at once; two layers come, of 60 and 1 MB; unpacking does not count."""
    found, _ = replay("pull")
    timing = summary(found, stage="python", target="cuda-python")
    assert timing.pulled == 60018466 + 1102573 + 587 + 289  # with the manifest and the image's own configuration
    # look-up 0.658276676-0.788600443, pull 0.805289192-0.812591996, 0.812776319-0.812822006, 0.812930006-3.110117068
    assert timing.pull_seconds == pytest.approx(2.434859, abs=1e-3)
    assert timing.ran == 2


def test_from_is_a_pull_and_no_step() -> None:
    found, _ = replay("pull-direct")
    timing = summary(found, stage="direct", target="cuda-direct")
    assert (timing.steps, timing.ran) == (1, 1)
    assert timing.pull_seconds > 0


# --- failure


@pytest.mark.parametrize(
    ("name", "target", "stage", "code", "memory", "error"),
    [
        ("failing", None, "failing", 3, False, "exit code 3"),
        ("failing-parallel", "cuda-gdal", "failing", 3, False, "exit code 3"),
        ("oom", None, "oom", 137, True, "exit code 137"),
        ("killed", None, "oomhost", 137, True, "exit code 137"),
        ("cc1plus", None, "cc1plus", 1, True, "exit code 1"),
        ("interrupted", None, "slow", 137, False, "canceled"),
        ("missing-file", None, "missingcopy", None, False, '"/nothere": not found'),
        ("no-base-image", None, None, None, False, "no such host"),
        ("no-such-stage", None, None, None, False, 'failed to solve: target stage "nosuchstage" could not be found'),
    ],
)
def test_failures(
    name: str, target: str | None, stage: str | None, code: int | None, memory: object, error: str
) -> None:
    found, text = replay(name)
    failed = failure(found, text)
    assert failed is not None
    assert (failed.target, failed.stage, failed.exit_code, failed.out_of_memory) == (target, stage, code, memory)
    assert failed.error.endswith(error)
    assert "\n" not in failed.error


def test_the_last_lines_are_kept() -> None:
    found, text = replay("failing")
    failed = failure(found, text)
    assert failed is not None
    assert len(failed.tail) == recorder.TAIL_LINES
    assert failed.tail[-2:] == ("noise 34", "[bad] failing now")
    assert failed.step is not None
    assert failed.step.startswith("[failing 1/3] RUN echo before")
    assert "did not complete successfully" in failed.detail


def test_a_step_stopped_for_another_is_not_the_cause() -> None:
    found = recorded(
        [
            vertex("a", "[gdal 1/1] RUN a", 1, 2, error='process "x" did not complete successfully: context canceled'),
            vertex("b", "[python 1/1] RUN b", 1, 3, error='process "x" did not complete successfully: exit code: 2'),
            vertex("c", "[runtime 1/1] RUN c", 1, 4, error='process "x" did not complete successfully: exit code: 137'),
        ]
    )
    failed = failure(found)
    assert failed is not None
    assert (failed.stage, failed.exit_code, failed.out_of_memory) == ("python", 2, False)


def test_killed_in_a_command_is_not_killed() -> None:
    error = 'process "/bin/sh -c echo Killed" did not complete successfully: exit code: 1'
    failed = failure(recorded([vertex("a", "[gdal 1/1] RUN echo Killed", 1, 2, error=error)]))
    assert failed is not None
    assert not failed.out_of_memory


# --- critical path


def test_critical_path_by_hand() -> None:
    """d waits for b (ends 5), not for c (ends 4); an input that nobody knows is passed over."""
    found = recorded(
        [
            vertex("a", "[s 1/4] RUN a", 0, 1),
            vertex("b", "[s 2/4] RUN b", 1, 5, inputs=["a", "unknown"]),
            vertex("c", "[t 1/1] RUN c", 0, 4),
            vertex("d", "[s 3/4] RUN d", 5.5, 7, inputs=["c", "b"]),
        ]
    )
    path = critical_path(found)
    assert [step.digest for step in path] == ["a", "b", "d"]
    assert union_seconds(path) == pytest.approx(6.5, abs=1e-6)
    assert work_seconds(path) == pytest.approx(6.5, abs=1e-6)


def test_critical_path_of_nothing() -> None:
    assert critical_path(Timeline(steps=())) == ()


# --- cache state


def timing(steps: int, cached: int) -> StageTiming:
    known = summary(Timeline(steps=()), stage="gdal", target="cuda-gdal")
    return replace(known, steps=steps, cached=cached, ran=steps - cached)


@pytest.mark.parametrize(
    ("steps", "cached", "ccache", "state", "why"),
    [
        (5, 5, None, CacheState.CACHED, "all 5 steps from the layer cache"),
        (1, 1, (0, 475), CacheState.CACHED, "the only step from the layer cache"),
        (5, 3, None, CacheState.WARM, "3 of 5 steps cached"),
        (5, 0, (472, 475), CacheState.WARM, "ccache 472 of 475 hits"),
        (5, 3, (0, 475), CacheState.WARM, "ccache 0 of 475 hits, 3 of 5 steps cached"),
        (5, 0, (0, 475), CacheState.COLD, "ccache 0 of 475 hits"),
        (5, 0, (0, 0), CacheState.COLD, "no step cached"),
        (0, 0, None, CacheState.COLD, "no step cached"),
    ],
)
def test_cache_state(steps: int, cached: int, ccache: tuple[int, int] | None, state: CacheState, why: str) -> None:
    assert cache_state(timing(steps, cached), ccache) == (state, why)


def test_what_is_built_again_finds_the_caches_of_before() -> None:
    assert cache_state(timing(3, 0), again=True) == (CacheState.WARM, "built again, caches kept")
    assert cache_state(timing(3, 0), (0, 5), again=True)[0] is CacheState.COLD  # counted: there was nothing
    assert cache_state(timing(3, 3), again=True)[0] is CacheState.CACHED


# --- logs


def test_lines_are_whole_though_chunks_split_them() -> None:
    lines: list[LogLine] = []
    recorder = Recorder(on_line=lines.append)
    recorder.add(vertex("a", "[gdal 1/1] RUN a", 1))
    data = "half line ✓\nnext".encode()
    for index, byte in enumerate(data):
        recorder.add(log("a", bytes([byte]), 2 + index / 100))
    recorder.add(log("a", b"err\n", 3, stream=2))
    assert [line.text for line in lines] == ["half line ✓", "err"]
    recorder.add(vertex("a", "[gdal 1/1] RUN a", 1, 4))
    assert [(line.text, round(line.seconds, 3)) for line in lines] == [
        ("half line ✓", 1.13),
        ("err", 2.0),
        ("next", 3.0),
    ]


def test_stage_log() -> None:
    file = io.StringIO()
    writer = StageLog(file)
    recorder = Recorder(on_line=writer.line)
    for event in (
        vertex("a", "[gdal 1/2] RUN a", 1),
        vertex("b", "[gdal 2/2] RUN b", 1),
        log("a", b"\x1b[1mone\x1b[0m\n", 1.5),
        log("a", b"10%\r100%\n", 1.75),
        log("b", b"two\n", 2),
        log("a", b"three", 3),
        vertex("a", "[gdal 1/2] RUN a", 1, 4),
        vertex("b", "[gdal 2/2] RUN b", 1, 1, cached=True),
    ):
        recorder.add(event)
    recorder.close()
    writer.finish(recorder.timeline())
    assert file.getvalue() == (
        "#[gdal 1/2] RUN a\n    0.500  one\n    0.750  100%\n"
        "#[gdal 2/2] RUN b\n    1.000  two\n"
        "#[gdal 1/2] RUN a\n    3.000  three\n"
        "# steps\n     3.000 s  [gdal 1/2] RUN a\n      CACHED  [gdal 2/2] RUN b\n"
    )


def test_stage_log_of_one_stage_among_many() -> None:
    file = io.StringIO()
    writer = StageLog(file, target="cuda-python", stages={"python"})
    recorder = Recorder(on_line=writer.line)
    for event in decoded((EVENTS / "parallel-cold.jsonl").read_bytes())[0]:
        recorder.add(event)
    assert file.getvalue().startswith('#[python 1/3] RUN echo "python 20446"')
    assert file.getvalue().count("  python 20446\n") == 1


def test_activity() -> None:
    recorder = Recorder()
    ask = {"stage": "gdal", "target": "cuda-gdal"}
    assert not recorder.activity(**ask).started
    recorder.add(vertex("p", "[context base] x", 0))
    recorder.add({"statuses": [{"vertex": "p", "id": "sha256:1", "name": "downloading", "current": 3, "total": 9}]})
    pulling = recorder.activity(**ask)
    assert (pulling.running, pulling.current, pulling.total) == ("[context base] x", 3, 9)
    recorder.add(vertex("p", "[context base] x", 0, 1))
    recorder.add(vertex("a", "[gdal 1/2] RUN a", 1, 2))
    recorder.add(vertex("b", "[gdal 2/2] RUN b", 2))
    recorder.add(log("b", b"one\ntwo\n10%\r20%", 3))
    now = recorder.activity(**ask)
    assert (now.done, now.steps, now.running, now.line) == (1, 2, "[gdal 2/2] RUN b", "20%")
    assert recorder.activity(stage=None, target="cuda-gdal") == now
    assert recorder.activity(stage="other", target="cuda-gdal").steps == 0
