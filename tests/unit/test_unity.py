"""GDAL in units: what the compiler's words mean, what leaks, which list comes of it, and what counts as a difference."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from jetpare.records.reports import fallback
from tests.conftest import ROOT

SCRIPTS = ROOT / "scripts/image"
sys.path.insert(0, str(SCRIPTS))  # scripts import the ones next to them
A, B, C = (Path(f"/src/{name}.cpp") for name in "abc")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


find = load("find_unity")
compare = load("compare_gdal")


def sources(said: str) -> list[Path]:
    return [clash.source for clash in find.clashes(said, [A, B, C])]


def test_a_clash_is_laid_to_the_source_that_the_compiler_names() -> None:
    said = "In file included from <stdin>:2:\n/src/b.cpp:39:15: error: redefinition of 'constexpr const int SIZE'\n"
    assert sources(said) == [B]
    assert sources('/src/c.cpp:4: warning: "STRINGIFY" redefined\n') == [C]


def test_a_clash_in_a_header_is_laid_to_the_source_that_included_it() -> None:
    said = (
        "In file included from /src/deep.h:3,\n                 from /src/c.cpp:7,\n                 from <stdin>:3:\n"
        "/src/deeper.h:10:5: error: redeclaration of 'int x'\n"
    )
    assert sources(said) == [C]


def test_what_follows_from_a_clash_takes_no_further_source_out() -> None:
    said = (
        "/src/a.cpp:1:1: error: 'X' has no member named 'y'\n"
        "/src/b.cpp:9:1: error: conflicting types for 'f'; have 'int'\n"
        "/src/c.cpp:9:1: error: 'Y' was not declared in this scope\n"
    )
    assert sources(said) == [B]
    assert sources(said.splitlines()[2]) == [C]
    assert sources("/src/a.cpp:1:1: warning: unused variable 'i'\n") == []


def test_text_that_a_macro_changed_is_a_leak() -> None:
    alone = {A: find.texts('# 1 "/src/a.cpp"\nint a;\n'), B: find.texts('# 1 "/src/b.cpp"\nint b = SIZE;\n')}
    same = find.texts('# 1 "/src/a.cpp"\nint  a;\n\n# 1 "/src/b.cpp" 2\nint b = SIZE;\n')
    other = find.texts('# 1 "/src/a.cpp"\nint a;\n# 1 "/src/b.cpp"\nint b = 16;\n')
    assert find.leaks(same, alone) == []
    assert [clash.source for clash in find.leaks(other, alone)] == [B]


@pytest.mark.parametrize(
    ("header", "leaks"),
    [("int f();", []), ("int f();\nint g();", []), ("long f();", [A])],
    ids=["the same", "one line more", "another line"],
)
def test_a_header_may_declare_more_but_nothing_else(header: str, leaks: list[Path]) -> None:
    alone = {A: find.texts('# 1 "/src/h.h"\nint f();\n# 1 "/src/a.cpp"\nint a;\n')}
    together = find.texts(f'# 1 "/src/h.h"\n{header}\n# 1 "/src/a.cpp"\nint a;\n')
    assert [clash.source for clash in find.leaks(together, alone)] == leaks


def test_the_systems_headers_are_left_out() -> None:
    assert find.texts('# 1 "/usr/include/stdio.h"\nint puts();\n# 1 "<built-in>"\n#define X\n') == {}


def test_the_list_names_targets_and_what_stays_alone() -> None:
    units = [
        find.Unit("ogr", Path("u0.cxx"), [], Path(), [A, B, C], {B: "redefinition of 'f'; have 'g'"}),
        find.Unit("jpeg", Path("u0.c"), [], Path(), [A, B], {B: "conflicting types"}),
    ]
    lines = find.proposal(units, title="GDAL 1").splitlines()
    assert lines == ["# GDAL 1", "# jpeg: too many clashes", "ogr", "ogr b.cpp # redefinition of 'f'"]


def test_the_compilers_call_is_freed_of_its_output() -> None:
    call = ["/usr/bin/ccache", "/usr/bin/c++", "-DX", "-O3", "-MD", "-MF", "a.d", "-o", "a.o", "-c", "a.cpp"]
    assert find.without_output(call) == ["/usr/bin/c++", "-DX", "-O3"]


@pytest.mark.parametrize("path", sorted((SCRIPTS / "gdal-unity").glob("*.txt")), ids=lambda path: path.stem)
def test_every_list_can_be_read(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert lines
    targets = {line for line in lines if " " not in line}
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9_]+( [\w.-]+\.(c|cpp) # [^;]+)?", line)
        assert line.split()[0] in targets


def binary(**more: object) -> dict[str, dict[str, object]]:
    exported = {"GDALOpen": "T", "_ZN3OGR1fEv": "T", "_ZNSt6vectorIiE4pushEv": "W"}
    plain = {"soname": ["libgdal.so.36"], "needed": ["libz.so.1"], "exported": exported}
    return {"usr/local/lib/libgdal.so.36": {**plain, **more}}


@pytest.mark.parametrize(
    ("other", "differences"),
    [
        ({}, 0),
        ({"needed": ["libz.so.1", "libm.so.6"]}, 1),
        ({"exported": {"GDALOpen": "T", "_ZNSt6vectorIiE4pushEv": "W"}}, 1),
        ({"exported": {"GDALOpen": "D", "_ZN3OGR1fEv": "T"}}, 1),
        ({"exported": {"GDALOpen": "T", "_ZN3OGR1fEv": "T"}}, 0),
        ({"soname": ["libgdal.so.37"]}, 1),
    ],
    ids=["nothing", "a library", "a function", "its kind", "a copy of a header's function", "the name"],
)
def test_what_is_a_difference_between_two_libraries(other: dict[str, object], differences: int) -> None:
    assert len(list(compare.compare_binaries(binary(), binary(**other)))) == differences


def test_a_copy_of_a_headers_function_is_told_all_the_same() -> None:
    other = binary(exported={"GDALOpen": "T", "_ZN3OGR1fEv": "T"})
    assert compare.vague(binary(), other) == {"usr/local/lib/libgdal.so.36": ["_ZNSt6vectorIiE4pushEv"]}


def test_a_build_that_fell_back_says_so(tmp_path: Path) -> None:
    (tmp_path / "gdal.json").write_text('{"build": "plain", "why": "no 3.11.5.txt"}')
    assert fallback(tmp_path) == ["plain build: no 3.11.5.txt"]
    (tmp_path / "gdal.json").write_text('{"build": "unity", "why": ""}')
    assert fallback(tmp_path) == fallback(None) == []


def test_the_dockerfile_hands_the_list_in() -> None:
    text = (ROOT / "dockerfiles/images.Dockerfile").read_text()
    assert text.count("ARG GDAL_BUILD\n") == 2
    assert "source=scripts/image/gdal-unity,target=/run/jetpare/gdal-unity" in text
