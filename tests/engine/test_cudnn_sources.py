"""Stage cudnn of the real Dockerfile, from each of its sources, with small libraries in place of NVIDIA's."""

from __future__ import annotations

import csv
import hashlib
import os
import platform
import shutil
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jetpare.base import process
from jetpare.engine import api
from jetpare.engine.model import Engine
from tests.conftest import ROOT
from tests.engine.conftest import Mini, cli_environ
from tests.unit.test_scripts import elf

pytestmark = pytest.mark.engine

MACHINE = platform.machine()
LIB, INCLUDE = f"usr/lib/{MACHINE}-linux-gnu", f"usr/include/{MACHINE}-linux-gnu"
CUDA_LIB = f"usr/local/cuda-12.6/targets/{MACHINE}-linux/lib"
CUDNN, CUPTI = "9.10.2", "12.6.80"
FILES = {
    f"{LIB}/libcudnn.so.{CUDNN}": elf("libcudnn.so.9"),
    f"{INCLUDE}/cudnn.h": b"#pragma once\n",
    f"{CUDA_LIB}/libcupti.so.{CUPTI}": elf("libcupti.so.12"),
}
LINKS = {
    f"{LIB}/libcudnn.so.9": f"libcudnn.so.{CUDNN}",
    f"{LIB}/libcudnn.so": "libcudnn.so.9",
    f"{CUDA_LIB}/libcupti.so.12": f"libcupti.so.{CUPTI}",
    f"{CUDA_LIB}/libcupti.so": "libcupti.so.12",
}
WHEELS = {
    "nvidia_cudnn_cu99-9.10.2.21": {
        "nvidia/cudnn/lib/libcudnn.so.9": elf("libcudnn.so.9"),
        "nvidia/cudnn/include/cudnn.h": b"#pragma once\n",
    },
    "nvidia_cuda_cupti_cu99-12.6.80": {"nvidia/cuda_cupti/lib/libcupti.so.12": elf("libcupti.so.12")},
}
PINS = {
    "wheel": ["nvidia-cudnn-cu99==9.10.2.21", "nvidia-cuda-cupti-cu99==12.6.80"],
    "apt": ["libcudnn9-cuda-12=9.10.2.21-1", "cuda-cupti-12-6=12.6.80-1"],
}

BASES = """FROM {debian} AS cuda
RUN --mount=type=bind,source=scripts/image,target=/run/jetpare --mount=type=secret,id=ca --mount=type=secret,id=net \\
    /run/jetpare/apt-install.sh python3 python3-venv && \\
    mkdir -p /usr/local/cuda-12.6 && ln -s cuda-12.6 /usr/local/cuda
FROM cuda AS jetpack
COPY base /
"""


def lay_out(root: Path, *, only: str = "") -> None:
    """The libraries as JetPack has them, below *root*; with *only*, those with this in their names."""
    for name, data in FILES.items():
        if only in name:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
    for name, target in LINKS.items():
        if only in name:
            (root / name).symlink_to(target)


@pytest.fixture(scope="module")
def project(running: Engine, debian: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mini]:
    """The real Dockerfiles and scripts on two small bases; the slim one has a CUDA folder and no cuDNN."""
    folder = tmp_path_factory.mktemp("sources")
    name = f"jetpare-test-{os.getpid()}-cudnn"
    root = folder / "project"
    for part in ("dockerfiles", "scripts"):
        shutil.copytree(ROOT / part, root / part)
    lay_out(root / "base")
    (root / "base.Dockerfile").write_text(BASES.format(debian=debian))
    write_wheels(root / "wheels")
    made = Mini(
        root=root, name=name, engine=running, environ=cli_environ(running, folder / "bin") | {"JETPARE_ROOT": str(root)}
    )
    configure(made, source="jetpack", extra="")
    yield made
    made.remove_images()


def write_wheels(folder: Path) -> None:
    folder.mkdir()
    for name, files in WHEELS.items():
        with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
            for path, data in files.items():
                wheel.writestr(path, data)
            project, version = name.split("-")
            info = f"{name}.dist-info"
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")


def configure(
    project: Mini, *, source: str, extra: str, expect: str = 'cudnn = "9.10"\ncudnn_compiled = "9.8"'
) -> None:
    """Write build.toml: the real one's collect, one profile, and this source."""
    real = (ROOT / "build.toml").read_text()
    collect = real[real.index("[collect]") : real.index("]\n\n", real.index("optional = [")) + 2]
    wheels = repr(PINS["wheel"]).replace("'", '"')
    target = 'dockerfile = "base.Dockerfile", target ='
    (project.root / "build.toml").write_text(f"""
[project]
name = "{project.name}"
baseline = "cuda"
default_profile = {{ arm64 = "small", amd64 = "small" }}
[images.cuda]
dockerfile = "dockerfiles/images.Dockerfile"
description = "for a test"
base = "l4t-cuda"
[images.cuda.stages]
cudnn = ["l4t-jetpack"]
runtime = ["l4t-cuda", "cudnn"]
{collect}
[cudnn]
source = "{source}"
wheels = {wheels}
{extra}
[gdal]
packages = ["gcc"]
[python]
uv = "0.9.11"
requirements = ["torch==2.8.0"]
wheels = ["wheels"]
[runtime]
packages = ["tzdata"]
[profiles.small]
description = "small"
platform = "host"
gdal = "1.0"
cuda = true
disk_gb = 1
[profiles.small.expect]
{expect}
[profiles.small.contexts]
l4t-cuda = {{ {target} "cuda" }}
l4t-jetpack = {{ {target} "jetpack" }}
""")


@pytest.fixture(scope="module")
def repository(running: Engine, project: Mini, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A signed package repository that builds can reach; what build.toml says of it."""
    for program in ("gpg", "dpkg-deb", "dpkg-scanpackages"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here to make a package repository with")
    folder = tmp_path_factory.mktemp("repository")
    pool, arch = folder / "pool", api.facts(running).arch
    for pin, only in (PINS["apt"][0], "cudnn"), (PINS["apt"][1], "cupti"):
        name, _, version = pin.partition("=")
        root = folder / name
        lay_out(root, only=only)
        (root / "DEBIAN").mkdir()
        (root / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\nMaintainer: nobody <nobody@example.org>\n"
            "Depends: what-no-repository-has\nDescription: a test\n"
        )
        pool.mkdir(exist_ok=True)
        process.run(["dpkg-deb", "--build", "--root-owner-group", root, pool])
    index = folder / f"dists/r36.4/main/binary-{arch}"
    index.mkdir(parents=True)
    listed = process.run(["dpkg-scanpackages", "--multiversion", "pool"], cwd=folder)
    (index / "Packages").write_text(listed)
    sign(folder, project.root / "key.asc", arch)
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("0.0.0.0", 0), partial(handler, directory=str(folder))) as server:  # noqa: S104 - containers ask
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with api.client(running) as docker:
            gateway = docker.api.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"]
        packages = repr(PINS["apt"]).replace("'", '"')
        url = f"http://{gateway}:{server.server_port}"
        yield (
            f"packages = {packages}\n"
            f'repository = {{ url = "{url}", suite = "r36.4", components = ["main"], key = "key.asc" }}\n'
        )
        server.shutdown()
        thread.join()


def sign(folder: Path, key: Path, arch: str) -> None:
    """Write the Release file that apt wants, signed with a key of its own, which goes to *key*."""
    suite = folder / "dists/r36.4"
    packages = suite / f"main/binary-{arch}/Packages"
    checksum = hashlib.sha256(packages.read_bytes()).hexdigest()
    (suite / "Release").write_text(
        f"Suite: r36.4\nCodename: r36.4\nComponents: main\nArchitectures: {arch}\n"
        "Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
        f" {checksum} {packages.stat().st_size} {packages.relative_to(suite)}\n"
    )
    home = folder / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    process.run([*gpg, "--quick-generate-key", "test@example.org", "rsa2048", "sign", "never"])
    process.run([*gpg, "--output", suite / "InRelease", "--clearsign", suite / "Release"])
    key.write_text(process.run([*gpg, "--armor", "--export"]))
    process.run(["gpgconf", "--homedir", home, "--kill", "all"])
    shutil.rmtree(home)


def manifest(project: Mini) -> dict[str, tuple[str, str, str]]:
    """What was collected: type, size and target by path."""
    record = project.newest()
    with (project.root / ".jetpare/runs" / record.id / "reports/cuda-cudnn/cudnn.tsv").open(newline="") as file:
        return {row["path"]: (row["type"], row["size"], row["target"]) for row in csv.DictReader(file, delimiter="\t")}


EXPECTED = {f"/{name}": ("file", str(len(data)), "") for name, data in FILES.items()}
EXPECTED |= {f"/{name}": ("link", "0", target) for name, target in LINKS.items()}


@pytest.mark.parametrize("source", ["jetpack", "wheel"])
def test_every_source_gives_the_same_tree(project: Mini, source: str) -> None:
    configure(project, source=source, extra="")
    project.ok("extract-cudnn")
    assert manifest(project) == EXPECTED
    base = "l4t-jetpack" if source == "jetpack" else "l4t-cuda"
    made = {row.label for row in project.newest().stages}
    assert made == {f"inputs/{base}", "cuda/cudnn"}


def test_packages_give_the_same_tree(project: Mini, repository: str) -> None:
    configure(project, source="apt", extra=repository)
    project.ok("extract-cudnn")
    assert manifest(project) == EXPECTED
    assert "inputs/l4t-jetpack" not in {row.label for row in project.newest().stages}


def test_packages_with_another_signature_are_refused(project: Mini, repository: str) -> None:
    configure(project, source="apt", extra=repository)
    key = project.root / "key.asc"
    right = key.read_text()
    key.write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEaA==\n-----END PGP PUBLIC KEY BLOCK-----\n")
    try:
        answer = project("extract-cudnn", "--no-cache")
        assert answer.code == 5
        assert "signature" in answer.err
    finally:
        key.write_text(right)


def test_what_no_source_has_stops_the_build(project: Mini) -> None:
    configure(project, source="wheel", extra="")
    project.edit("build.toml", ', "nvidia-cuda-cupti-cu99==12.6.80"', "")
    answer = project("extract-cudnn")
    assert answer.code == 5
    assert "libcupti*.so*" in answer.err
    assert "match nothing" in answer.err


@pytest.mark.parametrize("source", ["jetpack", "wheel"])
def test_a_version_that_does_not_fit_ends_it_at_once(project: Mini, source: str) -> None:
    """By its pin before anything runs; what JetPack has is known when it was collected, and nothing else is built then."""
    before = len(project.records())
    configure(project, source=source, extra="", expect='cudnn = "9.11"\ncudnn_compiled = "9.11"')
    answer = project("build-all")
    assert answer.code == 2
    assert "9.11 or later of the same major version is needed" in answer.err
    if source == "wheel":
        assert len(project.records()) == before
        assert "[cudnn] source 'wheel': cuDNN is 9.10.2.21" in answer.err
    else:
        assert "cuda/cudnn: cuDNN is 9.10.2" in answer.err
        assert {row.label: row.status for row in project.newest().stages}["cuda/runtime"] == "skipped"
