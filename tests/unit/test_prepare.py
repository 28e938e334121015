"""Inputs that BuildKit does not make: base systems and downloads, and the programs that make them."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError

from jetpare.base import process
from jetpare.base.errors import DownloadError, EngineError, ToolError
from jetpare.build import bootstrap, download
from jetpare.build.bootstrap import bootstrap_base
from jetpare.engine import apt
from jetpare.engine.model import Engine
from jetpare.project.naming import download_folder
from jetpare.records import ledger
from jetpare.records.ledger import StageRecord
from tests.fakes import FakeDocker, digest, opened
from tests.unit.conftest import DEBIAN, Workshop, make_workshop

ARCHIVE = b"an archive"
SHA = hashlib.sha256(ARCHIVE).hexdigest()


def row_of(workshop: Workshop, label: str) -> StageRecord:
    found = workshop.newest().stage(label)
    assert found is not None
    return found


# --- downloads


@pytest.fixture
def fetching(mini: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A project whose stage gdal needs an archive."""
    file = mini / "build.toml"
    table = f'source = {{ urls = ["https://example.invalid/x.tar.gz"], sha256 = "{SHA}" }}\n'
    text = file.read_text().replace("[profiles.mini.contexts]\n", f"[profiles.mini.contexts]\n{table}")
    for profile in ("tight", "wrong"):
        text = text.replace(f"[profiles.{profile}.contexts]\n", f"[profiles.{profile}.contexts]\n{table}")
    file.write_text(text.replace('gdal = ["l4t-cuda"]', 'gdal = ["l4t-cuda", "source"]'))
    return make_workshop(mini, {"HOME": str(mini / "home")}, monkeypatch)


def test_an_archive_that_is_there_is_not_downloaded(fetching: Workshop) -> None:
    folder = fetching.project.root / download_folder(fetching.project.state, SHA)
    folder.mkdir(parents=True)
    (folder / "x.tar.gz").write_bytes(ARCHIVE)
    fetching.build(fetching.plan(only="cuda/gdal"))
    row = row_of(fetching, "inputs/source")
    assert (row.status, row.cache, row.why) == (ledger.OK, "cached", "x.tar.gz was downloaded before")
    assert fetching.view.finished["inputs/source"] == ("cached", row.why)


def test_a_download_is_shown_as_it_comes_and_recorded(fetching: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[tuple[str, int, int | None]] = []
    clock = iter(range(1000))
    monkeypatch.setattr("jetpare.build.prepare.time.monotonic", lambda: float(next(clock)))

    def fetch(urls: Any, *, sha256: str, folder: Path, tell: Any, **_: Any) -> tuple[Path, bool]:
        assert (sha256, folder.name) == (SHA, SHA)
        tell(3, 10)
        return folder / Path(urls[0]).name, True

    monkeypatch.setattr(download, "fetch", fetch)
    monkeypatch.setattr(fetching.view, "transfer", lambda *words: moved.append(words))
    fetching.build(fetching.plan(only="cuda/gdal"))
    row = row_of(fetching, "inputs/source")
    assert (row.status, row.cache, row.why, row.marks) == (ledger.OK, "cold", "downloaded x.tar.gz", ())
    assert (row.seconds, row.work) == (1.0, 1.0)
    assert moved == [("inputs/source", 3, 10)]
    assert fetching.view.finished["inputs/source"] == ("ok", row.why)


def test_a_download_that_fails_is_the_failure_of_the_run(fetching: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: Any, **__: Any) -> None:
        assert row_of(fetching, "inputs/source").status == ledger.RUNNING
        raise DownloadError("x.tar.gz: no mirror gave it:\n  https://example.invalid: 404")

    monkeypatch.setattr(download, "fetch", fetch)
    with pytest.raises(DownloadError):
        fetching.build(fetching.plan(only="cuda/gdal"))
    row = row_of(fetching, "inputs/source")
    assert (row.status, row.reason) == (ledger.FAILED, "x.tar.gz: no mirror gave it:")
    assert row_of(fetching, "cuda/gdal").reason == "inputs/source failed"
    assert fetching.view.finished["inputs/source"] == ("failed", row.reason)
    assert fetching.bake.calls == []


def test_a_download_is_the_same_on_every_machine(fetching: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "fetch", lambda *_, folder, **__: (folder / "x.tar.gz", True))
    monkeypatch.setattr(bootstrap, "bootstrap_base", lambda *_, **__: bootstrap.Base(id=digest("x"), how="pulled"))
    plan = fetching.project.plan(profile="mini", architecture="amd64", platform="linux/arm64", only="cuda/gdal")
    fetching.build(plan)
    assert row_of(fetching, "inputs/source").marks == ()
    assert row_of(fetching, "inputs/debian").marks != ()


# --- base systems


@pytest.mark.parametrize("how", ["pulled", "bootstrapped", "present"])
def test_a_base_system_is_cold_only_when_it_was_made(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, how: Any
) -> None:
    made = bootstrap.Base(id=digest("made"), how=how)
    monkeypatch.setattr(bootstrap, "bootstrap_base", lambda *_, **__: made)
    workshop.build(workshop.plan(only="cuda/gdal"))
    row = row_of(workshop, "inputs/debian")
    assert (row.status, row.why) == (ledger.OK, how)
    assert row.cache == ("cached" if how == "present" else "cold")
    metadata = list(workshop.project.ledger.path(workshop.newest().id).glob("events/inputs-debian-metadata.json"))
    assert len(metadata) == (how != "present")


@pytest.mark.parametrize(("how", "marks"), [("bootstrapped", ("emulated on linux/amd64",)), ("present", ())])
def test_a_base_system_of_another_architecture_is_marked(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, how: Any, marks: tuple[str, ...]
) -> None:
    asked: dict[str, Any] = {}

    def make(*_: Any, **words: Any) -> bootstrap.Base:
        asked.update(words)
        return bootstrap.Base(id=digest("made"), how=how)

    monkeypatch.setattr(bootstrap, "bootstrap_base", make)
    plan = workshop.project.plan(profile="mini", architecture="amd64", platform="linux/arm64", only="cuda/gdal")
    workshop.build(plan)
    assert (asked["arch"], asked["suite"]) == ("arm64", "bookworm")
    assert row_of(workshop, "inputs/debian").marks == marks
    assert row_of(workshop, "cuda/gdal").marks == ("emulated on linux/amd64",)


def test_a_builder_of_this_machines_kind_is_not_marked(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = mini / "build.toml"
    table = "[profiles.mini.contexts]\n"
    file.write_text(file.read_text().replace(table, f'{table}builder = {{ suite = "bookworm" }}\n'))
    workshop = make_workshop(mini, {"HOME": str(mini)}, monkeypatch)
    monkeypatch.setattr(bootstrap, "bootstrap_base", lambda *_, **__: bootstrap.Base(id=digest("x"), how="pulled"))
    plan = workshop.project.plan(profile="mini", architecture="amd64", platform="linux/arm64", only="cuda/gdal")
    workshop.build(plan)
    assert row_of(workshop, "inputs/builder").marks == ()
    assert row_of(workshop, "inputs/debian").marks == ("emulated on linux/amd64",)


# --- with which programs


class Programs:
    """Programs that are not there; each does what it is for to a FakeDocker."""

    def __init__(self, docker: FakeDocker, *, works: bool = True) -> None:
        self.docker, self.works = docker, works
        self.ran: list[list[str]] = []
        self.environments: list[Mapping[str, str]] = []

    def run(self, argv: list[str], *, env: Mapping[str, str], **_: Any) -> str:
        self.ran.append([str(word) for word in argv])
        self.environments.append(env)
        if self.works and "pull" in argv:
            self.docker.add(digest("pulled"), "debian:bookworm-slim")
        if self.works and "import" in argv:
            self.docker.add(digest("imported"), str(argv[-1]))
        return ""


@pytest.fixture
def empty() -> FakeDocker:
    return FakeDocker()


def made_base(docker: FakeDocker, programs: Programs, patch: pytest.MonkeyPatch, echoed: list[str]) -> bootstrap.Base:
    patch.setattr(process, "run", programs.run)
    patch.setattr(apt, "require_mmdebstrap", lambda *_: None)
    patch.setattr(bootstrap, "require_mmdebstrap", lambda *_: None)
    engine: Engine = replace(opened(docker, WORD="hunter2"), overrides={"DOCKER_HOST": "tcp://fake:1"})
    return bootstrap_base(
        engine, name=DEBIAN, suite="bookworm", arch="arm", environ={"PATH": "/usr/bin"}, echo=echoed.append
    )


def test_what_is_there_is_taken(empty: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    empty.add(digest("debian"), DEBIAN)
    programs, echoed = Programs(empty), list[str]()
    found = made_base(empty, programs, monkeypatch, echoed)
    assert (found.id, found.how) == (digest("debian"), "present")
    assert programs.ran == []
    assert echoed == []


def test_a_base_is_pulled_where_a_registry_answers(empty: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    programs, echoed = Programs(empty), list[str]()
    found = made_base(empty, programs, monkeypatch, echoed)
    assert (found.id, found.how) == (digest("pulled"), "pulled")
    assert empty.named(DEBIAN) == digest("pulled")
    assert echoed == ["+ DOCKER_HOST=tcp://fake:1 docker pull --quiet --platform linux/arm debian:bookworm-slim"]
    assert [shlex.split(line)[2:] for line in echoed] == programs.ran


def test_without_a_registry_a_base_is_made_here(empty: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    empty.faults["inspect_distribution"] = APIError("no such host")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/usr/bin/apt-get")
    programs, echoed = Programs(empty), list[str]()
    found = made_base(empty, programs, monkeypatch, echoed)
    assert (found.id, found.how) == (digest("imported"), "bootstrapped")
    make, load = programs.ran
    assert {"mmdebstrap", "bookworm", "--architectures=armhf", *bootstrap.SLIM} <= set(make)
    assert make[-1] == load[-2]  # the archive
    assert not Path(make[-1]).parent.exists()
    assert [shlex.split(line)[1:] for line in (echoed[0], echoed[1].replace("DOCKER_HOST=tcp://fake:1 ", ""))] == [
        make,
        load,
    ]
    assert "hunter2" not in "".join(echoed)
    assert programs.environments[0]["DEBIAN_FRONTEND"] == "noninteractive"


def test_without_a_registry_and_apt_a_person_has_to_load_it(empty: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    empty.faults["inspect_distribution"] = APIError("no such host")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ToolError, match=rf"no such host.*docker tag debian:bookworm-slim {DEBIAN}"):
        made_base(empty, Programs(empty), monkeypatch, [])


def test_a_base_that_is_not_there_after_all_is_an_error(empty: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    empty.faults["inspect_distribution"] = APIError("no such host")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/usr/bin/apt-get")
    with pytest.raises(EngineError, match=f"{DEBIAN} was bootstrapped, but"):
        made_base(empty, Programs(empty, works=False), monkeypatch, [])
