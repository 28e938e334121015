"""Who needs whom: one graph, by which explain and the audit's A7 say the same."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetpare.audit import users
from jetpare.audit.subject import Subject
from jetpare.config.schema import AuditSettings as Rules
from jetpare.image import explain, needs
from jetpare.image.attribution import attribute
from jetpare.image.inventory import Distribution, Elf, File, Inventory, Package
from jetpare.image.linkage import resolve
from tests.inventories import elf, image

SITE = "/opt/venv/lib/python3.11/site-packages"
HIDDEN = "/opt/hidden/libhidden.so.1"


def users_of(inventory: Inventory, used: str) -> set[tuple[str, str]]:
    found = needs.uses(inventory, resolve(inventory))
    return {(use.user, use.how) for use in found if use.used == used}


def explained(inventory: Inventory, word: str) -> tuple[explain.Needed, ...]:
    (found,) = explain.explain(needs.Image(inventory, attribute(inventory, groups={})), word)
    return found.needs


def unused(inventory: Inventory) -> users.Graph:
    return users.Graph(Subject(name="x", reference="x", inventory=inventory, rules=Rules(least_mb=0)))


def test_the_worked_example_is_true() -> None:
    done = doctest.testmod(needs)
    assert done.failed == 0
    assert done.attempted > 0


@pytest.mark.parametrize(
    ("user", "how"),
    [
        (elf("/usr/bin/x", soname=None, needed=("libhidden.so.1",)), "cannot find"),
        (elf("/usr/bin/x", soname=None, strings=("libhidden.so.1",)), "may open"),
        (elf("/usr/bin/x", soname=None, needed=("libhidden.so.1",), runpath=("/opt/hidden",)), "links with"),
        (elf("/usr/bin/x", soname=None, needed=("libother.so.1",)), None),
    ],
)
def test_a_library_that_no_search_path_reaches_has_the_same_users_in_both_views(user: Elf, how: str | None) -> None:
    made = image({}, elfs=[elf(HIDDEN), user])
    ways = {each.how for each in explained(made, HIDDEN)}
    without = {each.name for each in unused(made).unused() if each.users == "none"}
    assert ways == ({how} if how else set())
    assert ("libhidden" in without) is (how is None)


def test_every_file_of_a_name_that_code_may_put_a_path_together_for_has_a_user() -> None:
    made = image({}, elfs=[elf("/a/libp.so"), elf("/b/libp.so"), elf("/usr/bin/x", soname=None, strings=("libp.so",))])
    assert users_of(made, "/a/libp.so") == users_of(made, "/b/libp.so") == {("/usr/bin/x", "may open")}


def test_users_are_found_through_links_hard_links_and_names() -> None:
    library = "/usr/lib64/liba.so.1.2"
    made = image(
        {
            "/usr/lib64/liba.so.1": "-> liba.so.1.2",
            "/usr/lib64/libhard.so": File(path="/usr/lib64/libhard.so", kind="file", size=9, hardlink=library),
        },
        elfs=[
            elf(library, soname="liba.so.1"),
            elf("/bin/x", needed=("liba.so.1",)),
            elf("/bin/y", needed=("libhard.so",)),
            elf("/bin/z", strings=("liba.so.1", "z")),
            elf("/usr/lib64/libalone.so", strings=("libalone.so",)),
        ],
    )
    assert users_of(made, library) == {("/bin/x", "links with"), ("/bin/y", "links with"), ("/bin/z", "may open")}
    assert users_of(made, "/usr/lib64/libalone.so") == set()


def test_beside_a_library_that_its_user_finds_another_of_that_name_does_not_count() -> None:
    made = image(
        {},
        elfs=[
            elf("/v/pkg/a.so", needed=("libz.so.1",), runpath=("$ORIGIN/../pkg.libs",)),
            elf("/v/pkg.libs/libz.so.1"),
            elf("/usr/lib/libz.so.1"),
            elf("/usr/lib32/libz.so.1", machine="i686", bits=32),
            elf("/usr/bin/b", needed=("libz.so.1",)),
        ],
        loader_cache=(("libz.so.1", "/usr/lib/libz.so.1"),),
    )
    assert users_of(made, "/v/pkg.libs/libz.so.1") == {("/v/pkg/a.so", "links with")}
    assert users_of(made, "/usr/lib/libz.so.1") == {("/usr/bin/b", "links with")}
    assert users_of(made, "/usr/lib32/libz.so.1") == set()


def test_a_file_that_the_loader_skips_names_libraries_for_its_own_machine() -> None:
    made = image(
        {},
        elfs=[
            elf("/usr/lib/libz.so.1"),
            elf("/usr/lib32/libz.so.1", machine="i686", bits=32),
            elf("/usr/bin/old", machine="i686", bits=32, soname=None, needed=("libz.so.1",)),
        ],
    )
    assert users_of(made, "/usr/lib32/libz.so.1") == {("/usr/bin/old", "names")}
    assert users_of(made, "/usr/lib/libz.so.1") == set()


def test_a_program_needs_its_interpreter_and_a_script_the_program_of_its_first_line() -> None:
    loader, script = "/lib64/ld-linux-x86-64.so.2", "/usr/local/bin/tool"
    made = image(
        {"/usr/bin/python3": "-> python3.11", script: 9},
        elfs=[elf(loader), elf("/usr/bin/python3.11", soname=None, interpreter=loader)],
        interpreters={script: "/usr/bin/env -S A=b python3 -I", "/none": "/usr/bin/env"},
    )
    assert users_of(made, loader) == {("/usr/bin/python3.11", "runs with")}
    assert users_of(made, "/usr/bin/python3.11") == {(script, "runs with")}


def package(name: str, *files: str, **more: Any) -> Package:
    values = {"name": name, "version": "1", "architecture": "amd64", "section": "libs", "auto": True, "files": files}
    return Package(**{**values, **more})


def test_a_package_for_two_architectures_is_two_nodes() -> None:
    made = image(
        {},
        packages=(
            package("liba", architecture="amd64"),
            package("liba", architecture="i386", depends=("libc6 (>= 2)",)),
            package("libc6", provides=("libc (= 2)",)),
            package("tool", depends=("libc | nothing", "tool")),
        ),
    )
    assert users_of(made, "debian:libc6") == {("debian:liba:i386", "depends on"), ("debian:tool", "depends on")}
    assert users_of(made, "debian:tool") == set()
    assert {each.name for each in unused(made).unused()} == {"liba:amd64", "liba:i386", "tool"}


def test_a_distribution_that_a_package_brought_is_that_package() -> None:
    info = "/usr/lib/python3/dist-packages/a-1.egg-info"
    made = image(
        {info: 5},
        packages=(package("python3-a", info), package("python3-b", f"{info[:-10]}b-1.egg-info")),
        distributions=(
            Distribution("a", "1", "/usr/lib/python3/dist-packages", info),
            Distribution("b", "1", "/usr/lib/python3/dist-packages", f"{info[:-10]}b-1.egg-info", requires=("A>1",)),
        ),
    )
    assert users_of(made, "debian:python3-a") == {("debian:python3-b", "requires")}
    assert unused(made).named == {"debian:python3-a": "python3-a", "debian:python3-b": "python3-b"}


NUMBERS = st.integers(0, 5)
EDGES = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=10)


@settings(deadline=None, max_examples=60)  # an image is resolved some twenty times
@given(
    linked=EDGES,
    opened=EDGES,
    depends=EDGES,
    requires=EDGES,
    hidden=st.sets(NUMBERS),
    owned=st.sets(NUMBERS),
    run=st.sets(NUMBERS),
)
def test_a7_says_unused_exactly_where_explain_finds_no_user(
    linked: list[tuple[int, int]],
    opened: list[tuple[int, int]],
    depends: list[tuple[int, int]],
    requires: list[tuple[int, int]],
    hidden: set[int],
    owned: set[int],
    run: set[int],
) -> None:
    """Six libraries, some where no search goes, some of packages, some run by scripts; six packages and distributions."""
    paths = [f"/opt/{n}/lib{chr(97 + n)}.so" if n in hidden else f"/usr/lib64/lib{chr(97 + n)}.so" for n in range(6)]

    def names(edges: list[tuple[int, int]], at: int, form: str) -> tuple[str, ...]:
        return tuple(form.format(chr(97 + to)) for start, to in edges if start == at)

    made = image(
        {f"/srv/script{n}": 1 for n in run},
        interpreters={f"/srv/script{n}": paths[n] for n in run},
        elfs=[
            elf(path, needed=names(linked, n, "lib{}.so"), strings=names(opened, n, "lib{}.so"))
            for n, path in enumerate(paths)
        ],
        packages=tuple(
            package(f"p{chr(97 + n)}", *([paths[n]] if n in owned else []), depends=names(depends, n, "p{}"))
            for n in range(6)
        ),
        distributions=tuple(
            Distribution(
                f"d{chr(97 + n)}", "1", SITE, f"{SITE}/d{n}.dist-info", requires=names(requires, n, "d{}"), files=()
            )
            for n in range(6)
        ),
    )
    graph = unused(made)
    asked = {graph.named[unit] for unit in graph.roots & graph.named.keys()}
    loose = {f"lib{chr(97 + n)}": paths[n] for n in range(6) if n not in owned}
    words = {name: name for name in graph.named.values()} | loose
    alone = {name for name, word in words.items() if not explained(made, word)}
    assert {each.name for each in graph.unused() if each.users == "none"} == alone - asked
