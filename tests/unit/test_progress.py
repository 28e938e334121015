from __future__ import annotations

import base64
import contextlib
import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from jetpare.base.process import command_line
from jetpare.events import step_names
from jetpare.events.decode import EventDecoder
from jetpare.events.progress import Progress, Usual
from jetpare.events.recorder import Activity, Recorder
from jetpare.views.live import LiveProgress, PlainProgress, make_progress, of_label

LONG = "[python 2/3] RUN mkdir -p /opt/venv && dd if=/dev/urandom of=/opt/venv/big bs=1M count=30 2>/dev/nu…"
EVENTS = Path(__file__).parent.parent / "data" / "events"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def replay(name: str, view: Progress, *labels: str) -> Recorder:
    recorder = Recorder()
    for event in EventDecoder().feed((EVENTS / f"{name}.jsonl").read_bytes()):
        recorder.add(event)
        for label in labels:
            view.update(label, recorder)
    return recorder


def plain(clock: Clock) -> tuple[PlainProgress, io.StringIO]:
    file = io.StringIO()
    view = make_progress(Console(file=file, width=40), plain=False, clock=clock)
    assert isinstance(view, PlainProgress)
    return view, file


def live(clock: Clock, width: int = 80) -> tuple[LiveProgress, Console]:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, record=True)
    view = make_progress(console, plain=False, clock=clock)
    assert isinstance(view, LiveProgress)
    return view, console


def shown(view: LiveProgress, width: int = 80) -> list[str]:
    """The table as a terminal of *width* columns shows it."""
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(view.table())
    return [line.rstrip() for line in console.export_text().splitlines()]


# --- what runs


@pytest.mark.parametrize("form", ["plain", "live"])
def test_a_command_is_echoed_on_one_line_however_narrow_the_screen(form: str) -> None:
    """A line break of ours would end the command that somebody pastes."""
    line = command_line(["docker", "buildx", "bake", "a b", "[bold]", "x" * 60], {"A": "it's", "B": "1"})
    assert line == f"""+ A='it'"'"'s' B=1 docker buildx bake 'a b' '[bold]' {"x" * 60}"""
    view: Progress
    if form == "plain":
        view, file = plain(Clock())
        view.echo(line)
        assert file.getvalue() == f"{line}\n"
    else:
        view, console = live(Clock(), width=40)
        with view:
            view.plan(["cuda/gdal"])
            view.echo(line)
        assert line in console.export_text()


# --- which


def test_which_view() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True)
    assert isinstance(make_progress(terminal, plain=False), LiveProgress)
    assert isinstance(make_progress(terminal, plain=True), PlainProgress)
    assert isinstance(make_progress(Console(file=io.StringIO()), plain=False), PlainProgress)


def test_labels() -> None:
    assert of_label("cuda/gdal") == ("cuda-gdal", "gdal")
    assert of_label("inputs/x.y") == ("inputs-x_y", None)


def test_brief() -> None:
    name = "[gdal 1/2] RUN --mount=type=bind,source=a,target=/b     --network=none JOBS=2     /b/run"
    assert step_names.brief(name) == "[gdal 1/2] RUN JOBS=2 /b/run"
    assert step_names.brief("[a 1/2] COPY --link --from=b /c /d") == "[a 1/2] COPY --from=b /c /d"
    assert len(step_names.brief("x" * 500)) == step_names.NAME_WIDTH


# --- plain lines


def test_plain_lines() -> None:
    clock = Clock()
    view, file = plain(clock)
    with view:
        view.plan(["cuda/python", "cuda/runtime"])
        view.begin("cuda/python")
        replay("pull", view, "cuda/python")
        clock.now += 83
        view.finish("cuda/python", "ok", "cold: no step cached")
        view.note("[red]as it is[/red] \x1b[31mplain\x1b[0m")
        view.finish("cuda/runtime", "skipped", "cuda/gdal failed")
    assert file.getvalue().splitlines() == [
        "plan: cuda/python, cuda/runtime",
        "cuda/python: start",
        "cuda/python: [context base] 127.0.0.1:5055/base:1",
        "cuda/python: [context base] 127.0.0.1:5055/base:1 done in 2.3 s, 61.1 MB",
        'cuda/python: [python 1/3] RUN echo "python p1" && sleep 0.8',
        "cuda/python: [python 1/3] done in 1.2 s",
        f"cuda/python: {LONG}",
        "cuda/python: [python 2/3] done in 0.7 s",
        "cuda/python: ok, 1 min 23 s, cold: no step cached",
        "note: [red]as it is[/red] plain",
        "cuda/runtime: skipped, cuda/gdal failed",
    ]


def test_plain_lines_of_a_cached_stage() -> None:
    view, file = plain(Clock())
    replay("single-cached", view, "cuda/gdal")
    lines = file.getvalue().splitlines()
    assert len(lines) == 4
    assert all(line.startswith("cuda/gdal: [gdal ") and line.endswith(" CACHED") for line in lines)


def test_plain_lines_of_a_failure() -> None:
    view, file = plain(Clock())
    replay("failing", view, "cuda/gdal")
    assert file.getvalue().splitlines()[-1] == "cuda/gdal: [failing 1/3] failed after 0.2 s"


def test_plain_lines_of_many_targets_are_told_apart() -> None:
    view, file = plain(Clock())
    replay("parallel-cold", view, "cuda/gdal", "cuda/python")
    lines = file.getvalue().splitlines()
    assert [line for line in lines if line.startswith("cuda/python")] == [
        'cuda/python: [python 1/3] RUN echo "python 20446" && sleep 0.8',
        "cuda/python: [python 1/3] done in 1.1 s",
        f"cuda/python: {LONG}",
        "cuda/python: [python 2/3] done in 0.4 s",
    ]
    assert sum(line.startswith("cuda/gdal: [gdal") for line in lines) == 8
    assert "\x1b" not in file.getvalue()


# --- the live table


def test_live_table_in_80_columns() -> None:
    clock = Clock()
    view, _ = live(clock)
    view.plan(["cuda/gdal", "cuda/python", "cuda/runtime", "jetpack/gdal"])
    view.begin("cuda/gdal")
    replay("single-cold", view, "cuda/gdal")
    clock.now += 286
    view.finish("cuda/gdal", "ok", "cold: ccache 0 of 475 hits")
    view.begin("cuda/python")
    recorder = Recorder()
    recorder.add({"vertexes": [{"digest": "a", "name": "[python 1/2] RUN a", "started": "2026-01-01T00:00:00Z"}]})
    line = "W1tyZWRdIA=="  # '[[red] '
    recorder.add({"logs": [{"vertex": "a", "stream": 1, "data": line}]})
    view.update("cuda/python", recorder)
    shown(view)
    clock.now += 1.5
    view.finish("jetpack/gdal", "failed", "exit code 1 " + "long " * 50)
    lines = shown(view)
    assert lines[0] == "ok      cuda/gdal      4:46 4/4 cold: ccache 0 of 475 hits"
    assert lines[1].startswith("running cuda/python   1.5 s 1/1 [[red]")
    assert lines[2] == "waiting cuda/runtime"
    assert lines[3].split()[:5] == ["failed", "jetpack/gdal", "exit", "code", "1"]
    assert lines[3].endswith("…")
    assert max(map(len, lines)) <= 80
    assert len(lines) == 4


def test_live_download() -> None:
    clock = Clock()
    view, _ = live(clock)
    view.plan(["cuda/python", "inputs/source"])
    view.begin("inputs/source")
    view.transfer("inputs/source", 0, 400_000_000)
    shown(view)
    clock.now += 4
    view.transfer("inputs/source", 100_000_000, 400_000_000)
    assert shown(view)[1] == "running inputs/source  4.0 s  100 MB of 400 MB, 25.0 MB/s"
    view.begin("cuda/python")
    recorder = Recorder()
    for event in EventDecoder().feed((EVENTS / "pull.jsonl").read_bytes()):
        recorder.add(event)
        if recorder.activity(stage="python", target="cuda-python").current > 30_000_000:
            break
    view.update("cuda/python", recorder)
    assert "MB of 61.1 MB  [context base] 127.0" in shown(view)[0]


def test_live_rows_of_one_call_run_from_their_first_step_to_their_last() -> None:
    clock = Clock()
    view, _ = live(clock)
    labels = ["cuda/gdal", "cuda/python", "cuda/runtime"]
    view.plan(labels)
    for label in labels:
        view.begin(label)
    replay("parallel-cold", view, *labels)
    shown(view)
    clock.now += 50
    assert [line.split()[0] for line in shown(view)] == ["done", "done", "done"]
    for label in labels:
        view.finish(label, "ok", "")
    assert [line.split()[-1] for line in shown(view)] == ["4/4", "2/2", "3/3"]


def test_live_view_draws_and_stays() -> None:
    clock = Clock()
    view, console = live(clock)
    with view:
        view.plan(["cuda/gdal"])
        view.begin("cuda/gdal")
        replay("single-cached", view, "cuda/gdal")
        view.note("[bold]read me[/bold]")
        view.finish("cuda/gdal", "cached", "all 4 steps from the layer cache")
    text = console.export_text()
    assert "[bold]read me[/bold]" in text
    assert "cuda/gdal" in text
    assert "4/4 all 4 steps from the layer cache" in text


def recorder_of(line: str = "") -> Recorder:
    """A recorder of one step that runs, and has said *line*."""
    recorder = Recorder()
    recorder.add({"vertexes": [{"digest": "a", "name": "[gdal 1/2] RUN make", "started": "2026-01-01T00:00:00Z"}]})
    if line:
        data = base64.b64encode(f"{line}\n".encode()).decode()
        recorder.add({"logs": [{"vertex": "a", "stream": 1, "data": data}]})
    return recorder


def test_plain_lines_say_now_and_then_that_a_long_step_works() -> None:
    clock = Clock()
    view, file = plain(clock)
    recorder = recorder_of("[ 41%] Building ogr.o")
    view.begin("cuda/gdal")
    for _ in range(15):
        view.update("cuda/gdal", recorder)
        clock.now += 10
    view.finish("cuda/gdal", "ok", "")
    view.update("cuda/gdal", recorder)
    assert file.getvalue().splitlines()[2:] == [
        "cuda/gdal: 30.0 s, [ 41%] Building ogr.o",
        "cuda/gdal: 1 min 00 s, [ 41%] Building ogr.o",
        "cuda/gdal: 1 min 30 s, [ 41%] Building ogr.o",
        "cuda/gdal: 2 min 00 s, [ 41%] Building ogr.o",
        "cuda/gdal: ok, 2 min 30 s",
    ]


def test_plain_end_is_said_once() -> None:
    view, file = plain(Clock())
    view.finish("cuda/gdal", "failed", "exit code 1")
    view.finish("cuda/gdal", "interrupted", "")
    assert file.getvalue() == "cuda/gdal: failed, exit code 1\n"


WORDS = "Builds do not see what pip's settings name on this host's disk"


def test_notes_wrap_at_words_on_a_terminal_alone() -> None:
    view, console = live(Clock(), width=30)
    view.note(WORDS)
    assert console.export_text().split() == WORDS.split()
    terminal = Console(file=io.StringIO(), force_terminal=True, width=30, color_system=None, record=True)
    make_progress(terminal, plain=True).note(WORDS)
    lines = terminal.export_text().splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 30
    assert " ".join(line.rstrip() for line in lines) == f"note: {WORDS}"
    log, file = plain(Clock())
    log.note(WORDS)
    assert file.getvalue() == f"note: {WORDS}\n"


def test_a_live_note_is_wrapped_by_us_and_not_by_the_terminal() -> None:
    view, console = live(Clock(), width=30)
    view.note(WORDS)
    assert max(map(len, console.export_text().splitlines())) <= 30


def test_a_drawing_does_not_bring_an_ended_row_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drawing thread is in the middle of asking when the row ends."""
    view, _ = live(Clock())
    view.begin("cuda/gdal")
    recorder = recorder_of()
    view.update("cuda/gdal", recorder)
    asked, go_on, activity = threading.Event(), threading.Event(), recorder.activity

    def slow(**words: Any) -> Activity:
        asked.set()
        go_on.wait(5)
        return activity(**words)

    monkeypatch.setattr(recorder, "activity", slow)
    drawing = threading.Thread(target=view.table)
    ending = threading.Thread(target=view.finish, args=("cuda/gdal", "interrupted", "Ctrl-C"))
    drawing.start()
    assert asked.wait(5)
    ending.start()
    ending.join(0.1)  # it may not end before the drawing has
    go_on.set()
    drawing.join()
    ending.join()
    assert shown(view)[0].split()[:2] == ["interrupted", "cuda/gdal"]


@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.parametrize("is_closed", [True, False])
def test_nobody_reads_and_the_build_goes_on(is_live: bool, is_closed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(os, "dup2", lambda *numbers: taken.extend(numbers))  # what rich does to stdout
    reading, writing = os.pipe()
    file = os.fdopen(writing, "w", buffering=1)
    console = Console(file=file, force_terminal=is_live, width=80)
    view = make_progress(console, plain=not is_live, clock=Clock())
    os.close(reading)
    if is_closed:
        with contextlib.suppress(BrokenPipeError):
            file.close()
    with view:
        view.plan(["cuda/gdal"])
        view.begin("cuda/gdal")
        replay("single-cold", view, "cuda/gdal")
        view.note("read me")
        view.finish("cuda/gdal", "ok", "")
    assert taken == []
    with contextlib.suppress(BrokenPipeError):
        file.close()


# --- how long it usually takes


USUAL = Usual(seconds={"cuda/gdal": 100.0, "cuda/python": 30.0, "inputs/debian": 0.2})


def test_live_shows_what_is_usual() -> None:
    clock = Clock()
    view, _ = live(clock)
    view.plan(["inputs/debian", "cuda/gdal", "cuda/python"], USUAL)
    assert shown(view)[-1].split("  ")[-1].strip() == "0.0 s of about 2:10"
    view.begin("inputs/debian")
    clock.now += 0.1
    assert "of about" not in shown(view)[0]  # not worth it
    view.finish("inputs/debian", "cached", "")
    view.begin("cuda/gdal")
    clock.now += 72
    lines = shown(view)
    assert "cuda/gdal" in lines[1]
    assert "1:12 of about 1:40" in lines[1]
    assert lines[3].split() == ["all", "1:12", "of", "about", "2:10"]
    clock.now += 60  # longer than usual: nobody knows for how long
    assert "2:12 of about 1:40" in shown(view)[1]
    assert len(shown(view)) == 3
    view.finish("cuda/gdal", "ok", "")
    assert "of about" not in shown(view)[1]
    assert shown(view)[3].split() == ["all", "2:12", "of", "about", "2:42"]
    view.begin("cuda/python")
    view.finish("cuda/python", "ok", "")
    assert len(shown(view)) == 3


@pytest.mark.parametrize(
    "usual",
    [
        Usual(),
        Usual(seconds={"cuda/gdal": 100.0}),  # of one it is not known
        Usual(seconds={"cuda/gdal": 100.0, "cuda/python": 30.0}, in_turn=False),  # side by side
    ],
)
def test_no_guess_for_the_whole(usual: Usual) -> None:
    clock = Clock()
    view, _ = live(clock)
    view.plan(["cuda/gdal", "cuda/python"], usual)
    assert len(shown(view)) == 2
    lines, file = plain(clock)
    lines.plan(["cuda/gdal", "cuda/python"], usual)
    assert file.getvalue() == "plan: cuda/gdal, cuda/python\n"
    lines.begin("cuda/python")
    assert file.getvalue().endswith(
        "cuda/python: start, about 30.0 s\n" if "cuda/python" in usual.seconds else "start\n"
    )


def test_plain_tells_what_is_usual() -> None:
    clock = Clock()
    view, file = plain(clock)
    view.plan(["inputs/debian", "cuda/gdal"], USUAL)
    view.begin("inputs/debian")
    view.begin("cuda/gdal")
    replay("cc1plus", view, "cuda/gdal")
    assert file.getvalue().splitlines()[:3] == [
        "plan: inputs/debian, cuda/gdal; about 1 min 40 s in all", "inputs/debian: start",
        "cuda/gdal: start, about 1 min 40 s",
    ]  # fmt: skip


@given(
    usual=st.dictionaries(st.sampled_from("abcd"), st.floats(1, 1000)),
    waiting=st.sets(st.sampled_from("abcd")),
    elapsed=st.floats(0, 1000),
)
def test_what_is_left_needs_a_base_for_all_that_is_left(
    usual: dict[str, float], waiting: set[str], elapsed: float
) -> None:
    running = {"x": elapsed}
    found = Usual(seconds={**usual, "x": 500.0}).left(sorted(waiting), running)
    if waiting <= set(usual) and elapsed <= 499:
        assert found == pytest.approx(500.0 - elapsed + sum(usual[each] for each in waiting))
    if not waiting <= set(usual) or elapsed > 500:
        assert found is None
