"""Whose an image is, by what the runs of this folder kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jetpare.base.errors import CheckError
from jetpare.build import bootstrap, ownership
from jetpare.build.bootstrap import Base
from jetpare.records.ledger import Ledger
from tests.fakes import digest
from tests.unit.conftest import DEBIAN, Workshop


def test_every_image_that_a_run_made_is_known(workshop: Workshop) -> None:
    record = workshop.build(workshop.plan("cuda"))
    made = ownership.made_ids(workshop.project.state_path)
    assert record.images[0].id in made
    assert workshop.docker.named("jetpare-mini/l4t-cuda:mini") in made
    assert workshop.docker.named(DEBIAN) not in made  # it was there before


def test_a_base_that_a_run_made_is_known(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "bootstrap_base", lambda *_a, **_k: Base(id=digest("made"), how="bootstrapped"))
    workshop.build(workshop.plan("cuda"))
    assert digest("made") in ownership.made_ids(workshop.project.state_path)


def test_an_image_that_failed_its_checks_is_known_too(workshop: Workshop) -> None:
    workshop.bake.outcomes.clear()
    with pytest.raises(CheckError):
        workshop.build(workshop.plan("cuda"))
    made = ownership.made_ids(workshop.project.state_path)
    assert {image.id for image in workshop.docker.held.values() if not image.names} <= made


@pytest.mark.parametrize("text", ["", "[1]", '{"a": 1}', '{"a": {"containerimage.digest": 1}}', "\udcff"])
def test_metadata_that_cannot_be_read_is_left_out(workshop: Workshop, text: str) -> None:
    record = workshop.build(workshop.plan("cuda"))
    before = ownership.made_ids(workshop.project.state_path)
    folder = Ledger(workshop.project.state_path).path(record.id) / "events"
    (folder / "damaged-metadata.json").write_bytes(text.encode(errors="surrogateescape"))
    assert ownership.made_ids(workshop.project.state_path) == before


def test_a_damaged_record_does_not_disown_what_bake_said(workshop: Workshop) -> None:
    record = workshop.build(workshop.plan("cuda"))
    (Ledger(workshop.project.state_path).path(record.id) / "run.json").write_text("{")
    assert record.images[0].id in ownership.made_ids(workshop.project.state_path)


def test_a_plan_is_about_its_bases_its_inputs_and_its_images(workshop: Workshop) -> None:
    plan = workshop.plan("cuda")
    found = ownership.references(workshop.project, plan)
    assert DEBIAN in found
    assert "jetpare-mini/cuda:mini" in found
    assert "jetpare-mini/jetpack:mini" not in found
    base = plan.profile.contexts["l4t-cuda"].model_copy(update={"image": "nvcr.io/l4t-cuda:12.6", "target": None})
    real = replace(
        plan, profile=plan.profile.model_copy(update={"contexts": {**plan.profile.contexts, "l4t-cuda": base}})
    )
    assert "nvcr.io/l4t-cuda:12.6" in ownership.references(workshop.project, real)
