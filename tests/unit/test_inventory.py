"""The inventory: what it says of names and sizes, and that its form on disk loses nothing."""

from __future__ import annotations

import json

import pytest

from jetpare import inventory
from jetpare.inventory import Distribution, File, LayerInfo, Mention, Package
from tests.inventories import elf, image

LIB = "/usr/lib/libx.so.1.2"


def test_a_name_that_is_not_utf8_and_every_table_survive_the_form_on_disk() -> None:
    odd = "/srv/b\udcffd\nname"
    made = image(
        {odd: 3, "/lib": "-> usr/lib", "/v/b.py": 5},
        elfs=[elf(LIB, needed=("libc.so.6",), versions_needed={"libc.so.6": ("GLIBC_2.34",)}, gpu=("sm_87",))],
        packages=(Package(name="a", version="1", architecture="amd64", files=(LIB,)),),
        distributions=(Distribution(name="b", version="2", location="/v", info="/v/b.dist-info", files=None),),
        layers=(LayerInfo(diff_id="sha256:1", size=None, instruction="RUN x"),),
        mentions=(Mention(path="/v/b.py", line=3, text="/build/x"),),
        loader_cache=(("libx.so.1", LIB),),
        texts={"/etc/os-release": "NAME=x"},
    )
    assert inventory.loads(json.dumps(made.as_dict()).encode()) == made


@pytest.mark.parametrize("content", [{}, {"schema": "other/1"}, {"schema": inventory.SCHEMA, "files": 3}])
def test_what_is_no_inventory_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"schema|files"):
        inventory.loads(json.dumps(content).encode())


def test_a_hard_link_counts_once() -> None:
    made = image({"/a": 10, "/b": File(path="/b", kind="file", size=10, hardlink="/a"), "/c": "-> a"})
    assert made.bytes == 10


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("/lib/libx.so", LIB),
        ("/usr/lib/../lib/./libx.so", LIB),
        ("/", "/"),
        ("/up/usr", "/usr"),
        ("/circle", None),
        ("/usr/lib/nothing", None),
        ("/dangling", None),
    ],
)
def test_links_are_followed_inside_the_image(path: str, real: str | None) -> None:
    links = {"/lib": "-> usr/lib", "/usr/lib/libx.so": "-> libx.so.1.2", "/circle": "-> circle", "/dangling": "-> no"}
    assert image({LIB: 5, "/up": "-> ../../..", **links}).real_path(path) == real
