"""The settings of a base: where they are read, and the Dockerfile that hands them on."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import ImageNotFound

from jetpare.base.errors import EngineError
from jetpare.build import base_settings, schedule
from jetpare.build.request import settings_of_bases
from jetpare.config.load import load_config
from jetpare.engine import api
from jetpare.engine.model import Engine
from jetpare.project.plan import Plan
from jetpare.project.project import Project
from tests.conftest import ROOT

IMAGE = {"Os": "linux", "Architecture": "arm64", "Variant": "v8", "Config": {"Env": ["FROM=engine"]}}


def running(folder: Path, answer: str) -> Engine:
    """An engine whose CLI says *answer*, after its arguments went to a file."""
    program = folder / "docker"
    program.write_text(f"#!/bin/sh\necho \"$@\" >{folder}/asked\ncat <<'END'\n{answer}\nEND\n")
    program.chmod(0o755)
    return Engine(docker=str(program), env={"PATH": "/usr/bin:/bin"}, overrides={}, private=False)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the engine's own store has, by reference."""
    images: dict[str, Any] = {}

    def inspect(reference: str) -> Any:
        if reference not in images:
            raise ImageNotFound("no such image")
        return images[reference]

    @contextlib.contextmanager
    def client(_: Engine) -> Iterator[Any]:
        yield SimpleNamespace(api=SimpleNamespace(inspect_image=inspect))

    monkeypatch.setattr(api, "client", client)
    return images


def test_the_engine_is_asked_first(store: dict[str, Any], tmp_path: Path) -> None:
    store["example.org/base:1"] = IMAGE
    found = base_settings.read(running(tmp_path, "{}"), "example.org/base:1", platform="linux/arm64")
    assert found == {"Env": ["FROM=engine"]}


@pytest.mark.processes
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "answer",
    [
        {"os": "linux", "architecture": "arm64", "config": {"Env": ["FROM=registry"]}},
        {
            "linux/amd64": {"os": "linux", "architecture": "amd64", "config": {"Env": ["OTHER=1"]}},
            "linux/arm64/v8": {
                "os": "linux",
                "architecture": "arm64",
                "variant": "v8",
                "config": {"Env": ["FROM=registry"]},
            },
        },
    ],
)
def test_then_the_registry(tmp_path: Path, answer: dict[str, Any]) -> None:
    found = base_settings.read(running(tmp_path, json.dumps(answer)), "example.org/base:1", platform="linux/arm64")
    assert found == {"Env": ["FROM=registry"]}
    assert (tmp_path / "asked").read_text().endswith(" example.org/base:1\n")


@pytest.mark.processes
def test_an_image_of_another_platform_is_not_the_base(store: dict[str, Any], tmp_path: Path) -> None:
    store["example.org/base:1"] = IMAGE
    answer = json.dumps({"os": "linux", "architecture": "amd64", "config": {"Env": ["FROM=registry"]}})
    found = base_settings.read(running(tmp_path, answer), "example.org/base:1", platform="linux/amd64")
    assert found == {"Env": ["FROM=registry"]}
    with pytest.raises(EngineError, match="no image for linux/s390x"):
        base_settings.read(running(tmp_path, answer), "example.org/base:1", platform="linux/s390x")


@pytest.mark.processes
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("answer", ["no JSON", "$(false)"])
def test_a_registry_that_does_not_answer_is_an_error_with_a_way_out(tmp_path: Path, answer: str) -> None:
    with pytest.raises(EngineError, match=r"docker pull --platform linux/arm64 example\.org/base:1"):
        base_settings.read(running(tmp_path, answer), "example.org/base:1", platform="linux/arm64")


ODD: list[Any] = [
    None, [], "text", 3, [1], {"linux/arm64": "text"}, {"config": "text"}, {"config": {"Env": "A=b"}}, {"config": {"Env": [1]}},
    {"config": {"Labels": ["a"]}}, {"config": {"Cmd": "sh"}}, {"config": {"Healthcheck": {"Test": "true"}}},
    {"config": {"ExposedPorts": ["80"]}}, {"os": 1, "config": {}}, {"config": {"WorkingDir": {}}},
]  # fmt: skip


@pytest.mark.processes
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("answer", ODD, ids=json.dumps)
def test_an_odd_answer_of_a_registry_is_an_error_that_names_the_base(tmp_path: Path, answer: Any) -> None:
    with pytest.raises(EngineError, match=r"example\.org/base:1"):
        base_settings.read(running(tmp_path, json.dumps(answer)), "example.org/base:1", platform="linux/arm64")


@pytest.mark.parametrize(
    "answer",
    [None, [], "text", {"Config": "text"}, *({**IMAGE, "Config": each["config"]} for each in ODD if isinstance(each, dict) and isinstance(each.get("config"), dict) and each["config"])],
    ids=json.dumps,
)  # fmt: skip
def test_an_odd_answer_of_an_engine_is_an_error_that_names_the_base(
    store: dict[str, Any], tmp_path: Path, answer: Any
) -> None:
    store["example.org/base:1"] = answer
    with pytest.raises(EngineError, match=r"example\.org/base:1: .* got .*docker image inspect example\.org/base:1"):
        base_settings.read(running(tmp_path, "{}"), "example.org/base:1", platform="linux/arm64")


@pytest.mark.parametrize("config", [None, {}, dict.fromkeys(base_settings.HANDED_ON)])
def test_a_base_without_settings_hands_on_none(store: dict[str, Any], tmp_path: Path, config: Any) -> None:
    store["example.org/base:1"] = {**IMAGE, "Config": config}
    found = base_settings.read(running(tmp_path, "{}"), "example.org/base:1", platform="linux/arm64")
    assert base_settings.dockerfile(found) == base_settings.dockerfile({})


def test_every_setting_is_handed_on_and_free_text_is_not_quoted() -> None:
    odd = 'it\'s "one" $HOME ${PATH} \\n\nline 2'
    text, arguments = base_settings.dockerfile(
        {
            "Env": ["PATH=/bin", f"ODD={odd}", "EMPTY="],
            "Labels": {'a "b" $c': odd},
            "WorkingDir": "/work",
            "User": "1000:1000",
            "StopSignal": "SIGINT",
            "ExposedPorts": {"80/tcp": {}},
            "Volumes": {"/data": {}},
            "Shell": ["/bin/bash", "-c"],
            "Entrypoint": ["/entry"],
            "Cmd": ["a b", "$X"],
            "Healthcheck": {"Test": ["CMD-SHELL", "true || false"], "Interval": 3_000_000_000, "Retries": 2},
            "OnBuild": ["RUN never"],
        }
    )
    first, record, rest = re.split(r"(?s)(COPY <<'END' .*?\nEND\n)", text)
    assert first == "FROM scratch\n"
    assert json.loads(record.partition("\n")[2].removesuffix("END\n"))["Labels"] == {'a "b" $c': odd}
    instructions = [line for line in rest.splitlines() if not line.startswith("ARG ")]
    assert instructions == [
        "ENV PATH=${SETTING_0}",
        "ENV ODD=${SETTING_1}",
        "ENV EMPTY=${SETTING_2}",
        'LABEL "a \\"b\\" \\$c"=${SETTING_3}',
        "WORKDIR ${SETTING_4}",
        "USER ${SETTING_5}",
        "STOPSIGNAL ${SETTING_6}",
        "EXPOSE 80/tcp",
        'VOLUME ["/data"]',
        'SHELL ["/bin/bash", "-c"]',
        'ENTRYPOINT ["/entry"]',
        'CMD ["a b", "$X"]',
        'HEALTHCHECK --interval=3000000000ns --retries=2 CMD ["/bin/sh", "-c", "true || false"]',
    ]
    values = ["/bin", odd, "", odd, "/work", "1000:1000", "SIGINT"]
    assert arguments == {f"SETTING_{number}": value for number, value in enumerate(values)}
    declared = [line.removeprefix("ARG ") for line in text.splitlines() if line.startswith("ARG ")]
    assert declared == list(arguments)


def test_engine_and_registry_write_the_same_settings_differently() -> None:
    """An empty field, or one that is not handed on, would be another layer."""
    settings = {"Env": ["A=b"], "Cmd": ["sh"]}
    of_engine = {
        "Hostname": "",
        "Cmd": ["sh"],
        "Env": ["A=b"],
        "Image": "sha256:1",
        "Labels": None,
        "ArgsEscaped": True,
    }
    assert base_settings.dockerfile(settings) == base_settings.dockerfile(of_engine)


@pytest.mark.parametrize(
    ("check", "line"),
    [
        ({"Test": ["NONE"]}, ["HEALTHCHECK NONE"]),
        ({"Test": ["CMD", "x", "y"]}, ['HEALTHCHECK CMD ["x", "y"]']),
        ({}, []),
        (None, []),
    ],
)
def test_health_checks(check: dict[str, Any] | None, line: list[str]) -> None:
    text, _ = base_settings.dockerfile({"Healthcheck": check})
    assert [each for each in text.splitlines() if each.startswith("HEALTHCHECK")] == line


# --- when a run reads them

PROJECT = Project(root=ROOT, config=load_config(ROOT / "build.toml"), config_digest="", environ={})


def plan_of(*images: str, profile: str = "rehearsal", architecture: str = "amd64") -> Plan:
    return PROJECT.plan(profile=profile, architecture=architecture, images=images)


@pytest.mark.parametrize(
    ("profile", "architecture", "reference"),
    [
        ("rehearsal", "amd64", "jetpare/l4t-cuda:rehearsal"),
        ("jetson-6.2", "arm64", "nvcr.io/nvidia/l4t-cuda:12.6.11-runtime"),
    ],
)
def test_only_slim_asks_for_the_settings_of_its_base(
    monkeypatch: pytest.MonkeyPatch, profile: str, architecture: str, reference: str
) -> None:
    asked: list[tuple[str, str]] = []

    def read(_: Engine, reference: str, *, platform: str) -> dict[str, Any]:
        asked.append((reference, platform))
        return {"Env": ["A=b"]}

    monkeypatch.setattr(base_settings, "read", read)
    nobody = Engine(docker="docker", env={}, overrides={}, private=False)
    usual = plan_of(profile=profile, architecture=architecture)
    assert settings_of_bases(PROJECT, usual, nobody, usual.nodes) == {}
    assert asked == []
    slim = plan_of("slim", profile=profile, architecture=architecture)
    assert settings_of_bases(PROJECT, slim, nobody, slim.nodes) == {"slim": {"Env": ["A=b"]}}
    assert asked == [(reference, f"linux/{architecture}")]


def test_a_base_is_built_before_its_settings_are_read() -> None:
    """Also where everything would be built in one call."""

    def split(made: Plan) -> list[list[str]]:
        nodes = [node for node in made.nodes if node.baked]
        return [[node.label for node in part] for part in schedule.bases_first(made, nodes)]

    inputs, rest = split(plan_of("cuda", "slim"))
    assert "inputs/l4t-cuda" in inputs
    assert {label.split("/")[0] for label in inputs} == {"inputs"}
    assert not [label for label in rest if label.startswith("inputs/")]
    assert "slim/slim" in rest
    assert len(split(plan_of())) == 1
