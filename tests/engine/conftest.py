"""Miniature projects, each with a name of its own, and a way to type commands in them."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from invoke.program import Program

import tasks
from jetpare.build import bootstrap
from jetpare.engine import api, image_store, private
from jetpare.engine.folders import EngineFolders
from jetpare.engine.model import Engine
from jetpare.records import ledger
from jetpare.records.ledger import Ledger, Record, StageRecord
from tests.conftest import MINI, ROOT

PROFILE = "mini"
INPUTS = ("inputs/debian", "inputs/l4t-cuda", "inputs/l4t-jetpack")
JETPACK = ("jetpack/gdal", "jetpack/python", "jetpack/runtime")
CUDA = ("cuda/cudnn", "cuda/gdal", "cuda/python", "cuda/runtime")
LINUX_ROOT = os.geteuid() == 0 and shutil.which("apt-get") is not None

INVOKE = Path(sys.executable).with_name("invoke")

_numbers = itertools.count(1)


def invoke(running: Engine, *words: str) -> str:
    """What a command prints in this project itself; it has to succeed."""
    done = subprocess.run(
        [INVOKE, *words], cwd=ROOT, env={**os.environ, **running.overrides}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def rehearsal(running: Engine) -> str:
    """What `build-all` prints for the full rehearsal, whose images are there from then on."""
    return invoke(running, "build-all", "--profile", "rehearsal")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command gave."""

    code: int
    out: str
    err: str

    def path(self, word: str) -> Path:
        """The path in the line '<word>: <path>' of stdout."""
        found = re.search(rf"^{word}:\s+(\S+)", self.out, re.MULTILINE)
        assert found, self.out
        return Path(found[1])


@dataclass(frozen=True, kw_only=True)
class Mini:
    """A miniature project in a folder of its own; ``name`` stands before the slash of its images' tags."""

    root: Path
    name: str
    engine: Engine
    environ: Mapping[str, str] = field(repr=False)

    def __call__(self, *words: str, **environ: str) -> Answer:
        """Type `invoke *words*` with *environ* beside the environment, in this process."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch:
            for key, value in {**self.environ, **environ}.items():
                patch.setenv(key, value)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    Program(namespace=tasks.ns).run(["invoke", *words])
                except SystemExit as end:
                    code = int(end.code or 0)
        return Answer(code=code, out=out.getvalue(), err=err.getvalue())

    def ok(self, *words: str, **environ: str) -> Answer:
        """The same for a command that has to succeed."""
        answer = self(*words, **environ)
        assert answer.code == 0, f"{words}\n{answer.out}\n{answer.err}"
        return answer

    @contextlib.contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """`invoke *words*` as a process of its own; ended with the block."""
        argv = [sys.executable, "-m", "invoke", "--search-root", str(ROOT), *words]
        with subprocess.Popen(
            argv,
            env={**os.environ, **self.environ},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def apart(self, *words: str) -> Answer:
        """Type `invoke *words*` as a process of its own, and wait for its end."""
        with self.started(*words) as process:
            out, err = process.communicate(timeout=120)
            return Answer(code=process.returncode, out=out, err=err)

    def knob(self, stage: str, script: str) -> None:
        """Let *stage* run *script*; what it says is unique, so that no cache knows it."""
        unique = f"# {self.name} {next(_numbers)}\n"
        (self.root / "knobs" / f"{stage}.sh").write_text(f"{unique}{script}\n")

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace *old* by *new* in a file of the project."""
        path = self.root / file
        before = path.read_text()
        assert old in before
        path.write_text(before.replace(old, new))

    def tag(self, image: str, profile: str = PROFILE) -> str:
        """The tag of a finished image."""
        return f"{self.name}/{image}:{profile}"

    def image_id(self, image: str, profile: str = PROFILE) -> str | None:
        """The id of a finished image, None where it is not tagged."""
        facts = image_store.inspect_image(self.engine, self.tag(image, profile))
        return facts.id if facts else None

    def records(self) -> list[Record]:
        """All readable records, newest first."""
        return [record for record, _ in Ledger(self.root / ".jetpare").records() if record is not None]

    def newest(self) -> Record:
        """The newest record."""
        return self.records()[0]

    def row(self, label: str) -> StageRecord:
        """A stage of the newest record."""
        row = self.newest().stage(label)
        assert row is not None
        return row

    def file(self, relative: str | None) -> Path:
        """A file of the newest run."""
        assert relative is not None
        return self.root / ".jetpare" / "runs" / self.newest().id / relative

    def images(self) -> list[dict[str, Any]]:
        """Whatever of this project the engine has."""
        with api.client(self.engine) as docker:
            labelled = docker.api.images(filters={"label": f"jetpare.project={self.name}"})
            # A filter by name would leave an image's foreign names out of the answer.
            named = [
                image
                for image in docker.api.images()
                if any(name.startswith(f"{self.name}/") for name in image.get("RepoTags") or ())
            ]
        return list({image["Id"]: image for image in [*labelled, *named]}.values())

    def remove_images(self) -> None:
        """Remove them; an image that has a foreign name too, as the Debian base has, loses only ours."""
        from docker.errors import ImageNotFound

        for image in self.images():
            names = [name for name in image.get("RepoTags") or () if not name.startswith("<none>")]
            ours = [name for name in names if name.startswith(f"{self.name}/")]
            for reference in ours if len(ours) < len(names) else [*ours, image["Id"]]:
                with api.client(self.engine) as docker, contextlib.suppress(ImageNotFound):
                    docker.api.remove_image(reference)


def cli_environ(target: Engine, folder: Path) -> dict[str, str]:
    """What a shell needs for its `docker`, and so for `invoke`, to reach *target*."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "docker").symlink_to(shutil.which(target.docker) or target.docker)
    # A home without settings: neither Invoke's nor pip's files of whoever runs the tests count.
    return {**target.overrides, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def make_mini(folder: Path, *, target: Engine, environ: Mapping[str, str], base: str) -> Mini:
    """A new miniature, whose Debian is the image *base* that is in *target* already."""
    name = f"jetpare-test-{os.getpid()}-{next(_numbers)}"
    root = folder / name
    shutil.copytree(MINI, root)
    mini = Mini(root=root, name=name, engine=target, environ={**environ, "JETPARE_ROOT": str(root)})
    mini.edit("build.toml", 'name = "jetpare-mini"', f'name = "{name}"')
    image_store.tag_image(target, base, f"{name}/{base.partition('/')[2]}")
    return mini


@pytest.fixture(scope="session")
def debian(running: Engine) -> str:
    """The Debian base of all miniatures: made once, and kept for the next run of the tests."""
    arch = api.facts(running).arch
    name = f"jetpare-mini/debian:bookworm-{arch}"
    bootstrap.bootstrap_base(running, name=name, suite="bookworm", arch=arch, environ=dict(os.environ))
    return name


@pytest.fixture(scope="module")
def fresh(running: Engine, debian: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Mini]]:
    """Makes miniatures; their images go at the end of the module."""
    made: list[Mini] = []
    folder = tmp_path_factory.mktemp("minis")
    environ = cli_environ(running, folder / "bin")

    def make() -> Mini:
        made.append(make_mini(folder, target=running, environ=environ, base=debian))
        return made[-1]

    yield make
    for mini in made:
        mini.remove_images()
        assert mini.images() == []


@pytest.fixture(scope="session")
def private_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state folder of a private engine, which is not up; its root is made once for all tests."""
    if not LINUX_ROOT:
        if os.environ.get("CI"):
            pytest.fail("a private engine needs root and apt")
        pytest.skip("a private engine needs root and apt")
    # Deeper than a unix socket's path may be long.
    state = tmp_path_factory.mktemp("deep") / ("a-deep-project-folder-" * 5) / "state"
    yield state
    private.down(state=state, purge=True)
    folders = EngineFolders.of(state)
    assert leftovers(folders) == []
    assert not folders.home.exists()


def leftovers(folders: EngineFolders) -> list[str]:
    """Whatever of the engine is still on this host after `down`."""
    found = [f"process {pid}: {words}" for pid, words in private.running_processes() if folders.mark in " ".join(words)]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folders.home) in line]
    found += [str(path) for path in (folders.run, Path("/sys/class/net", folders.bridge)) if path.exists()]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{folders.mark}")]
    if (folders.rootfs / "usr/sbin/iptables-nft").exists():
        for table in ("nat", "filter"):
            words = ["chroot", str(folders.rootfs), "iptables-nft", "-t", table, "-S"]
            rules = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            found += [rule for rule in rules.splitlines() if folders.bridge in rule]
    return found


def clean_environ() -> dict[str, str]:
    """This environment, pointing to no engine."""
    return {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}


def statuses(record: Record) -> dict[str, str]:
    """The status of every node of a run."""
    return {row.label: row.status for row in record.stages}


def assert_whole(mini: Mini, record: Record, labels: tuple[str, ...]) -> None:
    """*record* is one of a run that built *labels* and nothing else, with all the files that it names."""
    assert record.status == ledger.SUCCEEDED
    assert statuses(record) == dict.fromkeys(labels, ledger.OK)
    folder = Ledger(mini.root / ".jetpare").path(record.id)
    for row in record.stages:
        if row.label == "inputs/debian":
            continue  # not BuildKit's work: there is no stream to keep
        for relative in (row.log, row.events):
            assert relative, row
            assert (folder / relative).stat().st_size > 0, relative
        assert row.seconds is not None
        assert row.inputs
