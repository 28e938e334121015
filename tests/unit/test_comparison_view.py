"""The comparison on a terminal: the verdict first, 80 columns, nothing of an image interpreted."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from jetpare.base.errors import ConfigError
from jetpare.base.text import plain
from jetpare.compare import gather
from jetpare.compare.comparison import Comparison
from jetpare.compare.differences import complete
from jetpare.views import formats, rows
from jetpare.views.comparison_text import View
from tests.comparisons import INVENTORIES, MISSING, figures, full, skeleton


def shown(result: Comparison, *, width: int = 80, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    Console(file=stream, width=width, highlight=False).print(View(result))
    return raw.getvalue().decode(encoding)


def test_the_verdict_is_first_and_all_fits_80_columns() -> None:
    lines = shown(full()).splitlines()
    assert lines[0].startswith("cuda is 1.02 GB (28.9 %) smaller than jetpack and passes every check:")
    assert max(cell_len(line) for line in lines) <= 80
    assert "the base system and the GPU are not real" in " ".join(lines[1:4])


def test_every_part_is_there() -> None:
    text = shown(full(), width=120)
    for said in (
        "third: NOT BUILT (`invoke build-all --image third --profile rehearsal` builds it)",
        "uncompressed layers",
        "compressed (pull)",
        "2.50 GB (-28.9 %)",
        "2 (125 left)",
        "From jetpack to cuda",
        "-910 MB",
        "12.6.77 ✅",
        "tensorrt",
        "CUDA math libraries",
        "libgdal32",
        "Debian packages: 1 added, 2 removed, 1 changed, 1 the same",
        "1 added (3.40 MB), 5 removed (1.02 GB), 1 changed (700 kB)",
        "env NVIDIA_DRIVER_CAPABILITIES",
        "cuda: compute,utility,video",
        "5 min 06 s cold",
        "25.2 s warm",
        "Power mode: not measured.",
        "cuda/runtime: the clocks fell to 1.2 GHz",
        "third: run 20250101-000000 failed before it was finished",
        "Owned by nothing: 0.03 % of jetpack (1.11 MB), 0.04 % of cuda (1.11 MB).",
        "The same contents under several names: 7.00 MB in jetpack, 7.00 MB in cuda.",
        "Overwritten or deleted by later layers: 2.40 MB in jetpack, 0 B in cuda.",
    ):
        assert said in text


def test_columns_of_groups_add_up_to_their_sum() -> None:
    groups = rows.group_rows(full())
    merged = [image.sizes["merged"] for image in full().images[:2]]
    assert [sum(column) for column in zip(*(sizes for _, sizes in groups), strict=True)] == merged


def test_bars_end_where_the_totals_are() -> None:
    lines = shown(full(), width=120).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("From jetpack to cuda"))
    bars = {line.split("  ")[0].strip(): line for line in lines[start + 1 : start + 7]}
    assert bars["jetpack"].count("█") == 30
    assert bars["cuda"].count("█") == round(30 * 2_495_113_000 / 3_508_712_000)


def test_a_stream_that_cannot_show_signs_gets_words() -> None:
    wrong = complete(skeleton(figures("jetpack"), figures("cuda", budget=1)), INVENTORIES, min_saving_percent=10)
    text = shown(wrong, encoding="ascii")
    assert "12.6.77 ok" in text
    assert "NO" in text
    assert "----" in text  # the waterfall's bars
    assert "not recommended" in text


@pytest.mark.parametrize(
    "word", ["[red]x[/red]", "[/]", "a[0]", "[link=x]y", "\x1b[31m", "new\nline", "\u202e", "\udcff"]
)
def test_what_comes_from_an_image_is_shown_as_it_is(word: str) -> None:
    made = full()
    jetpack, cuda, third = made.images
    component = replace((cuda.components or ())[0], name=word, version=word, bytes=10**10)
    group = replace((cuda.groups or ())[0], name=word)
    odd = replace(
        cuda, base=word, notes=(word,), components=(component,), groups=(group,), reference=word,
        versions=(replace(cuda.versions[0], measured=word),), stages=(replace(cuda.stages[0], marks=(word,)),),
    )  # fmt: skip
    spoilt = replace(
        made,
        images=(jetpack, odd, third),
        waterfalls=(replace(made.waterfalls[0], steps=(replace(made.waterfalls[0].steps[0], label=word),)),),
        packages=(replace(made.packages[0], name=word, versions={"jetpack": word, "cuda": None}),),
        files=(replace(made.files[0], largest=(replace(made.files[0].largest[0], path=word),)),),
        configuration=(replace(made.configuration[0], key=word, values={"jetpack": word}),),
        verdict=replace(made.verdict, headline=word),
    )
    text = shown(spoilt, width=300)
    assert text.count(plain(word)) >= 12
    assert all(char.isprintable() or char == "\n" for char in text)


def test_a_bare_comparison_has_no_empty_sections() -> None:
    bare = complete(skeleton(MISSING, baseline="third"), {}, min_saving_percent=10)
    text = shown(bare)
    for title in ("Versions", "What takes the space", "Packages that differ", "Times of the stages", "From third"):
        assert title not in text
    assert "third stands alone" in text


# --- forms


@pytest.mark.parametrize(
    ("form", "output", "chosen"),
    [
        ("", "", "text"), ("", "x.html", "html"), ("", "x.HTM", "html"), ("", "a.b/x.md", "md"), ("", "x.json", "json"),
        ("", "x.out", "text"), ("json", "x.html", "json"), ("md", "", "md"),
    ],
)  # fmt: skip
def test_the_form(form: str, output: str, chosen: str) -> None:
    assert formats.pick(form, output) == chosen


def test_an_unknown_form_is_told_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'html'.*text, json, md, html"):
        formats.pick("htlm", "")


def test_text_in_a_file_has_no_colour() -> None:
    text = formats.text(gather.Gathered(comparison=full(), inventories=INVENTORIES))
    assert "\x1b" not in text
    assert max(map(cell_len, text.splitlines())) <= 100


def test_json_holds_names_that_are_not_utf8() -> None:
    odd = figures("cuda", notes=("/a/\udcff",))
    made = complete(skeleton(figures("jetpack"), odd), {}, min_saving_percent=10)
    text = formats.as_json(gather.Gathered(comparison=made, inventories={}))
    text.encode("ascii")
    assert "\\udcff" in text
