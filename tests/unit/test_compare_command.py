"""`invoke compare` around the comparison itself: where it is written, in which form, and what stops it before it starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jetpare.base.errors import ConfigError
from jetpare.cli import image_tasks
from jetpare.cli.session import Session
from jetpare.compare.gather import Gathered
from tests.comparisons import INVENTORIES, full


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Which images were asked for; what is found is the comparison made by hand."""
    calls: list[tuple[str, ...]] = []

    def gathered(_: Session, images: tuple[str, ...], *__: object, **___: object) -> Gathered:
        calls.append(images)
        return Gathered(comparison=full(), inventories=INVENTORIES)

    monkeypatch.setattr(image_tasks, "gathered", gathered)
    return calls


def session(tmp_path: Path, **environ: str) -> Session:
    return Session(root=tmp_path, environ=environ)


@pytest.mark.parametrize(
    ("form", "begins"), [("", "cuda is 1.02 GB"), ("json", "{"), ("md", "# Base image comparison")]
)
def test_to_stdout(
    asked: list[tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, begins: str
) -> None:
    image_tasks.compare(session(tmp_path), form=form, images=("a", "b"))
    said = capsys.readouterr()
    assert said.out.startswith(begins)
    assert said.err == ""
    assert asked == [("a", "b")]


def test_to_a_file_in_the_form_of_its_suffix(
    asked: list[tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.md", "a.json", "a.txt"):
        image_tasks.compare(session(tmp_path), images=("a", "b"), output=str(tmp_path / name))
    said = capsys.readouterr()
    assert said.out == ""
    assert str(tmp_path / "a.json") in said.err.replace("\n", "")
    assert (tmp_path / "a.md").read_text().startswith("# Base")
    assert json.loads((tmp_path / "a.json").read_text())["schema"] == "jetpare.compare/2"
    assert (tmp_path / "a.txt").read_text().startswith("cuda is")
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"form": "pdf"}, "not a valid form"),
        ({"output": "/nonexistent/file.md"}, "/nonexistent/file.md: cannot be written"),
        ({"output": "/"}, "it is a folder"),
        ({"compress": "lz4"}, "gzip or zstd"),
    ],
)
def test_what_cannot_be_done_is_told_before_any_work(
    asked: list[tuple[str, ...]], tmp_path: Path, words: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        image_tasks.compare(session(tmp_path), **words)  # type: ignore[arg-type]
    assert not asked


def test_in_github_actions_the_summary_is_added_to(
    asked: list[tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = tmp_path / "summary"
    summary.write_text("before\n")
    image_tasks.compare(session(tmp_path, GITHUB_STEP_SUMMARY=str(summary)), form="json", images=("a", "b"))
    assert summary.read_text().startswith("before\n# Base image comparison")
    json.loads(capsys.readouterr().out)
    assert len(asked) == 1


def test_a_summary_that_cannot_be_written_fails_nothing(
    asked: list[tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image_tasks.compare(session(tmp_path, GITHUB_STEP_SUMMARY=str(tmp_path)), images=("a", "b"))
    said = capsys.readouterr()
    assert said.out.startswith("cuda is")
    assert "GITHUB_STEP_SUMMARY=" in said.err
    assert asked
