"""A Debian base, pulled or made. Only programs are faked; the engine is a FakeDocker that they act on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from docker.errors import APIError

from jetpare.base import process
from jetpare.base.errors import EngineError, ToolError
from jetpare.build import bootstrap
from jetpare.engine import apt
from tests.fakes import FakeDocker, digest, opened

NAME = "jetpare/debian:bookworm-arm64"
OFFICIAL = "debian:bookworm-slim"


class Programs:
    """Do to the engine and the disk what docker and mmdebstrap do."""

    def __init__(self, docker: FakeDocker) -> None:
        self.docker = docker
        self.made: list[Path] = []  # archives that mmdebstrap wrote
        self.works = True

    def run(self, argv: list[str | Path], **_: object) -> str:
        words = [str(word) for word in argv]
        if words[1] == "pull" and self.works:
            assert words[words.index("--platform") + 1] == "linux/arm64"
            self.docker.add(digest("pulled"), words[-1])
        if "mmdebstrap" in words:
            assert words[words.index("--variant=apt") :][-2] == "bookworm"
            archive = Path(words[-1])
            archive.write_text("\n".join(words))
            self.made.append(archive)
        if words[1] == "import" and self.works:
            change = next(word for word in words if word.startswith("LABEL ")).removeprefix("LABEL ")
            label, value = change.split("=")
            self.docker.add(digest(Path(words[-2]).read_text()), words[-1], labels={label: value})
        return ""


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    made = Programs(FakeDocker())
    monkeypatch.setattr(process, "run", made.run)
    return made


@pytest.fixture
def no_registry(programs: Programs) -> None:
    programs.docker.faults["inspect_distribution"] = APIError("no route to host")


def tools(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).touch(mode=0o755)
    return str(folder)


def base(programs: Programs, path: str, say: Callable[[str], None] = lambda _: None) -> bootstrap.Base:
    return bootstrap.bootstrap_base(
        opened(programs.docker), name=NAME, suite="bookworm", arch="arm64", environ={"PATH": path}, say=say
    )


def test_a_base_that_the_engine_has_is_taken(programs: Programs) -> None:
    programs.docker.add(digest("here"), NAME)
    assert base(programs, "") == bootstrap.Base(id=digest("here"), how="present")


def test_a_registry_that_answers_is_pulled_from(programs: Programs) -> None:
    assert base(programs, "") == bootstrap.Base(id=digest("pulled"), how="pulled")
    assert programs.docker.named(NAME) == programs.docker.named(OFFICIAL) == digest("pulled")


@pytest.mark.usefixtures("no_registry")
def test_without_a_registry_it_is_made_here(programs: Programs, tmp_path: Path) -> None:
    said: list[str] = []
    made = base(programs, tools(tmp_path, "apt-get", "mmdebstrap"), said.append)
    assert made.how == "bootstrapped"
    assert made.id == programs.docker.named(NAME)
    assert programs.docker.held[made.id].labels == {bootstrap.LABEL: "mmdebstrap-bookworm"}
    assert "no route to host" in said[0]
    assert len(programs.made) == 1
    assert not programs.made[0].exists(), "the archive is removed"


@pytest.mark.usefixtures("no_registry")
def test_without_apt_the_way_round_is_named(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "SYSTEM_PATH", str(tmp_path))
    with pytest.raises(ToolError, match=rf"no route to host.*docker tag {OFFICIAL} {NAME}.*docker load"):
        base(programs, str(tmp_path))
    assert programs.docker.named(NAME) is None


@pytest.mark.parametrize("registry", [True, False])
def test_an_engine_that_lost_the_image_is_an_error(programs: Programs, tmp_path: Path, registry: bool) -> None:
    programs.works = False
    if registry:
        programs.docker.add(digest("pulled"), OFFICIAL)
        programs.docker.tag = lambda *_: True  # type: ignore[method-assign]
    else:
        programs.docker.faults["inspect_distribution"] = APIError("no route to host")
    with pytest.raises(EngineError, match="does not have it"):
        base(programs, tools(tmp_path, "apt-get", "mmdebstrap"))


@pytest.mark.parametrize(("docker", "debian"), [("amd64", "amd64"), ("arm", "armhf"), ("386", "i386")])
def test_architectures_have_debians_names(docker: str, debian: str) -> None:
    assert bootstrap.debian_arch(docker) == debian
