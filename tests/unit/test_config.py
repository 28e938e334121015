"""build.toml: what is accepted, and one clear line for every fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from jetpare import config
from jetpare.errors import ConfigError
from tests.conftest import MINI, ROOT

GOOD = (ROOT / "build.toml").read_text()


def faults(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "build.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert caught.value.code == 2
    return str(caught.value).splitlines()


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) >= 1, old
    return GOOD.replace(old, new, 1)


@pytest.mark.parametrize("path", [ROOT / "build.toml", MINI / "build.toml"])
def test_the_projects_own_files_are_valid(path: Path) -> None:
    loaded = config.load(path)
    assert loaded.images["cuda"].final == "runtime"
    assert loaded.project.baseline == "jetpack"


def test_a_config_cannot_be_changed() -> None:
    loaded = config.load(ROOT / "build.toml")
    with pytest.raises(ValueError, match="frozen"):
        loaded.build.jobs = 3


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"build\.toml: there is no such file") as caught:
        config.load(tmp_path / "build.toml")
    assert caught.value.code == 2


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "build.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path / "build.toml")


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "build.toml").write_bytes(b'name = "\xff"\n')
    with pytest.raises(ConfigError, match=r"is not UTF-8 \(byte 8\)"):
        config.load(tmp_path / "build.toml")


def test_not_toml_names_line_and_column(tmp_path: Path) -> None:
    (line,) = faults(tmp_path, "a = 1\nb = = 2\n")
    assert "line 2, column 5: not TOML" in line


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[build]\njobs", "[build]\njbos", "[build]: unknown key 'jbos' (did you mean 'jobs'?)"),
        ("[gdal]", "[gdla]", "top level: unknown table 'gdla' (did you mean 'gdal'?)"),
        ("jobs = 0 ", 'jobs = "2" ', "[build] jobs: wrong type: a whole number is wanted, here: '2'"),
        ("jobs = 0 ", "jobs = true ", "[build] jobs: wrong type: a whole number is wanted, here: True"),
        ('uv = "', 'uv = "x', "[python] uv: 'x"),
        ('gdal = "3.10.3"\ncuda = true', 'gdal = "3.ten"\ncuda = true', "[profiles.rehearsal] gdal: '3.ten' is no version"),
        ('sha256 = "79f', 'sha256 = "79F', "sha256: '79F"),
        ('sha256 = "79f', 'sha256 = "9f', "is no sha256"),
        ('"usr/include/', '"../usr/include/', "'..' and empty patterns are not allowed"),
        ('"usr/include/', '"/usr/include/', "[collect] required item 2: '/usr/include/"),
        ('packages = ["ca-certificates", "tzdata"]', "packages = []", "[runtime] packages: must not be empty"),
        ('platform = "linux/arm64"', 'platform = "linux/arm46"', "no platform that Docker knows (did you mean 'linux/arm64'?)"),
        ('baseline = "jetpack"', 'baseline = "jetpak"', "[project] baseline: there is no image 'jetpak' (did you mean 'jetpack'?)"),
        ('amd64 = "rehearsal"', 'amd64 = "rehersal"', "default_profile.amd64: there is no profile 'rehersal' (did you mean 'rehearsal'?)"),
        ('"torch==2.8.0"', '"torch>=2.8.0"', "'torch>=2.8.0' is not pinned"),
        ('"torch==2.8.0"', '"torch==2.8.*"', "'torch==2.8.*' is not pinned"),
        ('"torch==2.8.0"', '"tor ch"', "'tor ch' is no requirement"),
        ('runtime = ["l4t-jetpack", "gdal", "python"]', 'runtime = ["l4t-jetpack", "gdla", "python"]', "runtime: 'gdla' is no stage"),
        ('gdal = ["l4t-jetpack", "gdal-source"]', 'gdal = ["runtime"]', "in a circle"),
        ('runtime = ["l4t-jetpack", "gdal", "python"]', 'runtime = ["l4t-jetpack", "gdal"]', "exactly one stage must be needed by no other"),
        ('base = "l4t-cuda"', 'base = "l4t-cude"', "base: 'l4t-cude' is no context of profile"),
        ("debian = { suite", "debian = { folder = 'x', suite", "exactly one of image, suite, target, urls or folder"),
        ("debian = { suite", "debian = { sha256 = '" + "a" * 64 + "', suite", "'sha256' goes with 'urls', not with 'suite'"),
        ("https://download.osgeo.org", "ftp://download.osgeo.org", "is no http or https URL"),
        ("https://download.osgeo.org", "https://me:hunter2@download.osgeo.org", "holds credentials"),
        ("disk_gb = 20", "disk_gb = -1", "disk_gb: Input should be greater than 0"),
        ('dockerfile = "dockerfiles/jetpack', 'dockerfile = "../dockerfiles/jetpack', "must be a path below the project's folder"),
        ("cuda = 6.5", "cdua = 6.5", "[profiles.rehearsal.budget_gb] cdua: there is no image 'cdua' (did you mean 'cuda'?)"),
        ("[profiles.rehearsal.expect]", "[profiles.rehearsal.expcet]", "(did you mean 'expect'?)"),
        ('"-DGDAL_USE_PNG=ON"', '"-DA=1; rm"', "is no CMake definition"),
    ],
)  # fmt: skip
def test_each_fault_is_one_clear_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    lines = faults(tmp_path, changed(old, new))
    found = [line for line in lines if expected in line]
    assert len(found) == 1, lines
    assert found[0].startswith("build.toml: ")
    assert "hunter2" not in found[0]


def test_several_faults_are_told_at_once(tmp_path: Path) -> None:
    text = (
        changed("jobs = 0 ", 'jobs = "x" ')
        .replace('baseline = "jetpack"', 'baseline = "nothing"')
        .replace("cuda = 6.5", "cdua = 6.5")
    )
    lines = faults(tmp_path, text)
    assert len(lines) == 3
    assert ["jobs" in lines[0], "baseline" in lines[1], "cdua" in lines[2]] == [True] * 3


def test_unknown_profile_and_image() -> None:
    loaded = config.load(ROOT / "build.toml")
    with pytest.raises(ConfigError, match=r"no profile 'rehersal' \(did you mean 'rehearsal'\?\)"):
        loaded.pick_profile("rehersal", architecture="amd64")
    with pytest.raises(ConfigError, match="default_profile names none for riscv64"):
        loaded.pick_profile(None, architecture="riscv64")
    with pytest.raises(ConfigError, match=r"no image 'cudda' \(did you mean 'cuda'\?\)"):
        loaded.pick_images(("jetpack", "cudda"))


def test_defaults_by_architecture() -> None:
    loaded = config.load(ROOT / "build.toml")
    assert loaded.pick_profile(None, architecture="arm64")[0] == "jetson-6.2"
    name, profile = loaded.pick_profile(None, architecture="amd64")
    assert (name, config.resolve_platform(profile, architecture="amd64")) == ("rehearsal", "linux/amd64")
    assert list(loaded.pick_images(())) == ["jetpack", "cuda"]
    assert list(loaded.pick_images(("cuda",))) == ["cuda"]
