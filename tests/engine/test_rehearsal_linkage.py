"""The model of the loader against the real one, over every ELF file of the rehearsal's images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from jetpare.engine.model import Engine
from jetpare.image import linkage, needs
from jetpare.image.inventory import Inventory
from jetpare.image.read import inventory_reader
from tests.conftest import ROOT
from tests.real_loader import compare_image

pytestmark = [pytest.mark.engine, pytest.mark.rehearsal]


@pytest.fixture(scope="module", params=["cuda", "jetpack"])
def inventory(request: pytest.FixtureRequest, running: Engine, rehearsal: str) -> Inventory:
    assert rehearsal
    return inventory_reader.take(running, f"jetpare/{request.param}:rehearsal", state=ROOT / ".jetpare")


def test_the_model_and_ld_so_agree_on_every_file(running: Engine, inventory: Inventory) -> None:
    found = compare_image(running, inventory)
    assert found["differing"] == {}
    assert found["outcome"] == {"equal": len(inventory.elfs)}
    assert set(found["by rule"]) == {"cache", "default", "rpath", "runpath"}  # it has seen each of them at work
    assert found["not found"]


def test_every_needed_library_is_there_but_for_network_cards(inventory: Inventory) -> None:
    found = linkage.resolve(inventory)
    missing = {(Path(edge.user).name.partition(".")[0], edge.name) for edge in found.edges if edge.status == "missing"}
    # cuFile opens its RDMA part where there is such a card; the libraries for those are not NVIDIA's.
    assert missing == {("libcufile_rdma", f"lib{name}.so.1") for name in ("mlx5", "rdmacm", "ibverbs")}
    company = Counter(Path(edge.user).parent.name for edge in found.edges if edge.status == "company")
    assert set(company) == {"torchvision", "numpy.libs", "pillow.libs"}
    assert [edge.name for edge in found.edges if edge.status == "host"] == ["libcuda.so.1"]
    assert not [edge for edge in found.edges if edge.status == "broken" or edge.unmet]


def test_a_library_that_is_taken_away_is_missed_by_whoever_needs_it(inventory: Inventory) -> None:
    gone = next(elf.path for elf in inventory.elfs if elf.soname == "libnvrtc-builtins.so.12.6")
    users = {use.user for use in needs.uses(inventory, linkage.resolve(inventory)) if use.used == gone}
    files = tuple(file for file in inventory.files if inventory.real_path(file.path) != gone)
    left = tuple(elf for elf in inventory.elfs if elf.path != gone)
    values = {name: getattr(inventory, name) for name in inventory.__dataclass_fields__}
    found = linkage.resolve(Inventory(**{**values, "files": files, "elfs": left}))
    missed = {
        each.user for each in found.dlopens if each.status == "missing" and each.name == "libnvrtc-builtins.so.12.6"
    }
    assert missed == users != set()
