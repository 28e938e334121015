"""The Markdown: the reference's sections, never too long, and nothing from an image means anything."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from jetpare.base.text import plain
from jetpare.compare.comparison import Comparison, FileChange, PackageRow
from jetpare.compare.differences import complete
from jetpare.image.attribution import Component
from jetpare.views import markdown
from tests.comparisons import figures, full, skeleton

ODD = st.text(st.sampled_from("ab `|\\<>&*_[]()#!~@$\n\r\t\x1b\u202e\udcff:/.-+\"'"), max_size=30)
PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


class Page(HTMLParser):
    """The tags of a page, and the text of its table cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.tags.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


def page(text: str) -> Page:
    made = Page()
    made.feed(PARSER.render(text))
    return made


def hostile(text: str) -> Comparison:
    """A comparison in which everything that comes from an image holds *text*."""
    made = full()
    jetpack, cuda, third = made.images
    component = Component(key=text, kind="debian", name=text, version=text, group="base", bytes=1, files=1)
    spoilt = replace(
        cuda, notes=(text,), base=text, id=text, components=(component,), versions=(replace(cuda.versions[0], measured=text),)
    )  # fmt: skip
    return replace(
        made,
        images=(jetpack, spoilt, third),
        files=(replace(made.files[0], largest=(FileChange(path=text, change="added", bytes=1),)),),
        configuration=(replace(made.configuration[0], values={"jetpack": text, "cuda": None}, key=text),),
        packages=(
            PackageRow(kind="debian", name=text, change="added", versions={"cuda": text, "jetpack": None}, bytes={"cuda": 1}),
        ),
        verdict=replace(made.verdict, headline=text),
    )  # fmt: skip


def test_it_follows_the_sections_of_a_comparison_written_by_hand() -> None:
    headings = re.findall(r"^#+ (.*)$", markdown.render(full()), re.MULTILINE)
    assert headings == [
        "Base image comparison", "Purpose", "Base Images", "Software Stack", "Results", "Size Comparison", "Build Time",
        "Software Versions", "Key Implementation Details", "What Differs", "Recommendations", "✅ RECOMMENDED",
        "Potential Concerns",
    ]  # fmt: skip


def test_it_tells_what_was_measured() -> None:
    text = markdown.render(full())
    for said in (
        "> **✅ RECOMMENDED**: cuda is 1.02 GB (28.9 %) smaller than jetpack and passes every check: recommended.",
        "> ⚠ A rehearsal: the base system and the GPU are not real",
        "- **`cuda`: 1.02 GB smaller (28.9 %)**",
        "| CUDA math libraries | -910 MB | 2.60 GB |",
        "| compressed (pull) | not measured | not measured | - |",
        "| gdal | 5 min 06 s cold | 25.2 s warm | - |",
        "| tensorrt | - | not measured | not measured | - | - |",
        "| gdal | `3.10.3` | `3.10.3` | `3.10.3` | - | ✅ |",
        "Power mode: not measured. Host: 2 cores, 25.3 GB of memory.",
        "| `libssl3` | debian | changed | 3.0.15 (690 kB) | 3.0.17 (700 kB) |",
        "| `env NVIDIA_REQUIRE_CUDA` | `cuda>=12.6` | *not set* |",
        "  - **NOT BUILT**",
        "- What `cuda` has less, above all: CUDA math libraries (910 MB), development files (83.0 MB), GDAL (20.6 MB)",
    ):
        assert said in text
    assert text.count("<details>") == text.count("</details>") >= 6


@given(text=ODD)
def test_any_name_is_one_cell_and_reads_as_it_is(text: str) -> None:
    made = page(f"| a | b |\n| --- | --- |\n| {markdown.code(text)} | {markdown.prose(text)} |\n")
    assert [tag for tag in made.tags if tag not in {"table", "thead", "tbody", "tr", "th", "td", "code"}] == []
    first, second = made.cells
    assert first.strip() == plain(text).strip() == second.strip()


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>", "</details><img src=x onerror=alert(1)>", "a|b`c", "\\|", "``", "x\n\n# heading",
        "[link](https://example.invalid)", "![image](x)", "<!--", "&lt;b&gt;", "**bold**", "| --- |", "\x1b[31m", "\udcff",
    ],
)  # fmt: skip
def test_what_comes_from_an_image_means_nothing(text: str) -> None:
    clean, dirty = markdown.render(hostile("harmless")), markdown.render(hostile(text))
    assert all(char.isprintable() or char == "\n" for char in dirty)
    assert page(dirty).tags.count("td") == page(clean).tags.count("td")
    assert sorted(set(page(dirty).tags)) == sorted(set(page(clean).tags))
    assert page(dirty).tags.count("details") == page(clean).tags.count("details")
    assert page(dirty).tags.count("h1") == 1


def large(count: int) -> Comparison:
    parts = tuple(
        Component(
            key=f"debian:p{index}", kind="debian", name=f"package-with-a-long-name-{index}", version="1:2.3.4-5+deb12u1",
            group="base", bytes=1000 + index, files=1,
        )
        for index in range(count)
    )  # fmt: skip
    packages = tuple(
        PackageRow(
            kind="debian",
            name=part.name,
            change="removed",
            versions={"jetpack": "1", "cuda": None},
            bytes={"jetpack": 1},
        )
        for part in parts
    )
    made = complete(
        skeleton(figures("jetpack", components=parts), figures("cuda", components=parts)), {}, min_saving_percent=10
    )
    return replace(made, packages=packages)


@pytest.mark.parametrize("count", [10, 300, 5000])
def test_it_is_never_too_long_and_says_what_is_left_out(count: int) -> None:
    text = markdown.render(large(count))
    assert len(text) <= markdown.LIMIT
    assert text.count("<details>") == text.count("</details>")
    assert "## Recommendations" in text
    left_out = re.search(r"Left out to stay within 60,000 characters: ([\d,]+) components", text)
    shown = len(re.findall(r"^\| `package-with-a-long-name-\d+ 1:2", text.split("by component")[1], re.MULTILINE))
    missing = int(left_out[1].replace(",", "")) if left_out else 0
    assert shown + missing == count
    assert bool(missing) == (count > 300)


def test_even_what_cannot_be_shortened_is_cut_and_closed() -> None:
    images = [replace(figures("cuda"), name=f"image-{index}", notes=("x" * 500,) * 10) for index in range(30)]
    text = markdown.render(complete(skeleton(figures("jetpack"), *images), {}, min_saving_percent=10))
    assert len(text) <= markdown.LIMIT
    assert text.count("<details>") == text.count("</details>")
    assert text.rstrip().endswith("`invoke compare --format html` shows all.*")
