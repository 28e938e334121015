"""Explain: what a name stands for, who needs it, what asked for it, and which layer brought it."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from jetpare.config.load import load_config
from jetpare.image import explain
from jetpare.image.attribution import attribute
from jetpare.image.explain import Brought, ChainStep, Explained, Needed
from jetpare.image.inventory import Distribution, File, LayerInfo, Package, Settings
from jetpare.image.layers import LayerEntry, LayerListing, Listing
from jetpare.image.needs import Image, Sources, sources
from jetpare.views import explanation_text
from tests.conftest import ROOT
from tests.inventories import elf, image

LIB = "/usr/lib/x86_64-linux-gnu"
SITE = "/opt/venv/lib/python3.11/site-packages"
SOURCES = Sources(packages=("tzdata",), requirements=("torch==2.8.0",), collect=("usr/lib/{multiarch}/libcudnn*.so*",))


def package(name: str, *files: str, **more: Any) -> Package:
    return Package(**{"name": name, "version": "1", "architecture": "amd64", "files": files, **more})


def distribution(name: str, *files: str, **more: Any) -> Distribution:
    info = f"{SITE}/{name}-2.dist-info"
    return Distribution(**{"name": name, "version": "2", "location": SITE, "info": info, "files": files, **more})


@pytest.fixture
def sample() -> Image:
    """A torch that links with cuDNN and libproj, which a package brought, which depends on sqlite and data."""
    torch = f"{SITE}/torch/lib/libtorch.so"
    made = image(
        {
            "/lib": "-> usr/lib",
            f"{LIB}/libcudnn.so.9": "-> libcudnn.so.9.3.0",
            f"{LIB}/libproj.so.25": "-> libproj.so.25.9",
            "/usr/share/proj/proj.db": 700,
            "/usr/bin/python3": "-> python3.11",
            f"{SITE}/numpy/a.py": 5,
            "/usr/lib/python3/dist-packages/numpy/a.py": 6,
            "/usr/local/bin/tool": 8,
            "/dangling": "-> nowhere",
            "/srv/first": 3,
            "/srv/second": File(path="/srv/second", kind="file", size=3, hardlink="/srv/first"),
        },
        elfs=[
            elf(f"{LIB}/libcudnn.so.9.3.0", soname="libcudnn.so.9"),
            elf(f"{LIB}/libproj.so.25.9", soname="libproj.so.25", needed=("libsqlite3.so.0",)),
            elf(f"{LIB}/libsqlite3.so.0"),
            elf(torch, needed=("libcudnn.so.9", "libproj.so.25"), strings=("libsqlite3.so.0",)),
            elf("/usr/bin/python3.11", soname=None),
        ],
        packages=(
            package("libproj25", f"{LIB}/libproj.so.25.9", depends=("proj-data", "libsqlite3-0 (>= 3.7)"), auto=True),
            package("libsqlite3-0", f"{LIB}/libsqlite3.so.0", auto=True),
            package("proj-data", "/usr/share/proj/proj.db", auto=True, provides=("proj-db (= 1)",)),
            package(
                "python3.11-minimal", "/usr/bin/python3.11", "/usr/bin/python3", depends=("awk | libsqlite3-0:any",)
            ),
            package("python3-numpy", "/usr/lib/python3/dist-packages/numpy/a.py", auto=False),
            package("numpy", auto=False),
            package("base-files", essential=True),
        ),
        distributions=(
            distribution("torch", torch, requires=("numpy>=1", "extra-only; extra == 'all'", "not a requirement!")),
            distribution("numpy", f"{SITE}/numpy/a.py"),
            distribution("extra-only"),
        ),
        interpreters={"/usr/local/bin/tool": "/usr/bin/env -S python3 -I"},
        texts={"/usr/share/jetpare/cudnn.tsv": f"path\n{LIB}/libcudnn.so.9.3.0\n"},
        layers=tuple(
            LayerInfo(diff_id=str(number), size=None, instruction=text)
            for number, text in enumerate(("ADD base", "RUN apt-get install -y proj-data", None))
        ),
        settings=Settings(env={"PATH": "/usr/local/bin:/usr/bin"}, labels={"jetpare.project": "jetpare"}),
    )
    return Image(made, attribute(made, groups={"letters": ("debian:*",)}), None, SOURCES)


def only(sample: Image, word: str) -> Explained:
    (found,) = explain.explain(sample, word)
    return found


@pytest.mark.parametrize(
    "word",
    ["/lib/x86_64-linux-gnu/libcudnn.so.9", f"{LIB}/libcudnn.so.9", f"{LIB}//./libcudnn.so.9.3.0", "libcudnn.so.9"],
)
def test_a_path_through_links_is_the_file_that_it_leads_to(sample: Image, word: str) -> None:
    found = only(sample, word)
    assert (found.name, found.bytes, found.components) == (f"{LIB}/libcudnn.so.9.3.0", 1000, ("collected:cudnn",))
    assert found.needs == (
        Needed(
            component="python:torch",
            how="links with",
            names=("libcudnn.so.9",),
            count=1,
            examples=(f"{SITE}/torch/lib/libtorch.so",),
        ),
    )
    assert found.reasons == ('collected:cudnn: [collect] of build.toml: "usr/lib/{multiarch}/libcudnn*.so*"',)
    assert f"links to it: {LIB}/libcudnn.so.9" in found.notes


def test_a_package_with_who_needs_it_and_the_way_from_what_was_asked_for(sample: Image) -> None:
    found = only(sample, "libsqlite3-0")
    assert [(each.component, each.how, each.names) for each in found.needs] == [
        ("debian:libproj25", "links with", ("libsqlite3.so.0",)),
        ("debian:libproj25", "depends on", ("libsqlite3-0 (>= 3.7)",)),
        ("debian:python3.11-minimal", "depends on", ("awk | libsqlite3-0:any",)),
        ("python:torch", "may open", ("libsqlite3.so.0",)),
    ]
    assert found.chain == (
        ChainStep(component="python:torch", how="links with", name="libproj.so.25"),
        ChainStep(component="debian:libproj25", how="links with", name="libsqlite3.so.0"),
    )
    assert found.chain_reason == '[python] requirements of build.toml: "torch==2.8.0"'
    assert found.reasons == ("apt's mark: auto, a dependency",)
    assert found.groups == ("letters",)


def test_what_an_instruction_names_was_asked_for(sample: Image) -> None:
    found = only(sample, "proj-data")
    assert found.reasons[0] == "the instruction of layer 2 installs it by name"
    assert found.chain == ()


def test_a_scripts_interpreter_is_needed_by_it_through_env_and_links(sample: Image) -> None:
    assert [(each.component, each.how) for each in only(sample, "/usr/bin/python3").needs] == [("nobody", "runs with")]


def test_a_name_that_is_a_package_and_a_distribution_shows_both(sample: Image) -> None:
    found = explain.explain(sample, "numpy")
    assert [(each.kind, each.bytes) for each in found] == [("package", 0), ("distribution", 5)]
    assert [each.component for each in found[1].needs] == ["python:torch"]


def test_an_extra_needs_nothing(sample: Image) -> None:
    assert only(sample, "extra_only").needs == ()


def test_a_component_and_a_group(sample: Image) -> None:
    assert only(sample, "cudnn").name == "collected:cudnn"
    group = only(sample, "Letters")
    assert group.kind == "group"
    assert group.bytes == 1000 * 3 + 700 + 6
    assert [each.component for each in group.needs] == ["python:torch", "nobody", "python:torch"]


def test_a_folder_counts_what_is_below_it_and_the_root_all(sample: Image) -> None:
    assert only(sample, "/usr/share").bytes == 700
    assert only(sample, "/").bytes == sample.inventory.bytes


def test_a_dangling_link_and_another_name_of_a_file(sample: Image) -> None:
    assert only(sample, "/dangling").title == "dangling link"
    assert "the same file by hard link: /srv/second" in only(sample, "/srv/first").notes
    assert only(sample, "/srv/second").bytes == 0


def test_what_is_not_there_has_names_that_are_close(sample: Image) -> None:
    assert explain.explain(sample, "libsqlite3") == explain.explain(sample, "") == ()
    assert "libsqlite3-0" in explain.similar(sample, "libsqlite3")
    assert explain.explain(sample, "/usr/bin/python33") == ()
    assert "/usr/bin/python3" in explain.similar(sample, "/usr/bin/python33")
    assert explain.similar(sample, "zzzzzz") == []


def test_which_layer_brought_overwrote_and_deleted(sample: Image) -> None:
    def file(path: str, size: int) -> LayerEntry:
        return LayerEntry(path=path, kind="file", size=size)

    listing = Listing(
        image_id="x",
        how="overlay2",
        layers=(
            LayerListing(diff_id="0", entries=(file("/usr/share/proj/proj.db", 300), file("/gone", 9))),
            LayerListing(diff_id="1", entries=(file("/usr/share/proj/proj.db", 700),)),
            LayerListing(diff_id="2", entries=(LayerEntry(path="/gone", kind="whiteout"),)),
        ),
    )
    told = Image(sample.inventory, sample.attribution, listing, SOURCES)
    assert only(told, "proj-data").layers == (
        Brought(layer=1, instruction="ADD base", bytes=0, files=0, hidden_bytes=300, hidden_files=1),
        Brought(layer=2, instruction="RUN apt-get install -y proj-data", bytes=700, files=1),
    )
    gone = only(told, "/gone")
    assert gone.title == "deleted"
    assert gone.layers == (
        Brought(layer=1, instruction="ADD base", bytes=0, files=0, hidden_bytes=9, hidden_files=1),
        Brought(layer=3, instruction=None, bytes=0, files=0, deletes=True),
    )
    assert explain.explain(sample, "/gone") == ()


def test_layers_that_were_not_read_are_not_measured(sample: Image) -> None:
    found = only(sample, "proj-data")
    assert (found.layers, found.layers_reason) == (None, "the layers were not asked for")


def test_it_is_told_in_80_columns_with_the_answer_first(sample: Image) -> None:
    out = io.StringIO()
    subjects = explain.explain(sample, "libsqlite3-0")
    Console(file=out, width=80).print(explanation_text.explanation("cuda", subjects, image_bytes=10_000))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert lines[0] == "libsqlite3-0 in cuda"
    assert all(len(line) <= 80 for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "takes 1.00 kB, 10.0 % of the image" in text
    assert 'python:torch was asked for: [python] requirements of build.toml: "torch==2.8.0"' in text
    assert "debian:libproj25 links with libsqlite3-0 (libsqlite3.so.0)" in text
    assert "layers not measured: the layers were not asked for" in text


def test_build_toml_speaks_only_of_images_of_this_project() -> None:
    loaded = load_config(ROOT / "build.toml")
    assert sources(loaded, {}) == sources(loaded, {"jetpare.project": "other"}) == Sources()
    ours = sources(loaded, {"jetpare.project": "jetpare"})
    assert "tzdata" in ours.packages
    assert "torch==2.8.0" in ours.requirements
    assert len(ours.collect) == len(loaded.collect.required) + len(loaded.collect.optional)


def test_a_name_with_markup_is_shown_as_it_is_and_control_characters_written_out() -> None:
    name = "/srv/[bold]\x1b[2J\n\udcff"
    made = image({name: 1})
    told = Image(made, attribute(made, groups={}))
    out = io.StringIO()
    Console(file=out, width=80).print(explanation_text.explanation("a[b]", explain.explain(told, name), image_bytes=1))
    assert out.getvalue().startswith("/srv/[bold]\\x1b[2J\\n\\udcff in a[b]\n")


def lines_of(**words: Any) -> list[tuple[str, str]]:
    """The rows of an explanation; a title that is that of the row above is left out there, and filled in here."""
    usual: dict[str, Any] = {"kind": "package", "name": "libx", "title": "package", "version": "1.2", "bytes": 50}
    told = explain.Explained(**{**usual, "files": 3, "components": (), "groups": (), **words})
    out = io.StringIO()
    Console(file=out, width=200).print(explanation_text.explanation("cuda", [told], image_bytes=100))
    title, found = "", []
    for line in out.getvalue().splitlines()[1:]:
        name, text = re.split(r"\s{2,}", line.rstrip(), maxsplit=1)
        title = name or title
        found.append((title, text))
    return found


def test_long_lists_are_cut_and_say_how_much_is_left() -> None:
    needs = [
        explain.Needed(
            component=f"c{n}", how="links with", names=("a", "b", "c", "d", "e"), count=4, examples=("x", "y")
        )
        for n in range(14)
    ]
    rows = [line for title, line in lines_of(needs=tuple(needs)) if title == "needed by"]
    assert rows[0] == "c0 links with a, b, c and 2 more: x, y and 2 more files"
    assert len(rows) == 13
    assert rows[-1] == "… and 2 more"


def test_a_part_says_of_what_and_a_whole_its_group() -> None:
    assert ("part of", "debian:libx; group System") in lines_of(components=("debian:libx",), groups=("System",))
    assert ("group", "System") in lines_of(components=("libx",), groups=("System",))
    assert ("takes", "50 B in 3 files, 50.0 % of the image") in lines_of()
    assert ("takes", "0 B in 2 files") in lines_of(bytes=0, files=2)


def test_each_layer_says_what_it_did_without_its_build_arguments() -> None:
    layers = (
        Brought(layer=1, instruction="RUN |2 A=1 B=2 /bin/sh -c make install # buildkit", bytes=2000, files=1),
        Brought(layer=2, instruction=None, bytes=0, files=0, hidden_bytes=30, hidden_files=1, deletes=True),
    )
    rows = [line for title, line in lines_of(layers=layers) if title == "layers"]
    assert rows[0].startswith("1: brings 2.00 kB in 1 file, by RUN make install")
    assert rows[1] == ("2: 30 B that a later layer overwrites or deletes and deletes it, by an unknown instruction")
    assert ("layers", "no layer has a file of it") in lines_of(layers=())
