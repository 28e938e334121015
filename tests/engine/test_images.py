"""One Dockerfile for all images: what they share in the cache, and what slim has of its base."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from jetpare.engine import api, image_store
from tests.engine.conftest import CUDA, INPUTS, JETPACK, Mini

pytestmark = pytest.mark.engine
Fresh = Callable[[], Mini]


def config(mini: Mini, image: str) -> dict[str, Any]:
    with api.client(mini.engine) as docker:
        found: dict[str, Any] = image_store.inspected(docker, mini.tag(image))["Config"]
    return found


def test_each_base_has_cache_entries_of_its_own(fresh: Fresh) -> None:
    mini = fresh()
    mini.knob("gdal", ":")  # what no cache knows
    mini.ok("compile-gdal", "--image", "jetpack")
    assert mini.row("jetpack/gdal").cache == "cold"
    mini.ok("compile-gdal", "--image", "cuda")  # the same stage with the same arguments, on another base
    assert mini.row("cuda/gdal").cache == "cold"
    mini.ok("build-all")
    assert mini.row("jetpack/gdal").cache == mini.row("cuda/gdal").cache == "cached"
    mini.ok("build-all")
    assert {row.label: row.cache for row in mini.newest().stages} == dict.fromkeys((*INPUTS, *JETPACK, *CUDA), "cached")


def test_only_the_image_with_a_cudnn_stage_has_its_tree(fresh: Fresh) -> None:
    mini = fresh()
    mini.ok("build-all")
    with api.client(mini.engine) as docker:
        calls: Any = docker.api  # its stubs lack types
        trees = {
            image: [
                row["Size"] for row in reversed(calls.history(mini.tag(image))) if "/opt/stage/" in row["CreatedBy"]
            ]
            for image in ("jetpack", "cuda")
        }
    assert trees["cuda"][1:] == trees["jetpack"]
    assert trees["cuda"][0] >= 2_000_000  # libdemo.so


@pytest.mark.parametrize("how", ["in order", "parallel"])
def test_slim_has_the_settings_of_its_real_base(fresh: Fresh, how: str) -> None:
    """Beside ENV with quotes and dollar signs there is a value that no file of the project holds."""
    mini, flags, value = fresh(), ["--parallel"] * (how == "parallel"), uuid.uuid4().hex
    mini.ok("build-all", "--image", "slim", *flags)  # a base is there, with other settings than the next one
    mini.edit(
        "dockerfiles/rehearsal.Dockerfile",
        'LABEL demo.origin="the base"\n',
        f'LABEL demo.origin="the base"\nENV TYPED_BY_NOBODY={value}\nENTRYPOINT ["/usr/bin/env", "--"]\nCMD ["a b", "$X"]\n',
    )
    mini.ok("build-all", "--image", "cuda", "--image", "slim", *flags)
    slim, cuda = config(mini, "slim"), config(mini, "cuda")
    assert f"TYPED_BY_NOBODY={value}" in slim["Env"]
    assert 'DEMO_WORDS=it\'s "one" $HOME' in slim["Env"]
    assert sorted(slim["Env"]) == sorted(cuda["Env"])
    for setting in ("Entrypoint", "Cmd", "User", "ExposedPorts", "Volumes", "Healthcheck"):
        assert slim.get(setting) == cuda.get(setting), setting
    assert slim["Labels"]["demo.origin"] == "the base"
    assert slim["Labels"]["jetpare.image"] == "slim"
    facts = image_store.inspect_image(mini.engine, mini.tag("slim"))
    assert facts is not None
    assert facts.layers is not None
    # The record of the settings, the tree, the check. The audit takes a layer that holds nothing for a COPY gone wrong.
    assert [layer.size > 0 for layer in facts.layers] == [True, True, True]
    handed_on = json.loads((mini.file(mini.row("slim/slim").report) / "base-settings.json").read_text())
    assert {f"TYPED_BY_NOBODY={value}", 'DEMO_WORDS=it\'s "one" $HOME'} <= set(handed_on["Env"])
    assert json.loads((mini.file(mini.row("slim/slim").report) / "checks.json").read_text())["schema"] == 1
    mini.ok("build-all", "--image", "slim", *flags)
    assert {row.cache for row in mini.newest().stages} == {"cached"}


def test_a_dry_run_of_slim_shows_the_settings_of_its_base(fresh: Fresh) -> None:
    mini = fresh()
    before = mini.ok("build-all", "--image", "slim", "--dry-run")
    assert "lacks the settings of the base" in before.err
    mini.ok("build-all", "--image", "slim")
    after = mini.ok("build-all", "--image", "slim", "--dry-run")
    definition, _ = json.JSONDecoder().raw_decode(after.out)
    made = definition["target"]["slim-slim-base-settings"]
    assert 'it\'s "one" $HOME' in made["args"].values()
    assert "ENV DEMO_WORDS=" in made["dockerfile-inline"]
