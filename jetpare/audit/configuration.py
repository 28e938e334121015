"""What differs between an image and the baseline, and should not (A14, A15)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jetpare.audit.subject import Evidence, FileTree, Finding, NotMeasured, Severity, Subject
from jetpare.base.text import some
from jetpare.image.inventory import Inventory

# Without these the container runtime mounts no GPU.
GPU_VARIABLES = frozenset({"NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"})
LOADER_VARIABLES = frozenset({"LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME"})
SAME = {"workdir": {"": "/"}, "user": {"": "root", "0": "root"}}  # different words for one thing
SETTINGS = ("entrypoint", "cmd", "user", "workdir", "ports", "volumes", "healthcheck", "stop_signal")
# Commands that libraries start by name, who does, and the distribution that has to be there for it; '' where that is
# the system itself. Nothing links a command, so nothing else tells that it is needed.
CALLED = {
    "lsmod": ("NVIDIA's multimedia libraries, which else do without hardware video", ""),
    "ldconfig": ("Python's ctypes.util.find_library", ""),
    "uname": ("Python's platform module", ""),
    "gcc": ("Triton and torch.compile", "triton"),
    "cc": ("Triton and torch.compile", "triton"),
    "ptxas": ("Triton", "triton"),
    "ffmpeg": ("imageio", "imageio"),
    "git": ("GitPython", "gitpython"),
    "dot": ("graphviz", "graphviz"),
}


def settings(image: Subject) -> Iterator[Finding]:
    """A14: environment, entry point, user, ports and the loader's folders that the baseline has."""
    baseline = _baseline(image)
    own, other = image.inventory.settings, baseline.settings
    yield from _variables(image, own.env, other.env)
    for key in SETTINGS:
        mine, theirs = (SAME.get(key, {}).get(each, each) for each in (getattr(own, key), getattr(other, key)))
        if mine != theirs:
            yield _differs(image, "warning", key, mine, theirs)
    lost = [
        folder
        for folder in baseline.loader_dirs
        if folder not in image.inventory.loader_dirs and image.inventory.real_path(folder) is not None
    ]
    if lost:
        yield image.finding(
            "A14",
            "warning",
            f"the loader searches {some(lost)} in {image.baseline_name} and not here",
            subject="ld.so.conf",
            evidence=[Evidence(path=folder, detail="is there, and in no /etc/ld.so.conf.d file") for folder in lost],
            advice="Name it in a file of /etc/ld.so.conf.d and run ldconfig.",
        )


def _variables(image: Subject, own: Mapping[str, str], other: Mapping[str, str]) -> Iterator[Finding]:
    for name in dict.fromkeys([*other, *own]):
        mine, theirs = own.get(name, ""), other.get(name, "")
        if mine == theirs:
            continue
        if name == "PATH":
            yield from _search_path(image, mine, theirs)
        elif theirs and not mine:
            nvidia = name.startswith("NVIDIA_") or name in LOADER_VARIABLES
            severity: Severity = "error" if name in GPU_VARIABLES else "warning" if nvidia else "note"
            yield _differs(image, severity, name, mine, theirs)
        elif theirs or name in LOADER_VARIABLES:
            serious = name.startswith("NVIDIA_") or name in LOADER_VARIABLES
            yield _differs(image, "warning" if serious else "note", name, mine, theirs)


def _search_path(image: Subject, mine: str, theirs: str) -> Iterator[Finding]:
    lost = [
        folder for folder in theirs.split(":") if folder not in mine.split(":") and image.inventory.real_path(folder)
    ]
    if lost:
        yield _differs(image, "warning", "PATH", mine, theirs)


def _differs(image: Subject, severity: Severity, key: str, mine: object, theirs: object) -> Finding:
    here, there = (_text(value) or "not set" for value in (mine, theirs))
    return image.finding(
        "A14",
        severity,
        f"{key} is {here}; in {image.baseline_name} it is {there}",
        subject=key,
        evidence=[Evidence(path=key, detail=f"here {here}, in {image.baseline_name} {there}")],
        advice="Without it the container gets no GPU: set it in the image."
        if key in GPU_VARIABLES
        else "Set it alike.",
    )


def _text(value: object) -> str:
    return " ".join(str(part) for part in value) if isinstance(value, tuple) else str(value)


def commands(image: Subject) -> Iterator[Finding]:
    """A15: commands of the baseline that are not here, and that a library or a script of this image may start."""
    there, here = on_path(_baseline(image)), on_path(image.inventory)
    missing = sorted(there.keys() - here.keys())
    called = [name for name in missing if name in CALLED and CALLED[name][1] in {"", *image.distributions}]
    for name in called:
        yield image.finding(
            "A15",
            "warning",
            f"there is no {name}, which {image.baseline_name} has",
            subject=name,
            evidence=[Evidence(path=there[name], detail=f"is started by {CALLED[name][0]}")],
            advice="Install it where that is used, or waive this.",
        )
    others = [name for name in missing if name not in called]
    if others:
        yield image.finding(
            "A15",
            "note",
            f"{len(others)} commands of {image.baseline_name} are not here",
            subject="commands",
            evidence=[Evidence(path=there[name]) for name in others],
            advice="Nothing in the image is known to start them; look for those that your own code starts.",
        )


def on_path(inventory: Inventory) -> dict[str, str]:
    """Every command that the image's PATH finds -> the path where it stands."""
    tree = FileTree(inventory)
    found: dict[str, str] = {}
    for folder in inventory.settings.env.get("PATH", "").split(":"):
        real = inventory.real_path(folder)
        for name in tree.children.get(real or "", ()):
            path = f"{folder}/{name}"
            there = inventory.real_path(path)
            if there is not None and inventory.by_path[there].kind == "file" and inventory.by_path[there].mode & 0o111:
                found.setdefault(name, path)
    return found


def _baseline(image: Subject) -> Inventory:
    if image.baseline is None:
        raise NotMeasured("it is the baseline itself, or the baseline image is not there")
    return image.baseline
