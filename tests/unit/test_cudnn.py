"""Whether a cuDNN fits a PyTorch, and how that is known before anything is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from jetpare.base.errors import ConfigError
from jetpare.build import bake, cudnn, preflight, wheel_index
from jetpare.build.cudnn import CudnnRequirement
from jetpare.build.wheel_index import Wheel
from jetpare.config import schema
from jetpare.image import version_sources
from jetpare.project.plan import Plan
from jetpare.project.project import Project, open_project
from tests.conftest import ROOT

NEEDS_9_10 = 'nvidia-cudnn-cu12==9.10.2.21; platform_system == "Linux" and platform_machine == "x86_64"'
SOURCES = ("jetpack", "wheel", "apt")
APT = """
packages = ["libcudnn9-cuda-12=9.3.0.75-1", "libcudnn9-headers-cuda-12=9.3.0.75-1", "cuda-cupti-12-6=12.6.68-1"]
repository = { url = "https://example.org/jetson", suite = "r36.4", components = ["main"], key = "key.asc" }
"""


def project(folder: Path, *, source: str = "jetpack", old: str = "", new: str = "") -> Project:
    for name in ("images", "rehearsal"):
        (folder / "dockerfiles").mkdir(exist_ok=True)
        (folder / "dockerfiles" / f"{name}.Dockerfile").touch()
    (folder / "key.asc").touch()
    (folder / ".jetpare").mkdir(exist_ok=True)
    text = (ROOT / "build.toml").read_text()
    assert old in text
    text = text.replace('source = "jetpack"\n', f'source = "{source}"\n{APT if source == "apt" else ""}').replace(
        old, new
    )
    (folder / "build.toml").write_text(text)
    return open_project(folder, {"HOME": str(folder)})


def plan(made: Project, **choice: Any) -> Plan:
    return made.plan(profile="rehearsal", architecture="amd64", **choice)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pins that an index was asked for; its wheel of torch requires cuDNN 9.10."""
    pins: list[str] = []

    def find(pin: str, *_: Any, **__: Any) -> Wheel:
        pins.append(pin)
        return Wheel(name="torch-2.8.0-any.whl", requires=("filelock", NEEDS_9_10))

    monkeypatch.setattr(wheel_index, "find", find)
    monkeypatch.setattr(wheel_index, "indexes_of", lambda *_: ["https://user:secret@example.org/simple"])
    return pins


# --- the rule


@pytest.mark.parametrize(
    ("have", "need", "fits"),
    [
        ("9.10.2", "9.8.0", True),
        ("9.10", "9.10.2.21", True),
        ("9.3.0", "9.8.0", False),
        ("9.9.9", "9.10", False),
        ("8.9.7", "9.1", False),
        ("10.0", "9.10", False),
        ("9", "9.1", False),
    ],
)
def test_same_major_and_no_older_minor(have: str, need: str, fits: bool) -> None:
    assert version_sources.fits(have, made_for=need) is fits


@given(st.tuples(*[st.integers(0, 20)] * 3), st.tuples(*[st.integers(0, 20)] * 3))
def test_the_rule_is_that_of_pytorch(have: tuple[int, ...], need: tuple[int, ...]) -> None:
    """As torch/backends/cudnn says it: the major versions are equal, and the minor one is no smaller."""
    mine, wanted = (".".join(map(str, version)) for version in (have, need))
    assert version_sources.fits(mine, made_for=wanted) is (have[0] == need[0] and have[1] >= need[1])


def test_what_a_wheel_requires_depends_on_the_machine() -> None:
    wheel = Wheel(name="torch.whl", requires=("filelock>=1", NEEDS_9_10, "nvidia-cudnn-cu12==1; extra == 'old'"))
    need = cudnn.required(wheel, machine="x86_64")
    assert need == CudnnRequirement(version="9.10.2.21", said="torch.whl requires nvidia-cudnn-cu12==9.10.2.21")
    assert cudnn.required(wheel, machine="aarch64") is None
    assert cudnn.required(Wheel(name="jetson.whl", requires=("numpy",)), machine="aarch64") is None


# --- before a build


@pytest.mark.parametrize("source", ["jetpack", "wheel"])
def test_the_projects_own_versions_fit(tmp_path: Path, asked: list[str], source: str) -> None:
    made = cudnn.check(project(tmp_path, source=source), plan(project(tmp_path, source=source)))
    assert made is not None
    assert made.need is not None
    assert made.need.version == "9.10.2.21"
    assert asked == ["torch==2.8.0"]


@pytest.mark.parametrize(
    ("source", "old", "new", "where"),
    [
        ("wheel", 'nvidia-cudnn-cu12==9.10.2.21"', 'nvidia-cudnn-cu12==9.3.0.75"', r"\[cudnn\] source 'wheel': cuDNN is 9.3.0.75"),
        ("apt", "", "", r"\[cudnn\] source 'apt': cuDNN is 9.3.0.75"),
        ("jetpack", 'cudnn = "9.10"', 'cudnn = "9.3"', r"\[profiles.rehearsal.expect\]: cuDNN is 9.3"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_an_error(
    tmp_path: Path, asked: list[str], source: str, old: str, new: str, where: str
) -> None:
    made = project(tmp_path, source=source, old=old, new=new)
    with pytest.raises(ConfigError, match=where) as caught:
        cudnn.check(made, plan(made))
    assert "9.10 or later of the same major version is needed: torch-2.8.0-any.whl requires" in str(caught.value)
    assert asked
    found = list(preflight.cudnn_findings(made, plan(made)))
    assert [(row.name, row.status) for row in found] == [("cudnn", "failed")]


def test_another_version_than_expected_is_an_error_too(tmp_path: Path, asked: list[str]) -> None:
    made = project(tmp_path, source="wheel", old='cudnn = "9.10"', new='cudnn = "9.11"')
    with pytest.raises(ConfigError, match=r"9\.10\.2\.21; expected 9\.11"):
        cudnn.check(made, plan(made))
    assert asked


def test_what_build_toml_says_goes_before_the_wheel(tmp_path: Path, asked: list[str]) -> None:
    made = project(tmp_path, old='cudnn = "9.10"', new='cudnn = "9.8"\ncudnn_compiled = "9.8"')
    found = cudnn.check(made, plan(made))
    assert found is not None
    assert found.need is not None
    assert found.need.version == "9.8"
    assert not asked
    with pytest.raises(ConfigError, match=r"cuda/cudnn: cuDNN is 9\.7\.1, and 9\.8 or later"):
        found.raise_for("9.7.1", where="cuda/cudnn")


def test_an_index_is_asked_once_and_no_password_is_kept(tmp_path: Path, asked: list[str]) -> None:
    made = project(tmp_path)
    first = cudnn.check(made, plan(made))
    assert cudnn.check(made, plan(made)) == first
    assert asked == ["torch==2.8.0"]
    text = (tmp_path / ".jetpare" / cudnn.KEPT).read_text()
    assert "secret" not in text
    for damage in (3, [], [3], "torch"):
        content = dict.fromkeys(json.loads(text), damage)
        (tmp_path / ".jetpare" / cudnn.KEPT).write_text(json.dumps(content))
        assert cudnn.check(made, plan(made)) == first


def test_no_token_of_an_index_is_kept_nor_one_that_an_earlier_version_kept(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = ["https://example.org/simple?token=secret", "user:secret@example.org/simple", "https://u:a/secret@h"]
    monkeypatch.setattr(wheel_index, "indexes_of", lambda *_: urls)
    made = project(tmp_path)
    kept = made.state_path / cudnn.KEPT
    kept.write_text(json.dumps({"torch==2.8.0 x86_64 3.11 https://example.org/simple?token=secret": ["torch.whl"]}))
    cudnn.check(made, plan(made))
    assert "secret" not in kept.read_text()
    cudnn.check(made, plan(made))
    urls.append("https://other.example/simple")
    cudnn.check(made, plan(made))
    assert len(asked) == 2


@pytest.mark.parametrize(
    "error",
    [requests.ConnectionError("no"), ValueError("no"), TypeError("no"), ConfigError("no"), RecursionError(), OverflowError()],
)  # fmt: skip
def test_an_index_that_does_not_answer_is_no_error(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(wheel_index, "find", fail)
    made = project(tmp_path)
    found = cudnn.check(made, plan(made))
    assert not asked
    assert found is not None
    assert "could not be read" in found.unknown
    (row,) = preflight.cudnn_findings(made, plan(made))
    assert row.status == "warning"


def test_a_wheel_with_a_requirement_that_is_none(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel_index, "find", lambda *_, **__: Wheel(name="torch.whl", requires=("what is == this",)))
    made = project(tmp_path)
    found = cudnn.check(made, plan(made))
    assert not asked
    assert found is not None
    assert "InvalidRequirement" in found.unknown


def test_where_nothing_depends_on_it_nothing_is_asked(tmp_path: Path, asked: list[str]) -> None:
    made = project(tmp_path)
    assert cudnn.check(made, plan(made, only="cuda/gdal")) is None
    assert cudnn.check(made, plan(made, only="cuda/cudnn")) is not None
    without = project(tmp_path, old="cuda = true", new="cuda = false")
    assert cudnn.check(without, plan(without)) is None
    assert asked == ["torch==2.8.0"]


# --- what was collected


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("path\ttype\n/usr/lib/libcudnn.so.9\tlink\n/usr/lib/libcudnn.so.9.10.2\tfile\n", "9.10.2"),
        ("path\ttype\n/usr/lib/libcudnn_ops.so.9.10.2\tfile\n/usr/lib/libcudnn.so.9\tfile\n", None),
        ("total 4\n-rw-r--r-- libcudnn.so.9.3.0\n", None),
        ("", None),
    ],
)
def test_the_version_that_was_collected(tmp_path: Path, text: str, version: str | None) -> None:
    (tmp_path / "cudnn.tsv").write_text(text)
    assert cudnn.collected_version(tmp_path / "cudnn.tsv") == version
    assert cudnn.collected_version(tmp_path / "none.tsv") is None


# --- the plan and the definition follow the source


@pytest.mark.parametrize("source", SOURCES)
def test_jetpack_is_needed_only_to_take_cudnn_from(tmp_path: Path, source: str) -> None:
    made = project(tmp_path, source=source)
    chosen = plan(made, images=("cuda",))
    labels = [node.label for node in chosen.nodes]
    assert ("inputs/l4t-jetpack" in labels) is (source == "jetpack")
    target = bake.definition(made.config, chosen, bake.Options(state=Path(".jetpare")))["target"]["cuda-cudnn"]
    assert set(target["contexts"]) == {"l4t-jetpack" if source == "jetpack" else "base", "wheels"}
    assert target["args"]["CUDNN_SOURCE"] == source
    assert ("id=cudnn-key,src=key.asc" in target["secret"]) is (source == "apt")
    packages = {"jetpack": "", "wheel": "nvidia-cudnn-cu12==9.10.2.21", "apt": "libcudnn9-cuda-12=9.3.0.75-1"}
    assert target["args"]["CUDNN_PACKAGES"].startswith(packages[source])
    if source == "apt":
        assert target["args"]["CUDNN_REPOSITORY"] == "https://example.org/jetson r36.4 main"


def test_the_other_image_and_an_image_without_the_stage_stay_as_they_are(tmp_path: Path) -> None:
    by_source = [plan(project(tmp_path, source=source)).images["jetpack"] for source in SOURCES]
    assert by_source[0] == by_source[1] == by_source[2]


def test_a_profile_may_have_a_source_of_its_own(tmp_path: Path) -> None:
    own = '[profiles.rehearsal.cudnn]\nsource = "wheel"\nwheels = ["nvidia-cudnn-cu12==9.11.0.1"]\n\n[profiles.rehearsal.expect]'
    made = project(tmp_path, old="[profiles.rehearsal.expect]", new=own)
    assert made.config.cudnn_of(made.config.profiles["rehearsal"]).version == "9.11.0.1"
    assert made.config.cudnn_of(made.config.profiles["jetson-6.2"]).source == "jetpack"
    assert [node.label for node in plan(made, only="cuda/cudnn").nodes] == [
        "inputs/debian",
        "inputs/l4t-cuda",
        "cuda/cudnn",
    ]


REPOSITORY = 'repository = {{ url = "https://example.org", suite = "{suite}", key = "{key}" }}'


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('source = "weel"', "[cudnn] source: 'weel' is none of 'jetpack', 'wheel' or 'apt' (did you mean 'wheel'?)"),
        ('source = "apt"', "top level cudnn: source 'apt' needs 'packages'"),
        ('source = "apt"\npackages = ["libcudnn9=9.3-1"]', "top level cudnn: source 'apt' needs 'repository'"),
        ('source = "wheel"', "top level cudnn: source 'wheel' needs 'wheels'"),
        ('source = "wheel"\nwheels = ["nvidia-nvtx-cu12==1.0"]', "none of nvidia-nvtx-cu12==1.0 is cuDNN"),
        ('wheels = ["nvidia-cudnn-cu12"]', "[cudnn] wheels item 1: 'nvidia-cudnn-cu12' is not pinned"),
        ('packages = ["libcudnn9-cuda-12"]', "[cudnn] packages item 1: 'libcudnn9-cuda-12' is not pinned"),
        ('packages = ["LIB=1"]', "'LIB' is not a valid name of a distribution package"),
        (REPOSITORY.format(suite="a b", key="key.asc"), "'a b' is not a valid suite or component"),
        (REPOSITORY.format(suite="a", key="lost"), "[cudnn] repository.key: there is no file 'lost'"),
        (REPOSITORY.format(suite="a", key="/etc/key"), "must be a path below the project's folder"),
    ],
)
def test_faults_of_the_table(tmp_path: Path, table: str, said: str) -> None:
    text = (ROOT / "build.toml").read_text()
    before = text[text.index('source = "jetpack"') : text.index("# packages = ")]
    with pytest.raises(ConfigError) as caught:
        project(tmp_path, old=before, new=f"{table}\n")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("pin", "version"),
    [
        ("libcudnn9-cuda-12=9.3.0.75-1", "9.3.0.75"),
        ("libcudnn8=8.9.7.29-1+cuda12.2", "8.9.7.29"),
        ("libcudnn9-cuda-12=1:9.3.0.75-1", "9.3.0.75"),
        ("libcudnn9-dev-cuda-12=9.3.0.75-1", None),
        ("libcudnn9-headers-cuda-12=9.3.0.75-1", None),
    ],
)
def test_the_version_in_a_package_pin(pin: str, version: str | None) -> None:
    made = schema.Cudnn.model_construct(source="apt", packages=(pin,))
    assert made.version == version
