"""build.toml: what is accepted, and one clear line for every fault."""

from __future__ import annotations

import ast
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli

from jetpare.base.errors import ConfigError
from jetpare.config import schema, values
from jetpare.config.load import load_config
from tests.conftest import MINI, ROOT

GOOD = (ROOT / "build.toml").read_text()
TABLE = "dockerfile = 'dockerfiles/images.Dockerfile'\ndescription = ''\nbase = 'l4t-cuda'\n"  # of an image


@pytest.mark.parametrize(
    ("platform", "filled"),
    [
        ("linux/arm64/v8", "usr/lib/aarch64-linux-gnu/x/aarch64-linux"),
        ("linux/amd64", "usr/lib/x86_64-linux-gnu/x/x86_64-linux"),
        ("linux/s390x", "usr/lib/*/x/*"),
    ],
)
def test_placeholders_of_patterns(platform: str, filled: str) -> None:
    assert values.filled("usr/lib/{multiarch}/x/{cuda_target}", platform, unknown="*") == filled


def prepared(folder: Path) -> Path:
    """A build.toml to be written in *folder*, which gets the Dockerfiles that GOOD names."""
    (folder / "dockerfiles").mkdir(exist_ok=True)
    for name in ("images", "rehearsal"):
        (folder / "dockerfiles" / f"{name}.Dockerfile").touch()
    return folder / "build.toml"


def faults(tmp_path: Path, text: str) -> list[str]:
    path = prepared(tmp_path)
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.code == 2
    return str(caught.value).splitlines()


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) >= 1, old
    return GOOD.replace(old, new, 1)


@pytest.mark.parametrize("path", [ROOT / "build.toml", MINI / "build.toml"])
def test_the_projects_own_files_are_valid(path: Path) -> None:
    loaded = load_config(path)
    assert loaded.images["cuda"].final == "runtime"
    assert loaded.project.baseline == "jetpack"


def test_a_config_cannot_be_changed() -> None:
    loaded = load_config(ROOT / "build.toml")
    with pytest.raises(ValueError, match="frozen"):
        loaded.build.jobs = 3


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"build\.toml: there is no such file") as caught:
        load_config(tmp_path / "build.toml")
    assert caught.value.code == 2


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "build.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "build.toml")


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "build.toml").write_bytes(b'name = "\xff"\n')
    with pytest.raises(ConfigError, match=r"^build\.toml: is not UTF-8 \(byte 8\)"):
        load_config(tmp_path / "build.toml")


def test_not_toml_names_line_and_column(tmp_path: Path) -> None:
    (line,) = faults(tmp_path, "a = 1\nb = = 2\n")
    assert line == "build.toml: line 2, column 5: not valid TOML: Invalid value."


@pytest.mark.parametrize("text", ["a = " + "[" * 20000, "a = " + "1" * 20000])
def test_toml_that_the_parser_gives_up_on(tmp_path: Path, text: str) -> None:
    (line,) = faults(tmp_path, text)
    assert line.startswith("build.toml: is not valid TOML")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[build]\njobs", "[build]\njbos", "[build]: unknown key 'jbos' (did you mean 'jobs'?)"),
        ("[gdal]", "[gdla]", "top level: unknown table 'gdla' (did you mean 'gdal'?)"),
        ("jobs = 0 ", 'jobs = "2" ', "[build] jobs: '2' has the wrong type; expected a whole number"),
        ("jobs = 0 ", "jobs = true ", "[build] jobs: True has the wrong type; expected a whole number"),
        ('uv = "', 'uv = "x', "[python] uv: 'x"),
        ('gdal = "3.10.3"\ncuda = true', 'gdal = "3.ten"\ncuda = true', "[profiles.rehearsal] gdal: '3.ten' is not a valid version"),
        ('sha256 = "79f', 'sha256 = "79F', "sha256: '79F"),
        ('sha256 = "79f', 'sha256 = "9f', "is not a valid sha256"),
        ('"usr/include/', '"../usr/include/', "'..' and empty patterns are not allowed"),
        ('"usr/include/', '"/usr/include/', "[collect] required item 2: '/usr/include/"),
        ('packages = ["ca-certificates", "tzdata"]', "packages = []", "[runtime] packages: must not be empty"),
        ('platform = "linux/arm64"', 'platform = "linux/arm46"', "not a platform that Docker knows (did you mean 'linux/arm64'?)"),
        ('baseline = "jetpack"', 'baseline = "jetpak"', "[project] baseline: there is no image 'jetpak' (did you mean 'jetpack'?)"),
        ('amd64 = "rehearsal"', 'amd64 = "rehersal"', "default_profile.amd64: there is no profile 'rehersal' (did you mean 'rehearsal'?)"),
        ('GDAL = ["gdal"', 'GDAL = ["gdla"', "[groups] GDAL item 1: 'gdla' matches no path and no component"),
        ('base = ["base"', 'base = ["bsae"', "(did you mean 'base'?)"),
        ('GDAL = ["gdal"', 'GDAL = [""', "[groups] GDAL item 1: '' matches no path and no component"),
        ('base = ["base", "jetpare", "debian:*"]', "base = []", "[groups] base: must not be empty"),
        ('base = ["base", "jetpare", "debian:*"]', 'base = "base"', "[groups] base: 'base' has the wrong type; expected an array"),
        ('base = ["base", "jet', 'other = ["base", "jet', "[groups] other: 'other' is reserved for files that no group takes"),
        ('base = ["base", "jet', '"" = ["base", "jet', "is not a valid name of a group; expected printable text"),
        ('"torch==2.8.0"', '"torch>=2.8.0"', "'torch>=2.8.0' is not pinned"),
        ('"torch==2.8.0"', '"torch==2.8.*"', "'torch==2.8.*' is not pinned"),
        ('"torch==2.8.0"', '"tor ch"', "'tor ch' is not a valid requirement"),
        ('runtime = ["l4t-jetpack", "gdal", "python"]', 'runtime = ["l4t-jetpack", "gdla", "python"]', "runtime: 'gdla' is no stage"),
        ('gdal = ["l4t-jetpack", "gdal-source"]', 'gdal = ["runtime"]', "in a circle"),
        ('runtime = ["l4t-jetpack", "gdal", "python"]', 'runtime = ["l4t-jetpack", "gdal"]', "exactly one stage must be needed by no other"),
        ('base = "l4t-cuda"', 'base = "l4t-cude"', "base: 'l4t-cude' is no context of profile"),
        ("debian = { suite", "debian = { folder = 'x', suite", "exactly one of image, suite, target, urls or folder"),
        ("debian = { suite", "debian = { sha256 = '" + "a" * 64 + "', suite", "'sha256' goes with 'urls', not with 'suite'"),
        ("https://download.osgeo.org", "ftp://download.osgeo.org", "is not an http or https URL"),
        ("https://download.osgeo.org", "https://me:hunter2@download.osgeo.org", "contains credentials"),
        ("disk_gb = 20", "disk_gb = -1", "[profiles.rehearsal] disk_gb: -1 is not valid; expected more than 0"),
        ("disk_gb = 20", "disk_gb = inf", "disk_gb: inf is not valid; expected a finite number"),
        ("disk_gb = 20", 'disk_gb = "20"', "disk_gb: '20' has the wrong type; expected a number"),
        ("disk_gb = 20", "disk_gb = true", "disk_gb: True has the wrong type; expected a number"),
        ("cuda = 6.5", 'cuda = "6.5"', "[profiles.rehearsal.budget.image_gb] cuda: '6.5' has the wrong type; expected a number"),
        ("cuda = 6.5", "cuda = true", "[profiles.rehearsal.budget.image_gb] cuda: True has the wrong type; expected a number"),
        ("jobs = 0 ", "jobs = -1 ", "[build] jobs: -1 is not valid; expected at least 0"),
        ("jobs = 0 ", "jobs = 5000 ", "[build] jobs: 5000 is not valid; expected at most 1024"),
        ("jobs = 0 ", "jobs = 1.5 ", "[build] jobs: 1.5 has the wrong type; expected a whole number"),
        ('"usr/include/{multiarch}', '"usr/include/{x}', "item 2: 'usr/include/{x}/cudnn*.h': braces are allowed only in the placeholders {multiarch} and {cuda_target}"),
        ('"usr/include/{multiarch}', '"usr/include/{0}', "{0}/cudnn*.h': braces are allowed only"),
        ('"usr/include/{multiarch}', '"usr/include/{multiarch.x}', "{multiarch.x}/cudnn*.h': braces are allowed only"),
        ('"usr/include/{multiarch}', '"usr/include/{{multiarch}}', "{{multiarch}}/cudnn*.h': braces are allowed only"),
        ('"usr/include/{multiarch}', '"usr/include/{', "'usr/include/{/cudnn*.h': braces are allowed only"),
        ('"usr/include/{multiarch}', '"usr/include/}', "'usr/include/}/cudnn*.h': braces are allowed only"),
        ('"usr/include/', '"usr /include/', "contains white space"),
        ('base = "l4t-cuda"', "base = []", "[images.cuda] base: [] has the wrong type; expected a string"),
        ('base = "l4t-cuda"', "base = {}", "[images.cuda] base: {} has the wrong type; expected a string"),
        ('cudnn = ["l4t-jetpack"]', "cudnn = [[1]]", "[images.cuda.stages] cudnn item 1: [1] has the wrong type; expected a string"),
        ('arm64 = "jetson-6.2"', "arm64 = {}", "[project.default_profile] arm64: {} has the wrong type; expected a string"),
        ('arm64 = "jetson-6.2"', "arm64 = []", "[project.default_profile] arm64: [] has the wrong type; expected a string"),
        ("[project]", '"[key]" = 0\n[project]', "top level: unknown key '[key]'"),
        ('cudnn = ["l4t-jetpack"]', 'cudnn = ["a\\nb"]', "cudnn: 'a\\nb' is no stage"),
        ('cudnn = ["l4t-jetpack"]', '"a\\nb" = []', "[images.cuda.stages] 'a\\nb': 'a\\nb' is not a valid name"),
        ('baseline = "jetpack"', 'baseline = "a\\nb"', "there is no image 'a\\nb'"),
        ("[build]\njobs", '[build]\n"a\\nb"', "[build]: unknown key 'a\\nb'"),
        ('cudnn = "9.10"', 'cudn = "9.10"', "[profiles.rehearsal.expect] cudn: unknown component 'cudn' (did you mean 'cudnn'?)"),
        ('"torch==2.8.0"', '"torch == 2.8.0"', "'torch == 2.8.0' contains white space"),
        ('"torch==2.8.0"', '" torch==2.8.0"', "' torch==2.8.0' contains white space"),
        ('uv = "0.9.11"', 'uv = " 0.9.11\\n"', "[python] uv: ' 0.9.11\\n' contains white space"),
        ('"nvcr.io/nvidia/l4t-cuda:12.6.11-runtime"', '"not a ref $(x)"', "[profiles.\"jetson-6.2\".contexts.l4t-cuda] image: 'not a ref $(x)' is not a valid image reference"),
        ('"nvcr.io/nvidia/l4t-cuda:12.6.11-runtime"', '"nvcr.io/NVIDIA/l4t-cuda"', "is not a valid image reference"),
        ('"nvcr.io/nvidia/l4t-cuda:12.6.11-runtime"', '"l4t@sha256:aa"', "write the digest in the key 'digest'"),
        ("[images.jetpack]", f"[images.inputs]\n{TABLE}stages.x = []\n[images.jetpack]", "[images] inputs: this name is reserved"),
        ('cudnn = ["l4t-jetpack"]', 'cudnn = ["l4t-jetpack"]\ngdal-report = []', "[images.cuda] stages.gdal: its bake target would be 'cuda-gdal-report', which is already the target of [images.cuda] stages.gdal-report; rename one"),
        ('cudnn = ["l4t-jetpack"]', 'cudnn = ["l4t-jetpack"]\ngdal-base-settings = []', "[images.cuda] stages.gdal: its bake target would be 'cuda-gdal-base-settings', which is already the target of [images.cuda] stages.gdal-base-settings; rename one"),
        ("[images.jetpack]", f"[images.'a.b']\n{TABLE}stages.c = []\n[images.a_b]\n{TABLE}stages.c = []\n[images.jetpack]", "[images.a_b] stages.c: its bake target would be 'a_b-c', which is already the target of [images.\"a.b\"] stages.c; rename one"),
        ("[images.jetpack]", f"[images.inputs-x]\n{TABLE}stages.y = []\n[profiles.rehearsal.contexts.x-y]\nfolder = '.'\n[images.jetpack]", "'inputs-x-y', which is already the target of [images.inputs-x] stages.y"),
        ("debian = { suite", "wheels = { folder = '.' }\ndebian = { suite", "wheels: its bake target would be 'inputs-wheels', which is already the target of [python] wheels"),
        ('"dockerfiles/images.Dockerfile"', '"dockerfiles/none"', "[images.jetpack] dockerfile: there is no file 'dockerfiles/none'"),
        ('"dockerfiles/images.Dockerfile"', '"dockerfiles"', "[images.jetpack] dockerfile: there is no file 'dockerfiles'"),
        ('"dockerfiles/rehearsal.Dockerfile"', '"none"', "[profiles.rehearsal.contexts.l4t-cuda] dockerfile: there is no file 'none'"),
        ("wheels = []", 'wheels = ["none"]', "[python] wheels item 1: there is no folder 'none'"),
        ("wheels = []", 'wheels = ["~/wheels"]', "[python] wheels item 1: '~/wheels': '~' is not expanded here"),
        ("debian = { suite", "extra = { folder = 'none' }\ndebian = { suite", "[profiles.rehearsal.contexts.extra] folder: there is no folder 'none'"),
        ('gdal = "3.11.5"', 'gdal = "3.11.4"', "urls item 1: gdal is '3.11.4', but the URL 'https://download.osgeo.org/gdal/3.11.5/gdal-3.11.5.tar.xz' is of another version"),
        ('gdal = "3.11.5"', 'gdal = "3.11"', "urls item 2: gdal is '3.11', but the URL"),
        ('"https://download.osgeo.org', '"https://[x', "urls item 1: is not an http or https URL"),
        ("https://download.osgeo.org", "ftp://me:hunter2@download.osgeo.org", "contains credentials"),
        ('dockerfile = "dockerfiles/images', 'dockerfile = "../dockerfiles/images', "must be a path below the project's folder"),
        ("cuda = 6.5", "cdua = 6.5", "[profiles.rehearsal.budget.image_gb] cdua: there is no image 'cdua' (did you mean 'cuda'?)"),
        ("image_gb = { cuda = 6.5, slim = 5.6 }", "image_bg = { cuda = 6.5 }", "[profiles.rehearsal.budget]: unknown table 'image_bg' (did you mean 'image_gb'?)"),
        ("image_gb = { cuda = 6.5, slim = 5.6 }", "cold_seconds = { 'cuda/gdla' = 6 }", "[profiles.rehearsal.budget.cold_seconds] \"cuda/gdla\": there is no stage 'cuda/gdla' (did you mean 'cuda/gdal'?)"),
        ("image_gb = { cuda = 6.5, slim = 5.6 }", "warm_seconds = { 'cuda/gdal' = 0 }", '[profiles.rehearsal.budget.warm_seconds] "cuda/gdal": 0 is not valid; expected more than 0'),
        ("image_gb = { cuda = 6.5, slim = 5.6 }", "tolerance = -1", "[profiles.rehearsal.budget] tolerance: -1 is not valid; expected at least 0"),
        ("image_gb = { cuda = 6.5, slim = 5.6 }", "image_gb = 6.5", "[profiles.rehearsal.budget] image_gb: 6.5 has the wrong type; expected a table"),
        ("[profiles.rehearsal.expect]", "[profiles.rehearsal.expcet]", "(did you mean 'expect'?)"),
        ('build = "unity"', 'build = "jumbo"', "[gdal] build: 'jumbo' is not a valid way to compile GDAL; expected unity or plain"),
        ('"-DGDAL_USE_PNG=ON"', '"-DA=1; rm"', "is not a valid CMake definition"),
    ],
)  # fmt: skip
def test_each_fault_is_one_clear_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    lines = faults(tmp_path, changed(old, new))
    found = [line for line in lines if expected in line]
    assert len(found) == 1, lines
    assert found[0].startswith("build.toml: ")
    assert "hunter2" not in found[0]


def broken(*changes: tuple[str, str]) -> str:
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


VALUES = (("jobs = 0 ", 'jobs = "x" '), ("disk_gb = 20", "disk_gb = -1"), ("[gdal]", "[gdla]"))
NAMES = (
    ('baseline = "jetpack"', 'baseline = "nothing"'),
    ('runtime = ["l4t-jetpack", "gdal", "python"]', 'runtime = ["l4t-jetpack", "gdla", "python"]'),
    ("cuda = 6.5", "cdua = 6.5"),
    ("wheels = []", 'wheels = ["none"]'),
)


def test_all_wrong_values_are_told_at_once(tmp_path: Path) -> None:
    lines = faults(tmp_path, broken(*VALUES))
    assert [sum(word in line for line in lines) for word in ("jobs", "disk_gb", "'gdla'", "'gdal' is missing")] == [
        1
    ] * 4
    assert len(lines) == 4


def test_all_names_and_paths_that_point_at_nothing_are_told_at_once(tmp_path: Path) -> None:
    lines = faults(tmp_path, broken(*NAMES))
    assert [sum(word in line for line in lines) for word in ("'nothing'", "'gdla'", "'cdua'", "'none'")] == [1] * 4
    assert len(lines) == 5  # gdal is needed by nothing now, too


def test_names_are_looked_up_once_all_values_are_valid(tmp_path: Path) -> None:
    assert faults(tmp_path, broken(*VALUES, *NAMES)) == faults(tmp_path, broken(*VALUES))


def test_unknown_profile_and_image() -> None:
    loaded = load_config(ROOT / "build.toml")
    with pytest.raises(ConfigError, match=r"no profile 'rehersal' \(did you mean 'rehearsal'\?\)"):
        loaded.pick_profile("rehersal", architecture="amd64")
    with pytest.raises(ConfigError, match="default_profile names none for riscv64"):
        loaded.pick_profile(None, architecture="riscv64")
    with pytest.raises(ConfigError, match=r"no image 'cudda' \(did you mean 'cuda'\?\)"):
        loaded.pick_images(("jetpack", "cudda"))


def test_defaults_by_architecture() -> None:
    loaded = load_config(ROOT / "build.toml")
    assert loaded.pick_profile(None, architecture="arm64")[0] == "jetson-6.2"
    name, profile = loaded.pick_profile(None, architecture="amd64")
    assert (name, schema.resolve_platform(profile, architecture="amd64")) == ("rehearsal", "linux/amd64")
    assert list(loaded.pick_images(())) == ["jetpack", "cuda"]
    assert list(loaded.pick_images(("cuda",))) == ["cuda"]


@pytest.mark.parametrize(
    "image", ["debian", "debian:12-slim", "localhost:5000/a/b__c:1", "nvcr.io/nvidia/l4t-cuda:12.6.11-runtime"]
)
def test_image_references(tmp_path: Path, image: str) -> None:
    path = prepared(tmp_path)
    path.write_text(changed("nvcr.io/nvidia/l4t-cuda:12.6.11-runtime", image))
    assert load_config(path).profiles["jetson-6.2"].contexts["l4t-cuda"].image == image


def test_folders_that_are_there(tmp_path: Path) -> None:
    path = prepared(tmp_path)
    (tmp_path / "wheels").mkdir()
    path.write_text(changed("wheels = []", f'wheels = ["wheels", "{tmp_path}"]'))
    assert load_config(path).python.wheels == (Path("wheels"), tmp_path)


def test_components_are_those_that_the_probe_measures() -> None:
    tree = ast.parse((ROOT / "scripts/image/probe.py").read_text())
    (versions,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "versions")
    measures = next(node for node in ast.walk(versions) if isinstance(node, ast.Dict))
    assert tuple(ast.literal_eval(key) for key in measures.keys if key) == values.KNOWN_COMPONENTS


def places(value: Any) -> Iterator[tuple[str | int, ...]]:
    """The place of every value in a parsed file; of an array's items, which are all of one type, the first."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, inner in items:
        yield (key,)
        yield from ((key, *rest) for rest in places(inner))


def test_no_value_makes_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = tomli.loads(GOOD)
    path = prepared(tmp_path)
    path.touch()
    wrong: tuple[Any, ...] = (
        [],
        {},
        [[1]],
        {"[key]": 0},
        {"a\nb": "c"},
        0,
        -1,
        1.5,
        True,
        "",
        " x",
        "{x}\n",
        dt.date(2025, 1, 1),
    )
    monkeypatch.setattr(tomli, "loads", lambda _: good)
    for place in [*places(good)]:
        table: Any = good
        for key in place[:-1]:
            table = table[key]
        before = table[place[-1]]
        for value in (*wrong, "x" * 10000):
            table[place[-1]] = value
            try:
                load_config(path)
            except ConfigError as error:
                for line in str(error).splitlines():
                    assert line.startswith("build.toml: "), (place, value)
                    assert " should " not in line, line  # that is how pydantic talks
        table[place[-1]] = before
    load_config(path)


WAIVER = """
[[audit.waivers]]
id = "A1"
pattern = "liba*"
reason = "not used"
date = 2026-01-31
"""


def test_the_audits_rules(tmp_path: Path) -> None:
    path = prepared(tmp_path)
    path.write_text(GOOD + WAIVER + "until = 2026-02-28\n")
    rules = load_config(path).audit
    assert (rules.fail_on, rules.least_mb) == ("error", 1.0)
    assert rules.waivers[-1].until == dt.date(2026, 2, 28)
    assert load_config(path).profiles["jetson-6.2"].gpu_arch == "sm_87"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("A1", "A20", "id: 'A20' is not a check; expected A1 to A17, A22 or A23"),
        ('reason = "not used"', "", "'reason' is missing"),
        ('"not used"', '""', "reason: must not be empty"),
        (
            "2026-01-31",
            '"2026-01-31"',
            "date: '2026-01-31' has the wrong type; expected a date without quotes, such as 2025-01-31",
        ),
        ("reason", "rason", "unknown key 'rason' (did you mean 'reason'?)"),
        ("2026-01-31", "2026-01-31\nuntil = 2026-01-30", "until (2026-01-30) is before date (2026-01-31)"),
    ],
)
def test_a_waiver_that_is_wrong(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in WAIVER
    assert any(
        line.startswith("build.toml: [audit") and line.endswith(fault)
        for line in faults(tmp_path, GOOD + WAIVER.replace(old, new))
    )


def test_the_audits_values_that_are_wrong(tmp_path: Path) -> None:
    text = changed('fail_on = "error"', 'fail_on = "errors"').replace('gpu_arch = "sm_87"', 'gpu_arch = "8.7"')
    assert faults(tmp_path, text) == [
        "build.toml: [audit] fail_on: 'errors' is none of 'error' or 'warning' (did you mean 'error'?)",
        "build.toml: [profiles.\"jetson-6.2\"] gpu_arch: '8.7' is not a valid architecture of a GPU; expected such as 'sm_87'",
    ]


def test_a_profile_on_another_platform_has_a_name_of_its_own_that_can_be_asked_for() -> None:
    loaded = load_config(ROOT / "build.toml")
    name, profile = loaded.pick_profile("rehearsal", architecture="amd64", platform="linux/arm64")
    assert (name, profile.platform) == ("rehearsal-arm64", "linux/arm64")
    assert loaded.pick_profile("rehearsal-arm64", architecture="amd64") == (name, profile)
    # its own platform: no other profile
    assert loaded.pick_profile("rehearsal", architecture="amd64", platform="linux/amd64")[0] == "rehearsal"
    assert loaded.pick_profile("jetson-6.2", architecture="amd64", platform="linux/arm64")[0] == "jetson-6.2"
    for unknown in ("rehearsal-riscv", "-arm64", "none-arm64"):
        with pytest.raises(ConfigError, match="no profile"):
            loaded.pick_profile(unknown, architecture="amd64")
    with pytest.raises(ConfigError, match=r"--platform linux/arm46.*did you mean 'linux/arm64'"):
        loaded.pick_profile("rehearsal", architecture="amd64", platform="linux/arm46")


@pytest.mark.parametrize(
    ("cross", "architecture", "expected"),
    [("auto", "amd64", True), ("native", "amd64", True), ("qemu", "amd64", False), ("native", "arm64", False)],
)
def test_another_architecture_is_crossed_as_asked_for(
    tmp_path: Path, cross: str, architecture: str, expected: bool
) -> None:
    path = prepared(tmp_path)
    path.write_text(changed('cross = "auto"', f'cross = "{cross}"'))
    loaded = load_config(path)
    jetson = loaded.profiles["jetson-6.2"]
    assert loaded.cross_builds(jetson, architecture=architecture) is expected


def test_without_a_builder_there_is_only_emulation(tmp_path: Path) -> None:
    line = next(line for line in GOOD.splitlines() if line.startswith("builder = { image"))
    path = prepared(tmp_path)
    path.write_text(changed(line, ""))
    loaded = load_config(path)
    assert loaded.cross_builds(loaded.profiles["jetson-6.2"], architecture="amd64") is False
    path.write_text(changed(line, "").replace('cross = "auto"', 'cross = "native"'))
    loaded = load_config(path)
    with pytest.raises(ConfigError, match="takes a context 'builder'"):
        loaded.cross_builds(loaded.profiles["jetson-6.2"], architecture="amd64")


def test_a_builder_is_a_system(tmp_path: Path) -> None:
    (line,) = faults(tmp_path, changed('builder = { image = "ubuntu:22.04" }', 'builder = { folder = "dockerfiles" }'))
    assert "expected 'image' or 'suite'" in line


def test_a_profile_s_name_on_another_platform_must_not_be_another_profile_s(tmp_path: Path) -> None:
    path = prepared(tmp_path)
    renamed = GOOD.replace('[profiles."jetson-6.2"', '[profiles."rehearsal-arm64"')
    path.write_text(renamed.replace('"jetson-6.2"', '"rehearsal"'))
    loaded = load_config(path)
    with pytest.raises(ConfigError, match="has a profile of that name"):
        loaded.pick_profile("rehearsal", architecture="amd64", platform="linux/arm64")
    assert loaded.pick_profile("rehearsal-arm64", architecture="amd64")[1] == loaded.profiles["rehearsal-arm64"]


@pytest.mark.parametrize(("platform", "name"), [("linux/arm64", "rehearsal-arm64"), ("linux/amd64", "rehearsal")])
def test_a_platform_beside_such_a_name_counts(platform: str, name: str) -> None:
    loaded = load_config(ROOT / "build.toml")
    assert loaded.pick_profile("rehearsal-arm64", architecture="amd64", platform=platform)[0] == name


def test_a_builder_is_of_the_release_that_is_built_for(tmp_path: Path) -> None:
    (line,) = faults(tmp_path, changed('builder = { suite = "bookworm" }', 'builder = { suite = "trixie" }'))
    assert line.startswith("build.toml: [profiles.rehearsal] contexts: 'builder' is of suite 'trixie'")
    assert "bookworm" in line
    (line,) = faults(tmp_path, changed('builder = { image = "ubuntu:22.04" }', 'builder = { suite = "bookworm" }'))
    assert "name an image of it" in line


def test_a_profile_for_one_platform_is_for_no_other() -> None:
    loaded = load_config(ROOT / "build.toml")
    for name, platform in (("jetson-6.2", "linux/amd64"), ("jetson-6.2-amd64", None)):
        with pytest.raises(ConfigError, match=r"profile 'jetson-6\.2' is for linux/arm64 and no other"):
            loaded.pick_profile(name, architecture="amd64", platform=platform)
