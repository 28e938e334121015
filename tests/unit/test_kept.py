"""Keep answers about images: the same answer again, without making it, until anything that it depends on changes."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from jetpare.audit import audit, subjects
from jetpare.compare import gather
from jetpare.compare.comparison import ImageFigures
from jetpare.compare.pull_size import PullSize
from jetpare.config.load import load_config
from jetpare.config.schema import Config, Waiver
from jetpare.engine import api, image_store
from jetpare.engine.model import Engine, ImageFacts
from jetpare.image import ask, kept
from jetpare.image.inventory import Distribution, Inventory
from jetpare.image.kept import Held, HeldContents
from jetpare.image.layers import LayerEntry, LayerListing, Listing
from jetpare.image.read import inventory_reader, layer_reader, reader_id
from jetpare.project.project import Project
from jetpare.records.ledger import ImageRecord
from tests.comparisons import INVENTORIES, figures
from tests.conftest import MINI
from tests.inventories import elf, image
from tests.unit.test_gather import CUDA, ENGINE, run

BARE = image({"/usr/local/bin/x": 2_000_000, "/usr/bin/x": 1})


@dataclass(frozen=True)
class Fact:
    """An answer."""

    text: str
    paths: tuple[str, ...] = ()


@dataclass
class Maker:
    """What makes an answer, and how often it was asked to."""

    answer: Fact = Fact("a", ("/\udcff",))
    times: int = 0

    def __call__(self) -> Fact:
        self.times += 1
        return self.answer


def ask_for(state: Path, make: Maker, *digests: str | None, name: str = "x", **key: Any) -> Fact:
    held = [Held.of("", digest) for digest in digests or ("sha",)]
    return kept.kept(state, name, held, key, make, Fact)


def files(state: Path) -> list[Path]:
    return sorted((state / kept.FOLDER).glob("*.json.gz"))


def test_an_answer_is_made_once(tmp_path: Path) -> None:
    make = Maker()
    assert ask_for(tmp_path, make) == ask_for(tmp_path, make) == make.answer
    assert make.times == 1


def test_whatever_it_depends_on_makes_another_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Maker()
    config = load_config(MINI / "build.toml")
    ask_for(tmp_path, make, groups={"a": ["x"], "b": ["y"]}, config=config)
    ask_for(tmp_path, make, groups={"b": ["y"], "a": ["x"]}, config=config)  # the first that fits counts
    ask_for(tmp_path, make, "other", groups={"a": ["x"], "b": ["y"]}, config=config)
    ask_for(tmp_path, make, name="y", groups={"a": ["x"], "b": ["y"]}, config=config)
    other = config.model_copy(update={"groups": {"mine": ("/a",)}})
    ask_for(tmp_path, make, groups={"a": ["x"], "b": ["y"]}, config=other)
    monkeypatch.setattr(kept, "code", lambda: "another version")
    ask_for(tmp_path, make, groups={"a": ["x"], "b": ["y"]}, config=config)
    assert make.times == 6


def test_the_code_is_every_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part/one.py").write_text("a = 1\n")
    monkeypatch.setattr(kept, "PACKAGE", tmp_path)
    code = kept.code.__wrapped__
    first = code()
    (tmp_path / "part/one.py").write_text("a = 2\n")
    second = code()
    (tmp_path / "two.py").touch()
    third = code()
    assert len({first, second, third}) == 3
    monkeypatch.setattr("sys.version", "4.0")
    assert code() != third


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda data: data[:-9],
        lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
        lambda _: gzip.compress(b'{"text": 3}'),
        lambda _: gzip.compress(b"[" * 200_000),
        lambda _: gzip.compress(b'{"text": "a", "paths": ["\\ud800"]}'),
    ],
)
def test_a_damaged_answer_is_made_anew(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    make = Maker()
    ask_for(tmp_path, make)
    (path,) = files(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert ask_for(tmp_path, make) == make.answer
    assert ask_for(tmp_path, make) == make.answer
    assert make.times == 2


def test_what_has_no_digest_is_not_kept(tmp_path: Path) -> None:
    make = Maker()
    ask_for(tmp_path, make, "sha", None)
    ask_for(tmp_path, make, "sha", None)
    assert (make.times, files(tmp_path)) == (2, [])


def test_an_answer_that_cannot_be_written_is_given(tmp_path: Path) -> None:
    (tmp_path / kept.FOLDER).touch()
    assert ask_for(tmp_path, Maker()) == Maker().answer


def test_what_does_not_last_is_made_again(tmp_path: Path) -> None:
    make = Maker()
    for _ in range(2):
        kept.kept(tmp_path, "x", [Held.of("", "sha")], {}, make, Fact, lasts=lambda _: False)
    assert make.times == 2


def test_the_answers_that_were_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEPT_ANSWERS", 2)
    make, other = Maker(), Maker()
    ask_for(tmp_path, other, name="other")
    ask_for(tmp_path, make, word="old")
    ask_for(tmp_path, make, word="new")
    for path in files(tmp_path):
        os.utime(path, (1, 1))
    ask_for(tmp_path, make, word="old")  # in use
    ask_for(tmp_path, make, word="newest")
    assert make.times == 3
    ask_for(tmp_path, make, word="old")
    ask_for(tmp_path, other, name="other")
    assert (make.times, other.times) == (3, 1)
    ask_for(tmp_path, make, word="new")
    assert make.times == 4


def test_contents_are_decoded_when_they_are_asked_for() -> None:
    decoded: list[str] = []

    def load() -> str:
        decoded.append("a")
        return "A"

    held = HeldContents({"a": Held("sha", load)})
    assert ("a" in held, "b" in held, len(held), list(held)) == (True, False, 1, ["a"])
    assert decoded == []
    assert (held["a"], dict(held), held.get("b")) == ("A", {"a": "A"}, None)
    assert decoded == ["a"]


# --- inventories and listings that are kept


def no_engine(*_: object, **__: object) -> Any:
    raise AssertionError("the engine was asked")


def test_a_kept_inventory_is_known_without_being_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "inventories" / f"{'0' * 64}.json.gz"
    inventory_reader._store(path, BARE)
    monkeypatch.setattr(api, "client", no_engine)
    os.utime(path, (1, 1))
    first = inventory_reader.hold(ENGINE, BARE.image_id, state=tmp_path)
    assert path.stat().st_mtime > 1, "one that is in use is not the first to be removed"
    assert first.content == BARE
    inventory_reader._store(path, replace(BARE, how="container", faults=("/a: torn",)))
    second = inventory_reader.hold(ENGINE, BARE.image_id, state=tmp_path)
    assert None not in {first.digest, second.digest}
    assert first.digest != second.digest
    inventory_reader._store(path, BARE)
    assert inventory_reader.hold(ENGINE, BARE.image_id, state=tmp_path).digest == first.digest


@pytest.mark.parametrize("fault", ["missing", "damaged", "another reader"])
def test_an_image_is_read_where_there_is_no_inventory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    path = tmp_path / "inventories" / f"{'0' * 64}.json.gz"
    if fault != "missing":
        inventory_reader._store(path, replace(BARE, faults=("old",)))
    if fault == "damaged":
        path.write_bytes(b"x")
    if fault == "another reader":
        monkeypatch.setattr(reader_id, "reader", lambda: "f" * 16)
    monkeypatch.setattr(api, "client", no_client)
    monkeypatch.setattr(inventory_reader, "_inspect", lambda *_: {"Id": BARE.image_id})
    monkeypatch.setattr(inventory_reader, "_read", lambda *_, **__: BARE)
    made = inventory_reader.hold(ENGINE, BARE.image_id, state=tmp_path)
    again = inventory_reader.hold(ENGINE, BARE.image_id, state=tmp_path)
    assert made.content == again.content == BARE
    assert made.digest == again.digest
    assert inventory_reader.hold(ENGINE, BARE.image_id, state=tmp_path).digest is not None


def test_an_inventory_that_is_damaged_within_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "inventories" / f"{'0' * 64}.json.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(b"{}"))
    monkeypatch.setattr(api, "client", no_client)
    monkeypatch.setattr(inventory_reader, "_inspect", lambda *_: {"Id": BARE.image_id})
    monkeypatch.setattr(inventory_reader, "_read", lambda *_, **__: BARE)
    assert inventory_reader.hold(ENGINE, BARE.image_id, state=tmp_path).content == BARE


class no_client:  # noqa: N801 - in the place of a function
    """A connection that nothing is asked of."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


LISTING = Listing(
    image_id="sha256:1",
    how="overlay2",
    layers=(LayerListing(diff_id="sha256:a", entries=(LayerEntry("/x", "file", 3),)),),
)


def test_a_kept_listing_is_known_without_being_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [LISTING, no_engine]

    def source(*_: object, **__: object) -> Listing:
        found = sources.pop(0)
        assert isinstance(found, Listing)
        return found

    monkeypatch.setattr(layer_reader, "_from_disk", source)
    first = layer_reader.hold(ENGINE, "sha256:1", state=tmp_path)
    second = layer_reader.hold(ENGINE, "sha256:1", state=tmp_path)
    assert first.content == second.content == LISTING
    assert first.digest == second.digest is not None
    (tmp_path / "layers/1.json.gz").write_bytes(b"x")
    sources[:] = [LISTING]
    third = layer_reader.hold(ENGINE, "sha256:1", state=tmp_path)
    assert third.digest != first.digest
    assert third.content == LISTING


def test_a_listing_of_another_reader_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = replace(LISTING, layers=())
    monkeypatch.setattr(layer_reader, "_from_disk", lambda *_, **__: old)
    layer_reader.hold(ENGINE, "sha256:1", state=tmp_path)
    monkeypatch.setattr(layer_reader, "_from_disk", lambda *_, **__: LISTING)
    monkeypatch.setattr(reader_id, "reader", lambda: "f" * 16)
    held = layer_reader.hold(ENGINE, "sha256:1", state=tmp_path)
    assert (held.content, held.digest is None) == (LISTING, False)
    content = json.loads(gzip.decompress((tmp_path / "layers/1.json.gz").read_bytes()))
    del content["reader"]  # as earlier versions wrote it
    content["layers"] = []
    (tmp_path / "layers/1.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    assert layer_reader.hold(ENGINE, "sha256:1", state=tmp_path).content == LISTING


@pytest.mark.parametrize("damage", [b"x", gzip.compress(b"{}")], ids=["no archive", "another form"])
def test_an_answer_is_not_kept_by_a_damaged_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    def unread(*_: object, **__: object) -> Listing:
        raise layer_reader.Unreadable("not asked for")

    path = tmp_path / "layers/1.json.gz"
    path.parent.mkdir()
    path.write_bytes(damage)
    config = load_config(MINI / "build.toml")

    def ask_again() -> ask.Explanation:
        inventory = Held.of(BARE, "sha")
        listing = layer_reader.hold(ENGINE, "sha256:1", state=tmp_path)
        return ask.explanation("/usr/bin/x", inventory, listing, config, state=tmp_path)

    monkeypatch.setattr(layer_reader, "_from_disk", unread)
    (first,) = ask_again().subjects
    assert "not asked for" in str(first.layers_reason)
    assert not path.exists()
    path.write_bytes(damage)  # such as by a disk that damages what is written
    monkeypatch.setattr(layer_reader, "_from_disk", lambda *_, **__: LISTING)
    (second,) = ask_again().subjects
    assert second.layers_reason is None


def test_layers_that_cannot_be_had_are_known_by_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = set()
    for reason in ("the containerd store", "no such folder", "the containerd store"):

        def source(*_: object, why: str = reason, **__: object) -> Listing:
            raise layer_reader.Unreadable(why)

        monkeypatch.setattr(layer_reader, "_from_disk", source)
        held = layer_reader.hold(ENGINE, "sha256:1", state=tmp_path)
        assert reason in str(held.content.reason)
        digests.add(held.digest)
    assert len(digests - {None}) == 2


# --- what is kept of them: each thing that an answer depends on


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(root=tmp_path, config=load_config(MINI / "build.toml"), config_digest="sha256:0", environ={})


def explained(state: Path, config: Config, *, word: str = "x", **of: Any) -> ask.Explanation:
    inventory: Inventory = of.get("inventory", BARE)
    listing: Listing = of.get("listing", LISTING)
    held = Held.of(inventory, f"{hash(repr(inventory))}"), Held.of(listing, f"{hash(repr(listing))}")
    return ask.explanation(word, *held, config, state=state)


def with_audit(config: Config, **changes: Any) -> Config:
    return config.model_copy(update={"audit": config.audit.model_copy(update=changes)})


@pytest.mark.parametrize(
    "change",
    [
        {"word": "/usr/bin"},
        {"inventory": replace(BARE, files=BARE.files[:-1])},
        {"listing": replace(LISTING, layers=None, reason="not read")},
        {"groups": {"mine": ("/usr/bin/*",)}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_explanation_follows_what_it_depends_on(project: Project, change: dict[str, Any]) -> None:
    state, config = project.state_path, project.config
    first = explained(state, config, word="/usr/bin/x")
    assert explained(state, config, word="/usr/bin/x") == first
    if "groups" in change:
        config = config.model_copy(update=change)
        change = {}
    other = explained(state, config, **{"word": "/usr/bin/x", **change})
    assert other != first
    assert other == explained(project.root / "elsewhere", config, **{"word": "/usr/bin/x", **change})


def test_an_explanation_needs_nothing_decoded_the_second_time(project: Project) -> None:
    first = explained(project.state_path, project.config)
    held: Held[Any] = Held(f"{hash(repr(BARE))}", no_engine)
    listing: Held[Any] = Held(f"{hash(repr(LISTING))}", no_engine)
    assert ask.explanation("x", held, listing, project.config, state=project.state_path) == first


def test_owners_follow_the_inventory_and_the_groups(tmp_path: Path) -> None:
    def owners(inventory: Inventory, groups: Mapping[str, tuple[str, ...]]) -> Any:
        return ask.owned(Held.of(inventory, str(hash(repr(inventory)))), groups, state=tmp_path).components

    both = {"a": ("/usr/*",), "b": ("/usr/bin/*",)}
    first = owners(BARE, both)
    assert owners(BARE, both) == first
    assert owners(BARE, dict(reversed(both.items()))) != first
    assert owners(image({"/usr/bin/y": 3}), both) != first


def test_uses_follow_the_inventory_and_what_the_host_mounts(tmp_path: Path) -> None:
    libs = {"/usr/lib64/libown.so": 9, "/usr/lib/libown.so": 9, "/usr/bin/x": 1}
    linking = image(
        libs,
        elfs=(
            elf("/usr/bin/x", type="exec", needed=("libown.so",)),
            *(elf(path, soname="libown.so") for path in libs if path.endswith("so")),
        ),
    )
    held = Held.of(linking, "linking")
    first = ask.linked(held, {}, state=tmp_path)
    assert first
    assert ask.linked(held, {}, state=tmp_path) == first
    assert ask.linked(Held.of(replace(linking, elfs=()), "bare"), {}, state=tmp_path) != first
    moved = Held.of(image({"/opt/libown.so": 9, "/usr/bin/x": 1}, elfs=(linking.elfs[0], elf("/opt/libown.so"))), "m")
    assert ask.linked(moved, {"libown.so": "the driver"}, state=tmp_path) != ask.linked(moved, {}, state=tmp_path)


# --- the audit


@pytest.fixture
def audited(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., audit.Audit]:
    """Return a function that audits the image cuda of *project*; its arguments change what is known."""
    held: dict[str, Inventory] = {}

    def facts(_: Engine, reference: str) -> ImageFacts | None:
        name = "cuda" if "cuda" in reference else "jetpack"
        return replace(CUDA, id=f"sha256:{name}", reference=reference) if name in held else None

    def hold(_: Engine, image_id: str, **__: object) -> Held[Inventory]:
        inventory = held[image_id.removeprefix("sha256:")]
        return Held.of(inventory, f"{hash(repr(inventory))}")

    monkeypatch.setattr(image_store, "inspect_image", facts)
    monkeypatch.setattr(inventory_reader, "hold", hold)

    def run(cuda: Inventory = BARE, baseline: Inventory | None = None, config: Config | None = None) -> audit.Audit:
        held.clear()
        held["cuda"] = cuda
        if baseline is not None:
            held["jetpack"] = baseline
        at = replace(project, config=config or project.config)
        plan = at.plan(profile="mini", architecture="amd64")
        return audit.run(at, plan, ENGINE, images=["cuda"])

    return run


def outcome(result: audit.Audit) -> Any:
    return result.rows, result.findings


def test_an_audit_is_made_once(audited: Callable[..., audit.Audit], monkeypatch: pytest.MonkeyPatch) -> None:
    first = audited()
    monkeypatch.setattr(audit, "checked", no_engine)
    assert outcome(audited()) == outcome(first)


def test_an_audit_follows_the_image_the_baseline_and_the_rules(
    audited: Callable[..., audit.Audit], project: Project
) -> None:
    libs = replace(BARE, elfs=(elf("/usr/bin/x", type="exec", needed=("libgone.so.1",)),))
    first = outcome(audited(libs))
    assert outcome(audited()) != first
    assert outcome(audited(libs, baseline=replace(BARE, settings=replace(BARE.settings, user="me")))) != first
    host = with_audit(project.config, host_libraries=("libgone.so.1",))
    assert outcome(audited(libs, config=host)) != first
    symbols = replace(BARE, elfs=(elf("/usr/bin/x", symtab_bytes=10**7),))
    assert "A8" in {each.id for each in audited(symbols).findings}
    least = with_audit(project.config, least_mb=999.0)
    assert "A8" not in {each.id for each in audited(symbols, config=least).findings}
    allowed = with_audit(project.config, allow=("*",))
    assert outcome(audited(BARE, config=allowed)) == outcome(audit_anew(audited, BARE, allowed))


def audit_anew(audited: Callable[..., audit.Audit], inventory: Inventory, config: Config) -> audit.Audit:
    """Audit with a digest that nothing is kept by."""
    return audited(replace(inventory, faults=("another digest",)), config=config)


def test_a_key_of_the_audit_holds_all_that_a_check_is_given(
    audited: Callable[..., audit.Audit], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[Any] = []
    usual = kept.kept

    def spy(state: Path, name: str, held: Any, key: Any, *rest: Any, **more: Any) -> Any:
        keys.append((held, key))
        return usual(state, name, held, key, *rest, **more)

    monkeypatch.setattr(audit, "kept", spy)
    audited(baseline=BARE)
    plan = project.plan(profile="mini", architecture="amd64")
    ((candidate, *_), _) = subjects.candidates(project, plan, ENGINE, ["cuda"])
    given = {name for name in vars(candidate.subject) if not isinstance(getattr(candidate.subject, name), Inventory)}
    ((held, key),) = keys
    assert len(held) == 2
    assert given - set(key) <= {"versions", "checks", "pruned", "collect", "expected", "budget"}, "those have defaults"
    assert key["rules"].waivers == ()


def test_an_audit_follows_what_the_newest_run_measured(audited: Callable[..., audit.Audit], project: Project) -> None:
    def reported(run_id: str, gdal: str) -> None:
        made = ImageRecord(name="cuda", reference="x", id="sha256:cuda", status="ok", versions={"gdal": gdal})
        run(project, run_id, images=(made,))

    def measured() -> Any:
        plan = project.plan(profile="mini", architecture="amd64")
        ((candidate,), _) = subjects.candidates(project, plan, ENGINE, ["cuda"])
        return candidate.known["versions"]

    first = outcome(audited())
    reported("20250101-000000", "1.0")
    assert measured() == {"gdal": "1.0"}
    reported("20250102-000000", "0.1")
    assert measured() == {"gdal": "0.1"}
    assert outcome(audited()) != first


def test_waivers_apply_to_what_was_kept(audited: Callable[..., audit.Audit], project: Project) -> None:
    first = audited()
    finding = first.findings[0]
    made = Waiver(id=finding.id, pattern="*", reason="looked at", date=dt.date(2026, 1, 1))
    over = made.model_copy(update={"until": dt.date(2026, 1, 2)})
    waived = audited(config=with_audit(project.config, waivers=(made,)))
    assert [each.waived for each in waived.findings if each.id == finding.id] == ["looked at (2026-01-01)"]
    expired = audited(config=with_audit(project.config, waivers=(over,)))
    assert "W2" in {each.id for each in expired.findings}
    assert outcome(audited()) == outcome(first)


def test_a_check_that_broke_is_tried_again(
    audited: Callable[..., audit.Audit], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_: object) -> Any:
        raise MemoryError

    whole = audit.CHECKS
    monkeypatch.setattr(audit, "CHECKS", [replace(check, run=breaks) for check in whole if check.id == "A5"])
    assert [row.status for row in audited().rows] == ["not measured"]
    monkeypatch.setattr(audit, "CHECKS", [check for check in whole if check.id == "A5"])
    assert [row.status for row in audited().rows] == ["ok"]


# --- the comparison


def test_differences_follow_the_inventories_the_names_and_the_components(tmp_path: Path) -> None:
    images = [figures("jetpack"), figures("cuda")]
    held = {name: Held.of(INVENTORIES[name], f"of {name}") for name in ("jetpack", "cuda")}
    first = gather._differences(tmp_path, images, held)
    undecoded: dict[str, Held[Any]] = {name: Held(each.digest, no_engine) for name, each in held.items()}
    assert gather._differences(tmp_path, images, undecoded) == first
    assert gather._differences(tmp_path, images, {"jetpack": held["jetpack"]}) != first
    bare = [replace(each, components=None) for each in images]
    assert gather._differences(tmp_path, bare, held) != first
    assert gather._differences(tmp_path, images[::-1], held) != first
    cuda = INVENTORIES["cuda"]
    more = replace(cuda, distributions=(*cuda.distributions, Distribution("new", "1", "/opt", "/opt/new.dist-info")))
    assert gather._differences(tmp_path, images, {**held, "cuda": Held.of(more, "more")}) != first


@pytest.fixture
def look(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ImageFigures]:
    """Return a function that looks into an image of *project*; its arguments change what it holds."""
    monkeypatch.setattr(gather, "pull_size", lambda *_, **__: PullSize(bytes=60, how="from the store"))

    def run(
        inventory: Inventory = BARE, listing: Listing = LISTING, config: Config | None = None, **known: Any
    ) -> ImageFigures:
        monkeypatch.setattr(inventory_reader, "hold", lambda *_, **__: Held.of(inventory, f"{hash(repr(inventory))}"))
        monkeypatch.setattr(layer_reader, "hold", lambda *_, **__: Held.of(listing, f"{hash(repr(listing))}"))
        at = replace(project, config=config or project.config)
        bare = ImageFigures(name="cuda", reference="x", status="built", **known)
        return gather.look_into(at, ENGINE, bare, CUDA, gather.Looking())[0]

    return run


def test_contents_follow_the_inventory_the_layers_and_the_groups(
    look: Callable[..., ImageFigures], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = look()
    found = [
        look(replace(BARE, faults=("/a: torn",))),
        look(listing=replace(LISTING, layers=None, reason="not read")),
        look(config=project.config.model_copy(update={"groups": {"mine": ("/usr/*",)}})),
    ]
    assert all(each != first for each in found)
    monkeypatch.setattr(gather, "contents", no_engine)
    assert look() == first, "and is made once"
    assert look(sizes={"merged": 5}).notes != first.notes, "what else is known is no part of what is kept"
    assert look(notes=("new",)).notes == ("new", *first.notes)


def test_what_a_clock_that_ran_ahead_left_goes_before_what_is_new(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"old-{number}.gz").write_bytes(b"")
        os.utime(tmp_path / f"old-{number}.gz", (4e9, 4e9))
    (tmp_path / "new.gz").write_bytes(b"")
    kept.trim(tmp_path, "*.gz", 2)
    assert "new.gz" in {path.name for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 2
