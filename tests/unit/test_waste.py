"""Waste: what is there twice, and what later layers put out of sight."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jetpare.image import waste
from jetpare.image.inventory import File, LayerInfo
from jetpare.image.layers import EntryKind, LayerEntry, LayerListing, Listing
from tests.inventories import image


def layer(*entries: LayerEntry) -> LayerListing:
    return LayerListing(diff_id="sha256:x", entries=tuple(sorted(entries, key=lambda each: (each.path, each.kind))))


def file(path: str, size: int, hardlink: str | None = None) -> LayerEntry:
    return LayerEntry(path=path, kind="file", size=size, hardlink=hardlink)


def entry(path: str, kind: EntryKind) -> LayerEntry:
    return LayerEntry(path=path, kind=kind)


def found(*layers: LayerListing) -> list[tuple[str, int, str, int, int]]:
    return [(each.path, each.bytes, each.how, each.written, each.by) for each in waste.hidden(layers)]


def test_identical_content_counts_for_all_but_one_and_hard_links_not() -> None:
    files = [
        File(path="/a", kind="file", size=10, digest="d"),
        File(path="/b", kind="file", size=10, digest="d"),
        File(path="/c", kind="file", size=10, digest="d"),
        File(path="/d", kind="file", size=10, digest="d", hardlink="/a"),
        File(path="/e", kind="file", size=10, digest="other"),
        File(path="/f", kind="file", size=0, digest="empty"),
        File(path="/g", kind="file", size=0, digest="empty"),
        File(path="/h", kind="file", size=99),
    ]
    assert waste.duplicates(files) == (waste.Duplicate(bytes=20, size=10, paths=("/a", "/b", "/c")),)


def test_the_sets_that_waste_most_come_first() -> None:
    contents = {"small": (10, ("/a", "/b")), "large": (40, ("/y", "/z")), "often": (15, ("/k", "/l", "/m"))}
    files = [
        File(path=path, kind="file", size=size, digest=digest)
        for digest, (size, paths) in contents.items()
        for path in paths
    ]
    assert waste.duplicates(files) == (
        waste.Duplicate(bytes=40, size=40, paths=("/y", "/z")),
        waste.Duplicate(bytes=30, size=15, paths=("/k", "/l", "/m")),
        waste.Duplicate(bytes=10, size=10, paths=("/a", "/b")),
    )
    twice = image({file.path: file for file in files})
    for listing in (None, Listing(image_id="sha256:1", how="overlay2", layers=())):
        assert waste.waste(twice, listing).duplicate_bytes == 80


def test_a_file_that_three_layers_write_wastes_two_copies() -> None:
    layers = (layer(file("/f", 10)), layer(file("/f", 20)), layer(file("/f", 40)))
    assert found(*layers) == [("/f", 20, "overwritten", 1, 2), ("/f", 10, "overwritten", 0, 1)]
    deleted = layer(entry("/f", "whiteout"))
    assert found(*layers, deleted)[0] == ("/f", 40, "deleted", 2, 3)
    assert sum(each.bytes for each in waste.hidden((*layers, deleted))) == 70


def test_a_folder_that_is_deleted_takes_all_below_it_and_nothing_beside_it() -> None:
    below = layer(file("/d/a", 1), file("/d/e/b", 2), file("/d-/c", 4), file("/d.x", 8))
    assert found(below, layer(entry("/d", "whiteout"))) == [
        ("/d/e/b", 2, "deleted", 0, 1),
        ("/d/a", 1, "deleted", 0, 1),
    ]


def test_an_opaque_folder_hides_what_is_below_it_and_keeps_its_own() -> None:
    below = layer(file("/d/a", 1), file("/d/b", 2), file("/x", 4))
    above = layer(entry("/d", "dir"), entry("/d", "opaque"), file("/d/a", 16))
    assert found(below, above) == [("/d/b", 2, "deleted", 0, 1), ("/d/a", 1, "overwritten", 0, 1)]


def test_a_file_becomes_a_folder_or_a_link_and_a_folder_a_file() -> None:
    assert found(layer(file("/a", 5)), layer(entry("/a", "dir"), file("/a/b", 1))) == [("/a", 5, "overwritten", 0, 1)]
    assert found(layer(file("/a", 5)), layer(entry("/a", "link"))) == [("/a", 5, "overwritten", 0, 1)]
    assert found(layer(file("/a/b", 5)), layer(file("/a", 1))) == [("/a/b", 5, "deleted", 0, 1)]
    assert found(layer(entry("/a", "dir"), file("/a/b", 5)), layer(entry("/a", "dir"))) == []


def test_a_file_that_became_a_folder_is_a_folder_for_the_layers_above() -> None:
    became = (layer(file("/a", 5)), layer(entry("/a", "dir"), file("/a/b", 1)))
    assert found(*became, layer(entry("/a", "dir"), file("/a/c", 1))) == [("/a", 5, "overwritten", 0, 1)]
    gone = (layer(file("/a", 5)), layer(entry("/a", "whiteout")), layer(file("/a/b", 1)))
    assert found(*gone, layer(entry("/a", "dir"))) == [("/a", 5, "deleted", 0, 1)]


def test_a_name_that_is_deleted_and_written_again_can_be_deleted_again() -> None:
    again = layer(entry("/d", "dir"), file("/d/a", 2))
    deleted = layer(entry("/d", "whiteout"))
    assert found(layer(file("/d/a", 1)), deleted, again, deleted) == [
        ("/d/a", 2, "deleted", 2, 3),
        ("/d/a", 1, "deleted", 0, 1),
    ]


def test_only_regular_files_take_bytes() -> None:
    link = LayerEntry(path="/l", kind="link", size=7)  # a link's size is the length of its target
    assert found(layer(link), layer(file("/l", 3)), layer(link)) == [("/l", 3, "overwritten", 1, 2)]


def test_a_hard_link_is_out_of_sight_with_its_last_name() -> None:
    below = layer(file("/a", 10), file("/b", 10, hardlink="/a"))
    assert found(below, layer(entry("/a", "whiteout"))) == []
    assert found(below, layer(entry("/a", "whiteout")), layer(file("/b", 1))) == [("/b", 10, "overwritten", 0, 2)]


def test_the_instruction_that_did_it_is_named() -> None:
    infos = tuple(
        LayerInfo(diff_id=str(number), size=None, instruction=text) for number, text in enumerate(("ADD x", "RUN rm x"))
    )
    layers = (layer(file("/x", 3)), layer(entry("/x", "whiteout")))
    listing = Listing(image_id="sha256:1", how="overlay2", layers=layers)
    result = waste.waste(image({}, layers=infos), listing)
    assert result.hidden_bytes == 3
    assert result.hidden
    assert result.hidden[0].instruction == "RUN rm x"


def test_layers_that_were_not_read_are_not_measured() -> None:
    result = waste.waste(image({}), Listing(image_id="x", how=None, layers=None, reason="no data root"))
    assert (result.hidden, result.hidden_bytes, result.reason) == (None, None, "no data root")
    unasked = waste.waste(image({}), None)
    assert (unasked.hidden, unasked.hidden_bytes, unasked.reason) == (None, None, "the layers were not asked for")


NAMES = st.sampled_from(["/a", "/b", "/d", "/d/a", "/d/b", "/d/e", "/d/e/a", "/d/e/b"])
LAYERS = st.lists(
    st.dictionaries(NAMES, st.one_of(st.integers(1, 1000), st.sampled_from(["whiteout", "opaque"])), max_size=6),
    max_size=5,
)


@given(LAYERS)
def test_the_layers_sum_less_what_can_be_seen_is_what_is_hidden(plans: list[dict[str, int | str]]) -> None:
    layers, seen = [], dict[str, int]()
    for plan in plans:
        # As a file system has it: what is a file has nothing below it, and what is taken away nothing new at its place.
        files = {
            path: size
            for path, size in plan.items()
            if isinstance(size, int)
            and not any(path.startswith(f"{other}/") for other in plan if other not in ("/d", "/d/e"))
        }
        files = {path: size for path, size in files.items() if not any(each.startswith(f"{path}/") for each in plan)}
        gone = {
            path for path, what in plan.items() if what == "whiteout" and not any(f.startswith(path) for f in files)
        }
        opaque = {path for path, what in plan.items() if what == "opaque" and path in ("/d", "/d/e")}
        for path in list(seen):
            if any(path == each or path.startswith(f"{each}/") for each in gone) or any(
                path.startswith(f"{each}/") for each in opaque
            ):
                del seen[path]
        for path, size in files.items():
            for other in [each for each in seen if each.startswith(f"{path}/")]:
                del seen[other]
            for other in [each for each in seen if path.startswith(f"{each}/")]:
                del seen[other]
            seen[path] = size
        parents = {path.rpartition("/")[0] for path in [*files, *opaque]} | opaque
        parents |= {path.rpartition("/")[0] for path in parents}
        for path in parents & seen.keys():
            del seen[path]
        layers.append(
            layer(
                *(file(path, size) for path, size in files.items()),
                *(entry(path, "whiteout") for path in gone),
                *(entry(path, "opaque") for path in opaque),
                *(entry(path, "dir") for path in parents - {""} - gone),
            )
        )
    total = sum(each.bytes for each in layers)
    assert total - sum(seen.values()) == sum(each.bytes for each in waste.hidden(layers))
