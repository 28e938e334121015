"""The scripts that work inside a build, as far as they can be shown without an engine."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import struct
import sys
import zipfile
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from jetpare.base import process
from jetpare.base.errors import ToolError

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts/image"
sys.path.insert(0, str(SCRIPTS))  # scripts import the ones next to them


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_python = load("check_python")
collect = load("collect")
elves = load("elf")
probe = load("probe")
standin = load("nvidia-wheels")


def elf(soname: str) -> bytes:
    """A 64-bit ELF that holds nothing but a dynamic section with a soname."""
    strings = b"\0" + soname.encode() + b"\0"
    dynamic = struct.pack("<qQqQqQ", 5, 0x1000 + 64 + 2 * 56, 14, 1, 0, 0)
    text = 64 + 2 * 56
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    size = text + len(strings) + len(dynamic)
    segments = struct.pack("<IIQQQQQQ", 1, 4, 0, 0x1000, 0x1000, size, size, 4096)
    segments += struct.pack("<IIQQQQQQ", 2, 4, text + len(strings), 0, 0, len(dynamic), len(dynamic), 8)
    return header + segments + strings + dynamic


@pytest.fixture
def jetpack(tmp_path: Path) -> Path:
    """JetPack's layout in small: cuda is a link, so is lib64; a library has its three names, a header its detour."""
    root = tmp_path / "root"
    lib = root / "usr/lib/aarch64-linux-gnu"
    cuda = root / "usr/local/cuda-12.6/targets/aarch64-linux/lib"
    include = root / "usr/include/aarch64-linux-gnu"
    for folder in (lib, cuda, include, root / "etc/alternatives"):
        folder.mkdir(parents=True)
    (root / "usr/local/cuda").symlink_to("cuda-12.6")
    (root / "usr/local/cuda-12.6/lib64").symlink_to("targets/aarch64-linux/lib")
    (lib / "libcudnn.so.9.3.0").write_bytes(elf("libcudnn.so.9"))
    (lib / "libcudnn.so.9").symlink_to("libcudnn.so.9.3.0")
    (lib / "libcudnn.so").symlink_to("libcudnn.so.9")
    (cuda / "libcupti.so.2024.3.2").write_bytes(elf("libcupti.so.12"))
    (cuda / "libcupti.so.12").symlink_to("libcupti.so.2024.3.2")
    (include / "cudnn_v9.h").write_text("#pragma once\n")
    (include / "cudnn_v9.h").chmod(0o640)
    (root / "etc/alternatives/libcudnn").symlink_to("/usr/include/aarch64-linux-gnu/cudnn_v9.h")
    (include / "cudnn.h").symlink_to("/etc/alternatives/libcudnn")
    return root


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or path.is_file()}


def test_collect_keeps_links_and_brings_what_they_point_at(jetpack: Path, tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    rows = collect.collect("usr/lib/*/libcudnn.so\nusr/include/*/cudnn.h", root=jetpack, stage=stage)
    lib, include = "usr/lib/aarch64-linux-gnu/libcudnn.so", "usr/include/aarch64-linux-gnu/"
    taken = {lib, lib + ".9", lib + ".9.3.0", include + "cudnn.h", include + "cudnn_v9.h", "etc/alternatives/libcudnn"}
    assert tree(stage) == {*taken, collect.MANIFEST}
    assert str((stage / lib).readlink()) == "libcudnn.so.9"
    assert str((stage / include / "cudnn.h").readlink()) == "/etc/alternatives/libcudnn"
    assert (stage / include / "cudnn_v9.h").stat().st_mode & 0o777 == 0o640
    by_path = {row["path"]: row for row in rows}
    assert by_path["/" + lib]["real_path"] == f"/{lib}.9.3.0"
    assert by_path["/" + lib]["target"] == "libcudnn.so.9"
    assert by_path[f"/{lib}.9.3.0"]["soname"] == "libcudnn.so.9"
    assert by_path[f"/{include}cudnn.h"]["real_path"] == f"/{include}cudnn_v9.h"


def test_collect_writes_below_real_folders_and_tells_the_loader(jetpack: Path, tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    collect.collect("usr/local/cuda/lib64/libcupti.so*\nusr/lib/*/libcudnn.so*", root=jetpack, stage=stage)
    assert not (stage / "usr/local/cuda").exists()
    assert (stage / "usr/local/cuda-12.6/targets/aarch64-linux/lib/libcupti.so.12").is_symlink()
    assert (stage / collect.LOADER).read_text() == "/usr/local/cuda-12.6/targets/aarch64-linux/lib\n"


def test_collect_manifest_has_a_line_for_each_file_and_link(jetpack: Path, tmp_path: Path) -> None:
    rows = collect.collect("usr/lib/*/libcudnn.so*", root=jetpack, stage=tmp_path / "stage")
    lines = (tmp_path / "stage" / collect.MANIFEST).read_text().splitlines()
    assert lines[0] == "path\ttype\tsize\tsoname\treal_path\ttarget"
    assert len(lines) == 1 + len(rows) == 4
    assert all(len(line.split("\t")) == 6 for line in lines)


def test_collect_names_every_pattern_that_matches_nothing(
    jetpack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLECT", "usr/lib/*/libcudnn.so*\nusr/lib/libone.so\nopt/maybe/* ?\nusr/lib/libtwo.so")
    stage = tmp_path / "stage"
    assert collect.main(["--root", str(jetpack), "--stage", str(stage)]) == 1
    said = capsys.readouterr().err
    assert "usr/lib/libone.so" in said
    assert "usr/lib/libtwo.so" in said
    assert "maybe" not in said
    assert not stage.exists()


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../etc/passwd", "usr/../../x", ""])
def test_collect_refuses_patterns_that_could_leave_the_root(pattern: str, jetpack: Path, tmp_path: Path) -> None:
    with pytest.raises(collect.Refused):
        collect.collect(pattern, root=jetpack, stage=tmp_path / "stage")


def test_collect_refuses_a_dangling_link_and_one_that_leaves_the_root(jetpack: Path, tmp_path: Path) -> None:
    (jetpack / "usr/lib/dangling.so").symlink_to("nowhere.so")
    (jetpack / "usr/lib/out.so").symlink_to("../../../../../../../../../../etc/passwd")
    for name in ("dangling.so", "out.so"):
        with pytest.raises(collect.Refused, match=name if name == "out.so" else "nowhere"):
            collect.collect(f"usr/lib/{name}", root=jetpack, stage=tmp_path / "stage")


def test_soname_of_what_is_no_library_is_empty(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not an ELF")
    (tmp_path / "short").write_bytes(b"\x7fELF")
    assert elves.soname(tmp_path / "text") == ""
    assert elves.soname(tmp_path / "short") == ""


def test_probe_knows_what_the_host_mounts() -> None:
    def status(library: str) -> str:
        return str(probe.judge(OSError(f"{library}: cannot open shared object file: No such file or directory"))[0])

    for library in ("libcuda.so.1", "libnvrm_gpu.so", "libnvos.so", "libnvidia-ml.so.1", "libnvcudla.so"):
        assert status(library) == "not measured"
    for library in (
        "libcudnn.so.9",
        "libnvrtc.so.12",
        "libnvJitLink.so.12",
        "libnvinfer.so.10",
        "libnvdla_compiler.so",
    ):
        assert status(library) == "failed"
    assert probe.judge(ValueError("no"))[0] == "failed"


def test_probe_reads_version_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def library(**functions: int) -> object:
        return lambda *_: SimpleNamespace(**{name: (lambda value=value: value) for name, value in functions.items()})

    for number, version in ((90300, "9.3.0"), (91002, "9.10.2"), (8904, "8.9.4")):
        monkeypatch.setattr(probe, "load", library(cudnnGetVersion=number))
        assert probe.cudnn_version() == version
    for number, version in ((8601, "8.6.1"), (100300, "10.3.0")):
        monkeypatch.setattr(probe, "load", library(getInferLibVersion=number))
        assert probe.tensorrt_version() == version


def test_probe_compares_numbers() -> None:
    probe.expect([[1.0, 2.0]], [1.0, 2.0 + 1e-12], "same")
    for found in ([1.0], [1.0, 2.1]):
        with pytest.raises(probe.Failed):
            probe.expect(found, [1.0, 2.0], "other")


def test_stand_in_lays_wheels_out_as_jetpack_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standin.platform, "machine", lambda: "aarch64")
    wheels, root = tmp_path / "wheels", tmp_path / "root"
    wheels.mkdir()
    for name, package, library in (
        ("nvidia_cudnn_cu12-9.10.2.21", "nvidia/cudnn", "libcudnn.so.9"),
        ("nvidia_cublas_cu12-12.6.4.1", "nvidia/cublas", "libcublas.so.12"),
    ):
        with zipfile.ZipFile(wheels / f"{name}-py3-none-manylinux_2_27_aarch64.whl", "w") as archive:
            archive.writestr(f"{package}/lib/{library}", "elf")
            archive.writestr(f"{package}/include/{package[7:]}.h", "header")
    assert standin.main(["runtime", str(wheels), "--root", str(root)]) == 0
    cuda = root / "usr/local/cuda-12.6/targets/aarch64-linux"
    assert tree(root / "usr/local/cuda-12.6/targets") == {
        "aarch64-linux/lib/libcublas.so.12",
        "aarch64-linux/lib/libcublas.so.12.6.4.1",
    }
    assert (root / "usr/local/cuda/lib64/libcublas.so.12").read_text() == "elf"
    assert standin.main(["devel", str(wheels), "--root", str(root)]) == 0
    lib = root / "usr/lib/aarch64-linux-gnu"
    assert [str((lib / name).readlink()) for name in ("libcudnn.so", "libcudnn.so.9")] == [
        "libcudnn.so.9",
        "libcudnn.so.9.10.2",
    ]
    assert (root / "usr/include/aarch64-linux-gnu/cudnn.h").is_file()
    assert (cuda / "include/cublas.h").is_file()
    assert str((cuda / "lib/libcublas.so").readlink()) == "libcublas.so.12"


@pytest.mark.parametrize("named", [False, True])
def test_wheels_are_laid_out_for_whichever_cuda_the_base_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    monkeypatch.setattr(standin.platform, "machine", lambda: "riscv64" if named else "aarch64")
    for name, package, library in (
        ("nvidia_cudnn_cu13-9.12.0.46", "nvidia/cudnn", "libcudnn.so.9"),
        ("nvidia_cublas-13.0.0.19", "nvidia/cu13", "libcublas.so.13"),
    ):
        with zipfile.ZipFile(tmp_path / f"{name}-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{package}/lib/{library}", "elf")
            archive.writestr(f"{package}/include/{name[7:12]}.h", "header")
    root = tmp_path / "root"
    words = ["all", str(tmp_path), "--root", str(root), "--cuda", "/usr/local/cuda-13.0"]
    words += ["--machine", "aarch64"] if named else []
    assert standin.main(words) == 0
    cuda = "usr/local/cuda-13.0/targets/aarch64-linux"
    libraries = "usr/lib/aarch64-linux-gnu"
    assert tree(root) == {
        "usr/include/aarch64-linux-gnu/cudnn.h",
        *(f"{libraries}/libcudnn.so{end}" for end in ("", ".9", ".9.12.0")),
        f"{cuda}/include/cubla.h",
        *(f"{cuda}/lib/libcublas.so{end}" for end in ("", ".13", ".13.0.0.19")),
    }


def test_rehearsal_wheels_are_all_pinned_by_checksum() -> None:
    text = (SCRIPTS / "rehearsal-cuda.txt").read_text()
    entries = [entry for entry in text.replace("\\\n", "").splitlines() if entry and not entry.startswith("#")]
    assert len(entries) == 14
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize(
    "path", [*sorted(SCRIPTS.glob("*.sh")), ROOT / "scripts/host/emulation.sh"], ids=lambda path: path.stem
)
def test_shell_scripts_tell_how_they_are_used_and_stop_at_errors(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("#!/bin/sh\n")
    assert "\n# usage: " in text
    if path.stem not in {"net", "cross"}:  # sourced
        assert os.access(path, os.X_OK)
        assert "\nset -eu" in text


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment with a torch for CUDA, numpy, and one dependency."""
    site = tmp_path / "venv/lib/python3.11/site-packages"
    distribution(
        site, "torch", "2.8.0+cu126", "filelock", "sympy>=1.13.3", 'nvidia-cudnn-cu12==9.10; python_version > "3"'
    )
    distribution(site, "numpy", "1.26.4")
    distribution(site, "filelock", "3.0", 'pytest; extra == "test"')
    distribution(site, "sympy", "1.14.0")
    (site / "torch/lib").mkdir(parents=True)
    (site / "torch/lib/libtorch_cuda.so").touch()
    (site / "torch/version.py").write_text("__version__ = '2.8.0+cu126'\ncuda: Optional[str] = '12.6'\nhip = None\n")
    return tmp_path / "venv"


def distribution(site: Path, name: str, version: str, *requires: str) -> None:
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    needs = "".join(f"Requires-Dist: {text}\n" for text in requires)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
    (folder / "RECORD").write_text(f"{name}-{version}.dist-info/METADATA,,\n")


PINS = ("torch==2.8.0", "numpy==1.26.4", "filelock==3.0", "sympy==1.14.0")


def checked(venv: Path, *pins: str, provided: str = "nvidia-*") -> tuple[int, dict[str, Any]]:
    report = venv.parent / "python.json"
    options = ["--venv", str(venv), "--report", str(report), "--cuda", "1", "--provided", provided]
    code = check_python.main([*options, "--indexes", "https://user:word@index.example/simple", "--", *pins])
    return code, json.loads(report.read_text())


def test_check_python_passes_and_records(venv: Path) -> None:
    code, report = checked(venv, *PINS)
    assert (code, report["faults"]) == (0, [])
    assert report["distributions"]["torch"]["version"] == "2.8.0+cu126"
    assert report["distributions"]["torch"]["bytes"] > 0
    assert report["torch_cuda"] == "12.6"
    assert report["indexes"] == ["https://index.example/simple"]


def test_check_python_takes_any_spelling_of_a_provided_name(venv: Path) -> None:
    assert checked(venv, *PINS, provided="NVIDIA__*")[0] == 0


def test_check_python_names_every_fault(venv: Path) -> None:
    code, report = checked(venv, "torch==2.7.0", "numpy==1.26.4", "sympy==1.14.0", "rich==1.0", provided="")
    assert code == 1
    said = "\n".join(report["faults"])
    for part in (
        "torch==2.7.0 was asked for, 2.8.0+cu126 is installed",
        "rich==1.0 is not installed",
        "filelock 3.0 is installed, and no requirement names it",
        "torch needs nvidia-cudnn-cu12==9.10",
    ):
        assert part in said
    assert "pytest" not in said


@pytest.mark.parametrize(("machine", "code"), [("aarch64", 1), ("x86_64", 0)])
def test_check_python_reads_conditions_as_the_target_does(venv: Path, machine: str, code: int) -> None:
    site = venv / "lib/python3.11/site-packages"
    distribution(site, "extra", "1.0", 'nothing>=1; platform_machine == "aarch64"')
    options = ["--venv", str(venv), "--report", str(venv.parent / "r.json"), "--provided", "nvidia-*"]
    assert check_python.main([*options, "--machine", machine, "--", *PINS, "extra==1.0"]) == code


@pytest.mark.parametrize("version", ["2.8.0+cpu", "2.8.0"])
def test_check_python_refuses_a_cpu_torch(version: str, venv: Path) -> None:
    site = venv / "lib/python3.11/site-packages"
    (site / "torch-2.8.0+cu126.dist-info/METADATA").write_text(
        f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n"
    )
    (site / "torch/version.py").write_text("cuda: Optional[str] = None\n")
    (site / "torch/lib/libtorch_cuda.so").unlink()
    code, report = checked(venv, *PINS)
    assert code == 1
    assert "CPU build" in report["faults"][0]
    assert "libtorch_cuda.so" in report["faults"][1]


@pytest.mark.processes
def test_network_settings_come_from_the_secrets_alone(tmp_path: Path) -> None:
    ca, net = tmp_path / "ca.pem", tmp_path / "net"
    ca.write_text("PEM")
    net.write_text("export UV_INDEX='https://index.example/simple'\n")
    script = f". {SCRIPTS}/net.sh; echo $UV_INDEX $PIP_CERT; cat $APT_CONFIG"
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "JETPARE_CA": str(ca), "JETPARE_NET": str(net)}
    said = process.run(["sh", "-euc", script], env=env)
    assert said.startswith(f"https://index.example/simple {ca}\nAcquire::https::CAInfo ")
    for path in (ca, net):
        path.write_text("")
    assert process.run(["sh", "-euc", f". {SCRIPTS}/net.sh; env"], env=env).find("PIP_CERT") == -1


@pytest.mark.processes
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_network_settings_are_never_printed(shell: str, tmp_path: Path) -> None:
    ca, net = tmp_path / "ca.pem", tmp_path / "net"
    ca.write_text("PEM hunter2")
    url = "http://me:hunter2@127.0.0.1:1/simple"
    net.write_text(f"export PIP_INDEX_URL='{url}'\nexport HTTPS_PROXY='{url}'\n")
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "JETPARE_CA": str(ca), "JETPARE_NET": str(net)}
    assert process.run([shell, "-euc", f"exec 2>&1; . {SCRIPTS}/net.sh"], env=env) == ""
    pip = f"{sys.executable} -m pip --no-cache-dir --disable-pip-version-check --retries 0 --timeout 1 download nothing-at-all"
    # pip wants a bundle that it can read
    script = f"exec 2>&1; . {SCRIPTS}/net.sh; cat $APT_CONFIG; unset PIP_CERT REQUESTS_CA_BUNDLE; {pip} || true"
    said = process.run([shell, "-euc", script], env=env)
    assert "127.0.0.1:1" in said
    assert "hunter2" not in said


@pytest.mark.processes
def test_wheels_are_found_in_folders_with_spaces(tmp_path: Path) -> None:
    """uv, python3, rm and mv are stand-ins that do nothing, as the script works on /opt/venv."""
    stubs, wheels, said = tmp_path / "bin", tmp_path / "wheels", tmp_path / "said"
    for folder in ("my torch", "other"):
        (wheels / folder).mkdir(parents=True)
        (wheels / folder / "a.whl").touch()
    stubs.mkdir()
    uv = f"#!/bin/sh\nprintf '%s\\n' \"$@\" >>{said}\n"
    texts = {
        "uv": uv,
        "rm": "#!/bin/sh\n",
        "mv": "#!/bin/sh\n",
        "python3": f'#!/bin/sh\n[ "$2" = venv ] || exit 0\nmkdir -p "$3/bin"\ncp {stubs}/uv {stubs}/python "$3/bin"\n',
        "python": "#!/bin/sh\n",
    }
    for name, text in texts.items():
        (stubs / name).write_text(text)
        (stubs / name).chmod(0o755)
    env = {
        "PATH": f"{stubs}:{os.environ['PATH']}", "TMPDIR": str(tmp_path), "WHEELS": str(wheels), "UV_VERSION": "1",
        "STAGE": str(tmp_path / "stage"), "REPORT": str(tmp_path / "report"), "UV_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHON_REQUIREMENTS": "torch==2.8.0 numpy==1.26.4", "PYTHON_INDEXES": "https://a https://b",
        "JETPARE_CA": "/none", "JETPARE_NET": "/none",
    }  # fmt: skip
    process.run(["sh", SCRIPTS / "install-pytorch.sh"], env=env)
    words = said.read_text().splitlines()
    options = [f"{a} {b}" for a, b in pairwise(words) if a in {"--index", "--find-links"}]
    assert options == [
        "--index https://a",
        "--index https://b",
        f"--find-links {wheels}/my torch",
        f"--find-links {wheels}/other",
    ]
    assert words[-2:] == ["torch==2.8.0", "numpy==1.26.4"]


def test_probe_ends_as_its_checks_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong() -> str:
        raise probe.Failed("four")

    def unknown() -> str:
        raise probe.NotMeasured("not here")

    monkeypatch.setattr(probe, "versions", dict)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # main sets it, and the flag, for good
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    monkeypatch.setattr(probe, "CHECKS", {"good": lambda: "fine", "unknown": unknown})
    assert probe.main([]) == 0
    capsys.readouterr()
    monkeypatch.setattr(probe, "CHECKS", {"good": lambda: "fine", "bad": wrong, "unknown": unknown})
    assert probe.main(["--output", str(tmp_path / "a/report.json")]) == 1
    out, err = capsys.readouterr()
    assert err == "probe: bad failed: four\n"
    assert (tmp_path / "a/report.json").read_text() == out
    found = {check["name"]: check["status"] for check in json.loads(out)["checks"]}
    assert found == {"good": "ok", "bad": "failed", "unknown": "not measured"}


def release(name: str, codename: str) -> str:
    return f"ID={name}\nVERSION_CODENAME={codename}\n"


DEBIAN, UBUNTU = release("debian", "bookworm"), release("ubuntu", "jammy")


def build_packages(
    tmp_path: Path, *words: str, system: str, cross: str = "arm64", target: str = ""
) -> tuple[str, dict[str, str]]:
    """What build-packages.sh asks apt-install.sh for on *system*, building for *target* (the same), and apt's sources."""
    scripts, stubs, own, other = (tmp_path / name for name in ("scripts", "bin", "own", "other"))
    for folder in (
        scripts,
        stubs,
        *(root / part for root in (own, other) for part in ("etc/apt/sources.list.d", "usr/lib")),
    ):
        folder.mkdir(parents=True)
    for name in ("build-packages.sh", "cross.sh"):
        shutil.copy(SCRIPTS / name, scripts)
    for path, text in {scripts / "apt-install.sh": 'echo "$@"', stubs / "dpkg": "echo amd64"}.items():
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    (own / "usr/lib/os-release").write_text(system)
    (other / "usr/lib/os-release").write_text(target or system)
    (own / "etc/apt/sources.list").write_text("deb http://own.example/ubuntu jammy main\n")
    (other / "etc/apt/sources.list").write_text(
        "deb http://ports.example/u jammy main\ndeb [trusted=yes] http://ports.example/u jammy-updates main\n"
        "deb http://vendor.example/jetson r36.4 main\ndeb http://ports.example/u jammyx main\n"
    )
    environ = {"PATH": f"{stubs}:{os.environ['PATH']}", "CROSS": cross, "ROOT": str(own), "TARGET": str(other)}
    said = process.run(["sh", scripts / "build-packages.sh", *words], env=environ)
    sources = {path.name: path.read_text() for path in (own / "etc/apt").rglob("*.list")}
    return said, sources


@pytest.mark.processes
def test_a_cross_compile_takes_libraries_of_the_target_and_tools_of_its_own(tmp_path: Path) -> None:
    words = ("cmake", "g++", "gcc-12", "build-essential", "libpng-dev")
    said, sources = build_packages(tmp_path, *words, system=DEBIAN)
    asked = "cmake g++-aarch64-linux-gnu gcc-12-aarch64-linux-gnu crossbuild-essential-arm64 libpng-dev:arm64"
    assert said.splitlines()[-1] == asked
    assert sources == {"sources.list": "deb http://own.example/ubuntu jammy main\n"}


@pytest.mark.processes
def test_without_another_architecture_packages_are_taken_as_they_are(tmp_path: Path) -> None:
    said, _ = build_packages(tmp_path, "g++", "libpng-dev", system=UBUNTU, cross="")
    assert said == "g++ libpng-dev\n"


@pytest.mark.processes
def test_on_ubuntu_the_target_s_packages_come_from_where_its_base_has_them(tmp_path: Path) -> None:
    _, sources = build_packages(tmp_path, "zlib1g-dev", system=UBUNTU)
    assert sources["sources.list"] == "deb [arch=amd64] http://own.example/ubuntu jammy main\n"
    assert sources["cross.list"].splitlines() == [
        "deb [arch=arm64] http://ports.example/u jammy main",
        "deb [arch=arm64] http://ports.example/u jammy-updates main",
    ]


@pytest.mark.processes
@pytest.mark.parametrize("target", [release("debian", "trixie"), release("ubuntu", "bookworm"), UBUNTU])
def test_a_builder_of_another_release_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(ToolError, match="the builder is debian bookworm, and what is built for is "):
        build_packages(tmp_path, "zlib1g-dev", system=DEBIAN, target=target)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("cross", "said"), [("arm64", "aarch64 aarch64-linux-gnu"), ("amd64", "x86_64 x86_64-linux-gnu")]
)
def test_pip_takes_wheels_of_the_target(cross: str, said: str) -> None:
    script = f'. {SCRIPTS}/cross.sh; echo "$machine $triple"; pip_platforms'
    first, *options = process.run(["sh", "-euc", script], env={"PATH": os.environ["PATH"], "CROSS": cross}).splitlines()
    machine = said.split(maxsplit=1)[0]
    assert first == said
    assert options[0] == f"--platform linux_{machine} --platform manylinux2014_{machine}"
    assert f"--platform manylinux_2_28_{machine}" in options
    nothing = process.run(["sh", "-euc", f". {SCRIPTS}/cross.sh; pip_platforms"], env={"PATH": os.environ["PATH"]})
    assert nothing == ""


def test_links_on_the_way_resolve_inside_the_root(tmp_path: Path) -> None:
    """NVIDIA's packages make /usr/local/cuda a link to an alternative, an absolute one; the root is not where we run."""
    root = tmp_path / "system"
    folder = root / "usr/local/cuda-12.6/targets/aarch64-linux/lib"
    for path in (folder, root / "etc/alternatives"):
        path.mkdir(parents=True)
    (folder / "libcupti.so.12").write_bytes(b"")
    (root / "usr/local/cuda").symlink_to("/etc/alternatives/cuda")
    (root / "etc/alternatives/cuda").symlink_to("/usr/local/cuda-12.6")
    rows = collect.collect("usr/local/cuda/targets/*/lib/libcupti*.so*", root=root, stage=tmp_path / "stage")
    assert [row["path"] for row in rows] == ["/usr/local/cuda-12.6/targets/aarch64-linux/lib/libcupti.so.12"]
