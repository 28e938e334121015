"""The HTML report without a browser: its tree, its data, and what it says where nothing was measured."""

from __future__ import annotations

import html as entities
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetpare.base.text import plain
from jetpare.image.inventory import File
from jetpare.views import html
from tests.comparisons import INVENTORIES, MISSING, figures, full, skeleton
from tests.inventories import image

NAMES = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda name: name not in {".", ".."}
)
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts)), st.integers(0, 10**12)
)


def walk(tree: list[html.Row]) -> Iterator[tuple[str, int, int]]:
    """(path, bytes, component) of everything in a tree, as the script reads it."""
    paths: list[str] = []
    for parent, folder, names, sizes, owners in tree:
        paths.append(f"{paths[parent]}/{folder}" if paths else "")
        for place, (name, size) in enumerate(zip(names.split("/"), sizes, strict=True) if sizes else ()):
            yield f"{paths[-1]}/{name}", size, owners if isinstance(owners, int) else owners[place]


def page_data(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


@given(TREES)
def test_every_file_and_every_byte_is_in_the_tree(sizes: dict[str, int]) -> None:
    made = image({path: size for path, size in sizes.items() if not any(each.startswith(f"{path}/") for each in sizes)})
    numbers = {path: place % 3 for place, path in enumerate(sizes)}
    found = sorted(walk(html.tree(made, numbers)))
    assert sum(size for _, size, _ in found) == made.bytes
    kept = [file for file in made.files if file.kind != "dir"]
    assert found == sorted((plain(each.path), each.size, numbers[each.path]) for each in kept)


def test_a_hard_link_counts_once_and_a_link_nothing() -> None:
    first = File(path="/a", kind="file", size=7)
    made = image({"/a": first, "/b": File(path="/b", kind="file", size=7, hardlink="/a"), "/c": "-> a"})
    assert list(walk(html.tree(made, {"/a": 0, "/b": 0}))) == [("/a", 7, 0), ("/b", 0, 0), ("/c", 0, html.NOBODY)]


def test_folders_as_deep_as_a_path_may_be_are_no_trouble() -> None:
    path = "/d" * 2_000 + "/file"
    page = html.render(skeleton(figures("jetpack")), {"jetpack": image({path: 5})})
    assert [found[:2] for found in walk(page_data(page)["images"][0]["rows"])] == [(path, 5)]


def test_the_sums_of_the_page_are_those_of_the_inventories() -> None:
    data = page_data(html.render(full(), INVENTORIES))
    sums = {each["name"]: sum(size for _, size, _ in walk(each["rows"])) for each in data["images"]}
    assert sums == {name: inventory.bytes for name, inventory in INVENTORIES.items()}


@given(st.text())
def test_no_text_ends_the_element_that_holds_the_data(text: str) -> None:
    written = html.embedded({text: [text]})
    assert written.isascii()
    assert not set("<>&") & set(written)
    assert json.loads(written) == {text: [text]}


def test_a_name_that_is_no_utf8_can_be_written() -> None:
    page = html.render(skeleton(figures("jetpack")), {"jetpack": image({"/bad \udcff name": 5})})
    page.encode()
    assert [path for path, _, _ in walk(page_data(page)["images"][0]["rows"])] == ["/bad \\udcff name"]


def test_the_policy_names_the_script_and_the_style_that_the_page_has() -> None:
    page = html.render(full(), INVENTORIES)
    policy = entities.unescape(re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)[0])
    assert policy.startswith("default-src 'none';")
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert f"style-src {html.policy_source(style)};" in policy
    assert f"script-src {html.policy_source(script)};" in policy
    assert "http" not in policy
    assert re.findall(r"(?:src|href)=\"(?!#|data:,)", page) == []


def test_what_was_not_measured_is_said_and_what_is_not_there_has_no_section() -> None:
    page = html.render(skeleton(MISSING, caveat=None, notes=()), {})
    shown = re.findall(r'<section id="(\w+)"', page)
    assert shown == ["verdict", "figures", "notes", "measured"]
    assert re.findall(r'<li><a href="#(\w+)"', page) == shown[1:]
    assert page.count("not measured</span>") == 5  # four sizes, and the layers
    assert "NOT BUILT" in page
    assert 'class="caveat"' not in page
    assert 'id="data"' not in page


def test_every_section_of_a_full_comparison_is_there_in_its_order() -> None:
    page = html.render(full(), INVENTORIES)
    assert re.findall(r'<section id="(\w+)"', page) == ["verdict", *html.SECTIONS]
    assert "A rehearsal: the base system and the GPU are not real" in page


# --- colours: WCAG 2.2, 1.4.3 (text, 4.5) and 1.4.11 (graphics, 3)


def palettes() -> dict[str, dict[str, str]]:
    light, dark = re.findall(r":root \{(.*?)\}", html.part("style.css"), re.DOTALL)
    return {
        name: dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for name, block in {"light": light, "dark": dark}.items()
    }


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_can_be_told_apart(theme: str) -> None:
    colours = palettes()[theme]
    hues = [colours[f"hue{number}"] for number in range(html.HUES)]
    text = [
        (colours[ink], colours[paper])
        for ink in ("ink", "soft", "accent", "good", "bad")
        for paper in ("page", "panel")
    ]
    text += [(colours["box-ink"], hue) for hue in (*hues, colours["other"], colours["mixed"])]
    text += [(colours["ink"], colours["caution"])]
    drawn = [
        (colour, colours["page"])
        for colour in (*hues, *(colours[name] for name in ("total", "less", "more", "warm", "cold")))
    ]
    assert [pair for pair in text if contrast(*pair) < 4.5] == []
    assert [pair for pair in drawn if contrast(*pair) < 3] == []
