"""What is made of the report that an image's own Python sends back, and what the script in the image works out."""

from __future__ import annotations

import io
import json
import re
import runpy
import zipfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from jetpare.audit import verify
from jetpare.audit.verify import ACCEPTED, FAILED, OK, Outcome, Verification, VerifiedRow
from jetpare.config.schema import Accept
from jetpare.engine import api, containers
from jetpare.engine.model import Engine
from jetpare.views import verification_text

BASE = Verification(image="cuda", image_id="sha256:ab", gpu=False, versions={}, rows=())
ROW = {"id": "A18", "name": "import x", "status": "ok", "detail": "1.0", "seconds": 0.5, "result": None}


def report(*rows: object, **fields: object) -> str:
    """What the script prints last: *rows* beside those that it always makes."""
    always = [{**ROW, "name": name} for name in sorted(verify.ALWAYS)]
    return json.dumps({"rows": [*rows, *always], "versions": {}} | fields)


def row(name: str, status: str = OK, result: object = None) -> VerifiedRow:
    return VerifiedRow(id="A18", name=name, status=status, detail="d", seconds=1.0, result=result)


def image(name: str, *rows: VerifiedRow, trouble: str = "") -> Verification:
    return Verification(image=name, image_id=f"sha256:{name}", gpu=False, versions={}, rows=rows, trouble=trouble)


def shown(outcome: Outcome) -> str:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(verification_text.outcome(outcome))
    return " ".join(console.export_text().split())


def test_the_last_line_is_the_report_whatever_was_printed_before() -> None:
    found = verify.parse(BASE, f"torch says hello\n{report(ROW, versions={'torch': '2.8.0', 'gpu': None})}\n")
    assert found.rows[0] == VerifiedRow(id="A18", name="import x", status="ok", detail="1.0", seconds=0.5)
    assert found.versions == {"torch": "2.8.0", "gpu": None}


@pytest.mark.parametrize(
    "said",
    [
        "",
        "no json",
        "[]",
        "{}",
        json.dumps({"rows": [], "versions": {}}),
        report(versions=None),
        report({**ROW, "status": "fine"}),
        report({**ROW, "id": "<script>"}),
        report({**ROW, "id": "A99"}),
        report("x"),
        report({**ROW, "seconds": -1}),
        report({**ROW, "seconds": float("nan")}),
        report({**ROW, "seconds": 10**400}),
        report({**ROW, "seconds": "1"}),
        report({**ROW, "result": [float("inf")]}),
        report({**ROW, "result": json.loads("[" * 300 + "]" * 300)}),
        "[" * 200_000,
    ],
)
def test_a_lying_report_is_no_report(said: str) -> None:
    with pytest.raises(verify.DAMAGE):
        verify.parse(BASE, said)


@pytest.mark.parametrize("name", sorted(verify.ALWAYS))
def test_a_report_that_leaves_a_check_out_is_no_report(name: str) -> None:
    content = json.loads(report(ROW))
    rows = [each for each in content["rows"] if each["name"] != name]
    with pytest.raises(ValueError, match=rf"^1 checks .* missing, such as {re.escape(name)}$"):
        verify.parse(BASE, json.dumps(content | {"rows": rows}))


def test_what_a_report_must_have_is_what_the_script_always_makes(script: dict[str, Any]) -> None:
    assert set(script["WORK"]) == verify.ALWAYS
    ids = {number for number, _ in script["WORK"].values()}
    assert (
        ids == set(verify.IDS) == set(verification_text.TITLES)
    )  # a row of another id would be counted and shown nowhere


def test_a_failure_is_accepted_with_its_reason_and_others_are_not() -> None:
    accepted = [Accept(check="load */librdma*", reason="no such card")]
    found = verify.accept(image("a", row("load /l/librdma.so", FAILED), row("import x", FAILED)), accepted)
    assert [each.status for each in found.rows] == [ACCEPTED, FAILED]
    assert found.rows[0].detail.endswith("(accepted: no such card)")
    assert not found.works


def test_what_does_not_fail_is_never_accepted() -> None:
    found = verify.accept(image("a", row("import x")), [Accept(check="*", reason="r")])
    assert found.rows[0].status == OK


def test_results_that_differ_between_images_are_named() -> None:
    images = (image("a", row("matmul", result="1"), row("fft", result=[1])), image("b", row("matmul", result="2")))
    assert verify.differing(images) == ("matmul",)
    outcome = Outcome(images=images, differing=("matmul",), unused=())
    assert not outcome.works
    assert "1 results differ" in shown(outcome)


def test_an_image_that_could_not_be_run_does_not_work() -> None:
    outcome = Outcome(images=(image("a", trouble="it has no python3 on its PATH"),), differing=(), unused=())
    assert not outcome.works
    assert "a could not be run: it has no python3 on its PATH." in shown(outcome)


def test_checks_that_found_the_same_share_a_line() -> None:
    rows = [
        VerifiedRow(id="A19", name=name, status="not measured", detail="no GPU", seconds=0) for name in ("one", "two")
    ]
    assert "not measured one, two: no GPU" in shown(Outcome(images=(image("a", *rows),), differing=(), unused=()))


def test_what_an_image_says_moves_no_cursor() -> None:
    evil = "\x1b[2J\x9b1A\x07"
    rows = (
        VerifiedRow(id="A18", name=f"n{evil}", status=FAILED, detail=f"d{evil}", seconds=0, complaints=(f"c{evil}",)),
        VerifiedRow(id="A19", name=f"o{evil}", status=OK, detail=f"e{evil}", seconds=0),
    )
    outcome = Outcome(images=(image("a", *rows), image("b", trouble=f"t{evil}")), differing=(f"f{evil}",), unused=())
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(verification_text.outcome(outcome))
    text = console.export_text()
    assert all(f"{word}\\x1b[2J\\x9b1A\\x07" in text for word in "ndcoetf")
    assert all(char.isprintable() or char == "\n" for char in text)


def test_an_unused_acceptance_is_told() -> None:
    assert "'load x': no failure" in shown(Outcome(images=(image("a", row("x")),), differing=(), unused=("load x",)))


def test_a_gpu_is_asked_for_only_where_the_engine_has_nvidias_runtime() -> None:
    assert verify.gpu_flags(["io.containerd.runc.v2", "runc"]) == ()
    assert verify.gpu_flags(["nvidia", "runc"])[:2] == ("--runtime", "nvidia")


def test_what_is_kept_is_found_again_and_damage_is_none(tmp_path: Path) -> None:
    found = image("a", row("matmul", result="1"), *(row(name) for name in sorted(verify.ALWAYS)))
    verify.save(tmp_path, found)
    assert verify.load(tmp_path, found.image_id) == found
    for damage in ("{", "[]", "[" * 200_000, json.dumps({"schema": verify.SCHEMA, "image": "a", "gpu": False})):
        next((tmp_path / "verify").iterdir()).write_text(damage)
        assert verify.load(tmp_path, found.image_id) is None
    assert verify.load(tmp_path, "sha256:other") is None


@pytest.mark.parametrize("there", ["verify/ab.json/", "verify"])
def test_what_cannot_be_kept_is_shown_all_the_same(there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / there
    path.mkdir(parents=True) if there.endswith("/") else path.write_text("a file stands where the folder should")
    facts = SimpleNamespace(memory_bytes=1 << 30)
    monkeypatch.setattr(api, "facts", lambda _: facts)
    monkeypatch.setattr(api, "runtimes", lambda _: ())
    monkeypatch.setattr(api, "client", lambda _: nullcontext())
    monkeypatch.setattr(containers, "remove_orphans", lambda _: None)
    monkeypatch.setattr(verify, "_one", lambda *_, **__: image("ab", row("matmul")))
    said: list[str] = []
    running = Engine(docker="docker", env={}, overrides={}, private=False)
    outcome = verify.run(running, {"ab": "sha256:ab"}, state=tmp_path, say=said.append)
    assert outcome.works
    assert "ab.json: not kept (" in said[-1]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """scripts/image/verify.py as it runs in an image: out of the zip, next to the scripts that it imports."""
    folder = tmp_path_factory.mktemp("zip")
    with zipfile.ZipFile(io.BytesIO(verify.bundle())) as archive:
        archive.extractall(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        program = runpy.run_path(str(folder / "__main__.py"), run_name="verify")
        return {**vars(program["computations"]), **program}


@pytest.mark.parametrize(
    ("code", "gpu", "runs"),
    [
        ("sm_87", (8, 7), True),
        ("sm_80", (8, 6), True),
        ("sm_80", (8, 7), False),
        ("sm_90", (8, 7), False),
        ("sm_87", (8, 9), False),
        ("compute_80", (8, 7), True),
        ("sm_80", (9, 0), False),
        ("compute_80", (9, 0), True),
        ("compute_90", (8, 7), False),
        ("sm_120", (12, 0), True),
        ("sm_90a", (9, 0), True),
        ("gfx90a", (9, 0), False),
    ],
)
def test_which_code_runs_on_a_gpu(script: dict[str, Any], code: str, gpu: tuple[int, int], runs: bool) -> None:
    assert script["fits"](code, *gpu) is runs


def test_numbers_are_the_same_everywhere_and_short(script: dict[str, Any]) -> None:
    made = script["numbers"](1000, 1)
    assert made == script["numbers"](1000, 1) != script["numbers"](1000, 2)
    assert all(-1 <= value <= 1 and (value * 64).is_integer() for value in made)
    assert len(set(made)) > 100


def test_a_value_that_is_off_fails(script: dict[str, Any]) -> None:
    script["near"]([1.0, 2.0], [1.0, 2.00001], "sum")
    for found in ([1.0, 2.1], [1.0], [1.0, float("nan")]):
        with pytest.raises(Exception, match="sum: off by"):
            script["near"](found, [1.0, 2.0], "sum")


def test_the_onnx_model_says_what_it_is(script: dict[str, Any]) -> None:
    """Read back by protobuf's own rules: fields of the model, the graph and the node."""

    def fields(data: bytes) -> dict[int, list[Any]]:
        found: dict[int, list[Any]] = {}
        rest = iter(data)

        def number() -> int:
            value = shift = 0
            for byte in rest:
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            return value

        while key := number():
            length_or_value = number()
            wire = key & 7
            value: Any = bytes(next(rest) for _ in range(length_or_value)) if wire == 2 else length_or_value
            found.setdefault(key >> 3, []).append(value)
        return found

    model = fields(script["onnx_matmul"](192))
    assert model[1] == [8]
    graph = fields(model[7][0])
    assert fields(graph[1][0]) == {1: [b"a", b"b"], 2: [b"c"], 4: [b"MatMul"]}
    tensor = fields(fields(fields(graph[12][0])[2][0])[1][0])
    assert tensor[1] == [1]
    assert [fields(size)[1] for size in fields(tensor[2][0])[1]] == [[192], [192]]
