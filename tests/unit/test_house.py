"""The layout of the code: one meaning for each name, small modules, and a door with a sign on each package.

Who may import whom is a contract in pyproject.toml, which `lint-imports` checks.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

MODULE_LINES, CLASS_LINES, FUNCTION_LINES = 500, 250, 45
PACKAGE = ROOT / "jetpare"
MODULES = sorted(PACKAGE.rglob("*.py"))
PROGRAMS = [ROOT / "tasks.py", *sorted((ROOT / "scripts").rglob("*.py"))]


def definitions(path: Path) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node


def names(path: Path) -> Iterator[str]:
    """Every class, and every alias or type variable of a module, by its name in capitals and small letters."""
    tree = ast.parse(path.read_text())
    yield from (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and re.fullmatch(r"_?[A-Z]\w*[a-z]\w*", target.id):
                yield target.id


def lines(node: ast.ClassDef | ast.FunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def several(places: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: where for name, where in places.items() if len(where) > 1}


def test_a_class_or_alias_means_one_thing() -> None:
    places = defaultdict(list)
    for path in MODULES:
        for name in names(path):
            places[name].append(str(path.relative_to(ROOT)))
    assert several(places) == {}


def test_a_module_name_means_one_thing() -> None:
    places = defaultdict(list)
    for path in MODULES:
        if path.name != "__init__.py":
            places[path.stem].append(str(path.relative_to(ROOT)))
    assert several(places) == {}


def test_a_path_in_an_image_is_written_once() -> None:
    places = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and re.fullmatch(r"/usr/share/jetpare/[\w.-]+", str(node.value)):
                places[str(node.value)].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert several(places) == {}


@pytest.mark.parametrize("path", [*MODULES, *PROGRAMS], ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_too_long_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MODULE_LINES
    limits = {ast.ClassDef: CLASS_LINES, ast.FunctionDef: FUNCTION_LINES}
    assert {node.name: lines(node) for node in definitions(path) if lines(node) > limits[type(node)]} == {}


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=lambda path: path.name)
def test_a_package_says_what_is_in_it(folder: Path) -> None:
    tree = ast.parse((folder / "__init__.py").read_text())
    doc = ast.get_docstring(tree) or ""
    if folder == PACKAGE:
        return  # the whole: README.md says what it is
    assert "Imports:" in doc
    assert "Start reading:" in doc
    assert len(tree.body) == 1, "nothing is re-exported: `invoke --list` would pay for it"
