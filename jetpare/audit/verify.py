"""Run finished images and see whether they work: scripts/image/verify.py in a container of each, on a GPU if any.

The container gets no network, a read-only root, no capabilities, a limit on memory and processes, and an end after
LIMIT_SECONDS; what it sends back is only data. The last result of each image is kept, by its id.
"""

from __future__ import annotations

import io
import json
import math
import secrets
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from jetpare.base import files, process
from jetpare.base.errors import ToolError
from jetpare.base.files import write_atomically
from jetpare.config.schema import Accept
from jetpare.engine import api, containers
from jetpare.engine.model import Engine

SCHEMA = "jetpare.verify/1"
OK, FAILED, NOT_MEASURED, ACCEPTED = "ok", "failed", "not measured", "accepted"
LIMIT_SECONDS = 1800.0
CLI_SECONDS = 60.0
MEMORY_SHARE = 0.8  # of the engine's: the rest of the machine goes on
PROCESSES = 1024
REPORT_BYTES = 16_000_000
SAID_BYTES = 256_000_000  # an image that says more is ended
RESULT_LEVELS = 8  # of lists in lists
DAMAGE = (ValueError, TypeError, RecursionError)  # what reading something that is no report raises
SCRIPTS = files.SCRIPTS / "image"
IDS = ("A18", "A19", "A20", "A21", "A22")
# What scripts/image/verify.py checks in each image, whatever it holds: a report without one of these is not its own.
ALWAYS = frozenset(
    {"torch matmul", "torch convolution", "torch LSTM", "torch factorisation", "GPU device", "GPU matmul"}
    | {"GPU convolution (cuDNN)", "GPU LSTM (cuDNN)", "GPU factorisation (cuSOLVER)", "GPU Triton kernel"}
    | {"ONNX Runtime session", "C extension", "OpenCV features"}
    | {"torch", "cudnn", "torchvision", "numpy", "gdal", "data"}
)
# Runs the zip that stdin holds. Its exit status only says again what its report says. The first process of a container
# ends by a signal only where it asks for it; SIGTERM comes by way of the CLI, the alarm where nobody waits any more.
BOOTSTRAP = (
    "import os, runpy, signal, sys\n"
    "for each in signal.SIGTERM, signal.SIGALRM: signal.signal(each, lambda *_: os._exit(1))\n"
    f"signal.alarm({LIMIT_SECONDS:.0f})\n"
    "open('/tmp/verify.zip', 'wb').write(sys.stdin.buffer.read())\n"
    "try: runpy.run_path('/tmp/verify.zip', run_name='__main__')\n"
    "except SystemExit: pass"
)


@dataclass(frozen=True, kw_only=True)
class VerifiedRow:
    """One check of one image. ``result``: what must be the same in every image with the same software, or None."""

    id: str
    name: str
    status: str
    detail: str
    seconds: float
    result: Any = None
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What running one image has shown; ``trouble`` says why it could not be run, and then there are no rows."""

    image: str
    image_id: str
    gpu: bool
    versions: Mapping[str, str | None]
    rows: tuple[VerifiedRow, ...]
    trouble: str = ""

    def count(self, status: str) -> int:
        """How many rows have *status*."""
        return sum(row.status == status for row in self.rows)

    @property
    def works(self) -> bool:
        """Whether it ran and no check failed; what was not measured is neither."""
        return not self.trouble and not self.count(FAILED)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All images that were verified together."""

    images: tuple[Verification, ...]
    differing: tuple[str, ...]  # checks that are ok in several images, with other results
    unused: tuple[str, ...]  # patterns of [[verify.accept]] that no failure met

    @property
    def works(self) -> bool:
        """Whether every image works, and they agree."""
        return all(image.works for image in self.images) and not self.differing

    def as_dict(self) -> dict[str, Any]:
        """The documented JSON form (docs/verify.md)."""
        return {"schema": SCHEMA, "works": self.works} | asdict(self)


def run(
    running: Engine,
    images: Mapping[str, str],
    *,
    state: Path,
    accepted: Sequence[Accept] = (),
    say: Callable[[str], None],
) -> Outcome:
    """Verify *images* (name -> image id), one after another. EngineError where the engine does not answer."""
    facts = api.facts(running)
    with api.client(running) as docker:
        containers.remove_orphans(docker)
    flags = gpu_flags(api.runtimes(running))
    if not flags:
        say("The engine offers no GPU (it has no runtime called nvidia), so what needs one is not measured.")
    archive, memory = bundle(), int(facts.memory_bytes * MEMORY_SHARE)
    done = []
    for name, image_id in images.items():
        say(f"{name}: every import, library and computation, each in a process of its own ...")
        found = _one(running, name, image_id, archive=archive, flags=flags, memory=memory)
        try:
            save(state, found)
        except OSError as error:  # what took minutes to find out is shown all the same
            say(f"{error.filename}: not kept ({error.strerror}), so `invoke compare` will not know of it.")
        done.append(found)
    judged = [accept(each, accepted) for each in done]
    failed = [row.name for each in done for row in each.rows if row.status == FAILED]
    unused = [each.check for each in accepted if not any(fnmatchcase(name, each.check) for name in failed)]
    ran = all(not each.trouble for each in done)
    return Outcome(images=tuple(judged), differing=differing(judged), unused=tuple(unused) if ran else ())


def gpu_flags(runtimes: Sequence[str]) -> tuple[str, ...]:
    """What gives a container the GPU. Not `--gpus`: on a Jetson that fails, where NVIDIA's runtime is in csv mode."""
    if "nvidia" not in runtimes:
        return ()
    # Here and not taken from the image, whose own settings may have been lost: that is for the audit to say.
    return ("--runtime", "nvidia", "--env", "NVIDIA_VISIBLE_DEVICES=all", "--env", "NVIDIA_DRIVER_CAPABILITIES=all")


def bundle() -> bytes:
    """Return scripts/image/verify.py with the scripts that it imports, as a zip that Python runs."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(SCRIPTS / "verify.py", "__main__.py")
        for name in ("computations.py", "probe.py", "elf.py"):
            archive.write(SCRIPTS / name, name)
    return made.getvalue()


def _one(
    running: Engine, name: str, image_id: str, *, archive: bytes, flags: Sequence[str], memory: int
) -> Verification:
    container = f"jetpare-verify-{secrets.token_hex(6)}"
    isolation = ["--network", "none", "--read-only", "--tmpfs", "/tmp:exec,mode=1777", "--cap-drop", "ALL"]  # noqa: S108
    isolation += ["--security-opt", "no-new-privileges", "--pids-limit", str(PROCESSES), "--memory", str(memory)]
    isolation += ["--log-driver", "none"]  # what it says comes here, and would fill the engine's disk
    program = ["--entrypoint", "python3", image_id, "-B", "-c", BOOTSTRAP]
    command = [running.docker, "run", "--rm", "--interactive", "--name", container, "--env", "HOME=/tmp"]
    command += [word for name, value in containers.owner_label().items() for word in ("--label", f"{name}={value}")]
    command += [*isolation, *flags, *program, *(["--gpu"] if flags else [])]
    base = Verification(image=name, image_id=image_id, gpu=bool(flags), versions={}, rows=())
    try:
        said = process.tail(
            command, env=running.env, stdin=archive, timeout=LIMIT_SECONDS, keep=REPORT_BYTES, most=SAID_BYTES
        )
    except ToolError as error:
        return replace(base, trouble=_why(str(error)))
    finally:  # the CLI's end is not the container's
        with suppress(ToolError):
            process.run([running.docker, "rm", "--force", container], env=running.env, timeout=CLI_SECONDS)
    try:
        return parse(base, said)
    except DAMAGE as error:
        return replace(base, trouble=f"its report cannot be read: {error}")


def _why(message: str) -> str:
    """The last line of what the engine's CLI said, or that there is no Python."""
    lines = [line.strip() for line in message.splitlines() if line.strip() and "--help" not in line]
    if any("python3" in line and "not found" in line for line in lines[1:]):
        return "it has no python3 on its PATH"
    return lines[-1] if lines else "no reason given"


def parse(base: Verification, said: str) -> Verification:
    """The report that a container printed last. One of DAMAGE where that is none: images print anything."""
    lines = said.strip().splitlines()
    content = json.loads(lines[-1]) if lines else None
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
        raise TypeError("it is none")
    rows = tuple(_rows(content["rows"]))
    missing = ALWAYS - {row.name for row in rows}
    if missing:
        raise ValueError(f"{len(missing)} checks that are always made are missing, such as {min(missing)}")
    return replace(base, versions=_versions(content.get("versions")), rows=rows)


def _versions(content: object) -> dict[str, str | None]:
    if not isinstance(content, dict):
        raise TypeError("it has no versions")
    return {str(name)[:100]: None if value is None else str(value)[:200] for name, value in content.items()}


def _rows(content: Sequence[object]) -> Iterator[VerifiedRow]:
    for row in content:
        if not isinstance(row, dict) or row.get("status") not in {OK, FAILED, NOT_MEASURED}:
            raise ValueError(f"a row is {str(row)[:100]}")
        if row.get("id") not in IDS:
            raise ValueError(f"a row has the id {str(row.get('id'))[:100]}")
        complaints = row.get("complaints")
        yield VerifiedRow(
            id=row["id"],
            name=str(row.get("name"))[:500],
            status=str(row["status"]),
            detail=" ".join(str(row.get("detail")).split())[:1000],
            seconds=_seconds(row.get("seconds")),
            result=_result(row.get("result")),
            complaints=tuple(str(line)[:300] for line in complaints) if isinstance(complaints, list) else (),
        )


def _seconds(value: object) -> float:
    if not isinstance(value, (int, float)) or not 0 <= value <= LIMIT_SECONDS:  # NaN is not either
        raise ValueError(f"a row took {str(value)[:100]} s")
    return float(value)


def _result(value: Any, levels: int = RESULT_LEVELS) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """*value*, if it is JSON that can be written again: finite numbers, and not nested without an end."""
    if not levels or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("a row has a result that is no JSON")
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _result(each, levels - 1)
    return value


def accept(found: Verification, accepted: Sequence[Accept]) -> Verification:
    """*found* with the failures that build.toml accepts marked so, with their reasons."""

    def judge(row: VerifiedRow) -> VerifiedRow:
        reason = next((each.reason for each in accepted if fnmatchcase(row.name, each.check)), None)
        if row.status != FAILED or reason is None:
            return row
        return replace(row, status=ACCEPTED, detail=f"{row.detail} (accepted: {reason})")

    return replace(found, rows=tuple(judge(row) for row in found.rows))


def differing(images: Sequence[Verification]) -> tuple[str, ...]:
    """Checks that went well in several of *images* with results that differ."""
    results: dict[str, set[str]] = {}
    for row in (row for image in images for row in image.rows if row.status == OK and row.result is not None):
        results.setdefault(row.name, set()).add(json.dumps(row.result, sort_keys=True))
    return tuple(name for name, values in results.items() if len(values) > 1)


# --- what is kept


def save(state: Path, found: Verification) -> None:
    """Keep the result of an image that ran. OSError where the disk refuses."""
    if not found.trouble:
        write_atomically(_file(state, found.image_id), json.dumps({"schema": SCHEMA} | asdict(found)))


def load(state: Path, image_id: str) -> Verification | None:
    """The last result of an image, None where it was never run or the file cannot be read."""
    try:
        content = json.loads(_file(state, image_id).read_text())
        base = Verification(
            image=str(content["image"]), image_id=image_id, gpu=bool(content["gpu"]), versions={}, rows=()
        )
        return parse(base, json.dumps(content)) if content.get("schema") == SCHEMA else None
    except (OSError, KeyError, AttributeError, *DAMAGE):
        return None


def _file(state: Path, image_id: str) -> Path:
    return state / "verify" / f"{image_id.removeprefix('sha256:')}.json"
