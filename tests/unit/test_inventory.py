"""The inventory: what it says of names and sizes, and that its form on disk loses nothing."""

from __future__ import annotations

import json
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetpare.image import inventory
from jetpare.image.inventory import Distribution, File, Inventory, LayerInfo, Mention, Package, Settings
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


@pytest.mark.parametrize(
    ("path", "placed"),
    [
        ("/lib/libx.so", "/usr/lib/libx.so"),
        ("/lib/not-there", "/usr/lib/not-there"),
        ("/gone/x", "/gone/x"),
        ("/lib", "/lib"),
        ("/", "/"),
    ],
)
def test_a_path_is_placed_by_the_links_among_its_folders(path: str, placed: str) -> None:
    made = image({LIB: 5, "/lib": "-> usr/lib", "/usr/lib/libx.so": "-> libx.so.1.2"})
    assert made.placed(path) == placed


@pytest.mark.parametrize(
    ("name", "path"),
    [("x", "/usr/bin/x"), ("/bin/x", "/usr/bin/x"), ("only", "/opt/only"), ("y", None), ("", None), ("/y", None)],
)
def test_a_program_is_found_on_the_images_own_path(name: str, path: str | None) -> None:
    settings = Settings(env={"PATH": "/gone:/bin:/opt"})
    made = image({"/usr/bin/x": 5, "/opt/x": 5, "/opt/only": 5, "/bin": "-> usr/bin"}, settings=settings)
    assert made.program(name) == path


def walked(made: Inventory, path: str) -> str | None:
    """The same step by step, with nothing kept."""
    done, rest, links = "/", [part for part in path.split("/") if part], 0
    while rest:
        part = rest.pop(0)
        here = posixpath.normpath(posixpath.join(done, part))
        if part in (".", ".."):
            done = here
            continue
        file = made.by_path.get(here)
        if file is None:
            return None
        done = here
        if file.kind == "link":
            links += 1
            if links > inventory.MAX_LINKS or not file.target:
                return None
            done = "/" if file.target.startswith("/") else posixpath.dirname(here)
            rest = [step for step in file.target.split("/") if step] + rest
    return done


NAMES = st.sampled_from(["a", "b", "c", "..", "."])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


@given(
    st.dictionaries(
        st.sampled_from(["/a", "/b", "/c", "/a/a", "/a/b", "/b/c", "/c/a"]), PATHS | PATHS.map("/".__add__)
    ),
    st.lists(PATHS, max_size=6),
)
def test_what_is_kept_of_a_path_changes_no_answer(targets: dict[str, str], paths: list[str]) -> None:
    made = image({path: f"-> {target}" for path, target in targets.items()})
    for path in (*paths, *paths):
        assert made.real_path(f"/{path}") == made.real_path(path) == walked(made, path)


def test_links_count_over_the_whole_way() -> None:
    """Two folders of 25 links each are too many for one path, whichever of them was looked up before."""
    chain = {f"/{name}{number}": f"-> {name}{number + 1}" for name in "ab" for number in range(25)}
    made = image({**chain, "/a25/b0": "-> ../b0", "/b25/x": 1})
    assert made.real_path("/a0") == "/a25"
    assert made.real_path("/b0/x") == "/b25/x"
    assert made.real_path("/a0/b0/x") is None
