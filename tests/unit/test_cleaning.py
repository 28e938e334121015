"""`invoke clean` in an engine that others use too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jetpare.base.errors import CheckError
from jetpare.build import cleaning
from jetpare.build.shell import stage_image
from jetpare.engine import containers, image_store
from jetpare.image import kept
from jetpare.records.ledger import Ledger
from tests.fakes import digest, opened
from tests.unit.conftest import DEBIAN, Workshop

OURS = {"jetpare.project": "jetpare-mini"}
CACHE = [
    {"ID": "ours", "Type": "exec.cachemount", "Size": 7, "Description": "mount /c from exec /bin/sh /run/jetpare/x.sh"},
    {
        "ID": "theirs",
        "Type": "exec.cachemount",
        "Size": 5,
        "Description": "mount /root/.cache from exec /bin/sh -c make",
    },
    {"ID": "layer", "Type": "regular", "Size": 3, "Description": "mount / from exec /bin/sh /run/jetpare/x.sh"},
]


def clean(workshop: Workshop, *, cache: bool = False) -> str:
    return "\n".join(cleaning.clean(workshop.project, workshop.engine, cache=cache))


def names(workshop: Workshop) -> set[str]:
    return {name for image in workshop.docker.held.values() for name in image.names}


def test_what_this_checkout_made_goes(workshop: Workshop) -> None:
    workshop.build(workshop.plan())
    assert "jetpare-mini/cuda:mini" in names(workshop)
    said = clean(workshop)
    assert "jetpare-mini/cuda:mini removed" in said
    assert names(workshop) == {"somebody/debian:12"}
    assert "There are no images of this project." in clean(workshop)


def test_what_was_built_but_not_tagged_goes_too(workshop: Workshop) -> None:
    workshop.bake.outcomes.clear()  # no report of any check
    with pytest.raises(CheckError):
        workshop.build(workshop.plan("cuda"))
    left = [image for image in workshop.docker.held.values() if not image.names]
    assert left
    clean(workshop)
    assert not [image for image in workshop.docker.held.values() if not image.names]


@pytest.mark.parametrize("private", [True, False])
def test_what_somebody_made_on_top_of_ours_and_did_not_name_stays(workshop: Workshop, *, private: bool) -> None:
    """Such as `docker commit` of a shell's container, or a build FROM one of our images."""
    workshop.docker.add(digest("work"), labels=OURS | {"jetpare.shell": "a process that has ended"})
    engine = replace(workshop.engine, private=private)
    said = "\n".join(cleaning.clean(workshop.project, engine, cache=False))
    assert digest("work") in {image.id for image in workshop.docker.held.values()}
    assert f"docker rmi {digest('work')}" in said


def test_images_of_another_checkout_stay_and_are_named(workshop: Workshop) -> None:
    workshop.docker.add(digest("theirs"), "jetpare-mini/cuda:mini", labels=OURS)
    workshop.docker.add(digest("untagged"), labels=OURS)
    said = clean(workshop)
    assert {digest("theirs"), digest("untagged")} <= set(workshop.docker.held)
    assert "jetpare-mini/cuda:mini" in names(workshop)
    assert f"docker rmi jetpare-mini/cuda:mini {digest('untagged')}" in said
    assert "There are no images" not in said


def test_a_private_engine_has_no_other_checkouts_images(workshop: Workshop) -> None:
    workshop.docker.add(digest("unrecorded"), "jetpare-mini/cuda:mini", labels=OURS)
    private = replace(workshop, engine=opened(workshop.docker, private=True))
    assert "jetpare-mini/cuda:mini removed" in clean(private)
    assert digest("unrecorded") not in workshop.docker.held


def test_an_image_that_somebody_named_keeps_that_name(workshop: Workshop) -> None:
    workshop.build(workshop.plan("cuda"))
    image_store.tag_image(workshop.engine, "jetpare-mini/cuda:mini", "mine:1")
    clean(workshop)
    assert names(workshop) == {"somebody/debian:12", "mine:1"}
    assert DEBIAN not in names(workshop)


def test_an_image_that_a_container_uses_stays(workshop: Workshop) -> None:
    made = workshop.build(workshop.plan("cuda")).images[0]
    workshop.docker.in_use.add(str(made.id))
    assert "jetpare-mini/cuda:mini stays: " in clean(workshop)
    assert made.id in workshop.docker.held


def test_the_image_of_a_shell_that_runs_stays(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = workshop.plan(only="cuda/gdal")
    held = stage_image(workshop.project, plan, workshop.engine, "cuda/gdal", say=lambda _: None)
    assert f"a shell may still be open in them: {held}." in clean(workshop)
    assert workshop.docker.named(held)
    monkeypatch.setattr(containers, "is_orphan", lambda _: True)  # its process has ended
    clean(workshop)
    assert workshop.docker.named(held) is None


def test_only_our_cache_mounts_go_from_an_engine_of_others(workshop: Workshop) -> None:
    workshop.docker.build_cache = list(CACHE)
    assert "cache mounts: 7 B freed" in clean(workshop, cache=True)
    assert [each["ID"] for each in workshop.docker.build_cache] == ["theirs", "layer"]


def test_a_private_engine_loses_its_whole_cache(workshop: Workshop) -> None:
    workshop.docker.build_cache = list(CACHE)
    private = replace(workshop, engine=opened(workshop.docker, private=True))
    assert "build cache: 15 B freed" in clean(private, cache=True)
    assert workshop.docker.build_cache == []


def test_the_records_stay(workshop: Workshop) -> None:
    made = workshop.build(workshop.plan("cuda"))
    state = workshop.project.state_path
    (state / "power.json").write_text("{}")
    assert (state / "bake.json").exists()
    clean(workshop)
    assert not (state / "bake.json").exists()
    assert (state / "power.json").exists()
    assert [record.id for record, _ in Ledger(state).records() if record] == [made.id]


def test_answers_that_were_kept_go_with_the_inventories(workshop: Workshop) -> None:
    folders = [workshop.project.state_path / name for name in ("inventories", "layers", kept.FOLDER)]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "x.json.gz").touch()
    clean(workshop)
    assert not any(folder.exists() for folder in folders)
