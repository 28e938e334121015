"""Layers of real images: both sources say the same, and what they hide explains the layers' sum to the byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jetpare.base import process
from jetpare.config.load import load_config
from jetpare.engine import api, containers, image_store
from jetpare.engine.model import Engine
from jetpare.image import waste
from jetpare.image.attribution import attribute, unowned
from jetpare.image.inventory import Inventory
from jetpare.image.layers import Listing
from jetpare.image.read import inventory_reader, layer_reader
from tests.conftest import ROOT
from tests.engine.conftest import Mini

pytestmark = pytest.mark.engine

# Every way in which a layer can change what is below it, each of another size.
DOCKERFILE = r"""FROM {base}
RUN mkdir -p /t/gone/deep /t/again /t/kept && cd /t && \
    head -c 100001 /dev/zero >thrice && head -c 200003 /dev/zero >gone/deep/file && head -c 300007 /dev/zero >again/old && \
    head -c 400009 /dev/zero >hard && ln hard kept/hard && head -c 500029 /dev/zero >mode && \
    head -c 600043 /dev/zero >becomes-folder && head -c 700057 /dev/zero >"kept/$(printf 'new\nline')" && head -c 11 /dev/zero >kept/$(printf 'b\374') && mkfifo pipe && ln -s hard kept/link
RUN cd /t && head -c 100002 /dev/zero >thrice && rm hard && chmod 600 mode && rm -r gone
RUN cd /t && head -c 100003 /dev/zero >thrice && rm -r again && mkdir again && head -c 7 /dev/zero >again/new && \
    rm becomes-folder && mkdir becomes-folder && head -c 13 /dev/zero >becomes-folder/x
RUN rm /t/kept/hard
"""
HIDDEN = {
    ("/t/thrice", 100001, "overwritten", "head -c 100002"),
    ("/t/thrice", 100002, "overwritten", "head -c 100003"),
    ("/t/gone/deep/file", 200003, "deleted", "rm -r gone"),
    ("/t/again/old", 300007, "deleted", "rm -r again"),
    ("/t/kept/hard", 400009, "deleted", "rm /t/kept/hard"),
    ("/t/mode", 500029, "overwritten", "chmod 600 mode"),
    ("/t/becomes-folder", 600043, "overwritten", "rm becomes-folder"),
}
ENGINES_OWN = (*containers.ENGINE_FILES, "/etc/mtab")


@pytest.fixture(scope="module")
def made(running: Engine, debian: str) -> Iterator[str]:
    """The id of an image made for these tests."""
    name = f"jetpare-test-layers:{os.getpid()}"
    argv = [running.docker, "build", "--quiet", "--provenance=false", "--tag", name, "-"]
    process.run(argv, env=running.env, stdin=DOCKERFILE.format(base=debian).encode())
    facts = image_store.inspect_image(running, name)
    assert facts
    yield facts.id
    image_store.remove_image(running, name)


@pytest.fixture(scope="module")
def streamed(running: Engine, made: str, tmp_path_factory: pytest.TempPathFactory) -> Listing:
    """Its layers from the engine's stream."""
    told: list[int] = []
    found = layer_reader._from_engine(running, made, state=tmp_path_factory.mktemp("state"), stream=told.append)
    assert told == sorted(told)
    assert found.layers is not None
    assert told[-1] > 0
    return found


@pytest.fixture(scope="module")
def inventory(running: Engine, made: str, tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    """What is in it."""
    return inventory_reader.take(running, made, state=tmp_path_factory.mktemp("state"))


def test_both_sources_say_the_same(running: Engine, made: str, streamed: Listing) -> None:
    try:
        walked = layer_reader._from_disk(running, made, state=ROOT / ".jetpare", stream=None)
    except layer_reader.Unreadable as error:
        facts = api.facts(running)
        if facts.store == "overlay2" and running.host.startswith("unix:") and os.geteuid() == 0:
            raise
        pytest.skip(str(error))
    assert walked.layers == streamed.layers


def test_what_is_hidden_is_named_with_the_instruction_that_did_it(streamed: Listing, inventory: Inventory) -> None:
    hidden = waste.waste(inventory, streamed).hidden
    assert hidden is not None
    found = [each for each in hidden if each.path.startswith("/t/")]
    assert {(each.path, each.bytes, each.how) for each in found} == {row[:3] for row in HIDDEN}
    for path, size, _, words in HIDDEN:
        (one,) = [each for each in found if (each.path, each.bytes) == (path, size)]
        assert words in str(one.instruction)


def test_the_layers_sum_less_the_merged_file_system_is_what_is_hidden(streamed: Listing, inventory: Inventory) -> None:
    assert streamed.layers is not None
    result = waste.waste(inventory, streamed)
    # An inventory leaves out what an engine puts into every container; a base that holds such files has them in layers.
    last = {entry.path: entry.bytes for layer in streamed.layers for entry in layer.entries}
    own = sum(last.get(path, 0) for path in ENGINES_OWN)
    assert sum(layer.bytes for layer in streamed.layers) - inventory.bytes - own == result.hidden_bytes
    assert [layer.diff_id for layer in streamed.layers] == [layer.diff_id for layer in inventory.layers]


def test_a_listing_is_kept_and_the_stream_read_only_when_asked(running: Engine, made: str, tmp_path: Path) -> None:
    found = layer_reader.take(running, made, state=tmp_path, stream=lambda _: None)
    assert found.layers is not None
    assert len(list((tmp_path / "layers").iterdir())) == 1
    assert layer_reader.take(running, made, state=tmp_path) == found


def test_a_plain_debian_has_packages_a_base_and_next_to_nothing_of_nobody(
    running: Engine, debian: str, tmp_path: Path
) -> None:
    found = inventory_reader.take(running, debian, state=tmp_path)
    owned = attribute(found, groups=load_config(ROOT / "build.toml").groups)
    assert sum(each.bytes for each in owned.components) == found.bytes
    assert {each.kind for each in owned.components} <= {"debian", "base", "nobody"}
    assert sum(file.bytes for file in unowned(found, owned)) < 0.001 * found.bytes


def test_explain_on_the_command_line(fresh: Callable[[], Mini], debian: str, made: str) -> None:
    mini = fresh()
    said = mini.ok("explain", "libc6", "--image", debian)
    assert f"libc6 in {debian}" in said.out
    assert "links with ld-linux" in said.out
    assert "--layers" in said.out  # how to have what its state folder does not lead to
    path = mini.ok("explain", "/t/thrice", "--layers", "--image", made)
    assert path.out.count("overwrites or deletes") == 2
    assert mini("explain", "libc7", "--image", debian).code == 18
    assert "libc6" in mini("explain", "libc7", "--image", debian).err
    assert mini("explain", "libc6", "--image", "jetpare-test/none").code == 9
    assert mini("explain", "libc6").code == 9  # nothing is built
