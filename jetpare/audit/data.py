"""Files that are no code: data that programs look for, paths of the build, links and scripts (A13, A16)."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator

from jetpare.audit.subject import Evidence, Finding, Severity, Subject
from jetpare.image.inventory import File
from jetpare.image.needs import interpreter

HOST = ("/proc/", "/dev/", "/sys/", "/run/", "/tmp/", "/var/run/", "/var/tmp/")  # noqa: S108 - filled when a container runs
# Links that nothing follows while a container works: documentation (slim images leave it out), and boot files.
UNREAD = re.compile(
    r"^/(usr/share/(doc|man|info|locale|lintian|bug)/|etc/alternatives/.*\.\d[a-z]*(\.gz)?$|(boot|vmlinuz|initrd))"
)
DPKG = "/var/lib/dpkg/"
# Files of a package from which programs read where something stands, as cv2's config.py.
SETTINGS = re.compile(r"(config[^/]*\.py|\.(pc|pth|cmake|cfg|ini|json|la|conf))$")
LIBRARY = re.compile(r"\.so(\.[\d.]+)?$")
FONTS = re.compile(r"\.(ttf|ttc|otf|pfb|pcf(\.gz)?|woff2?)$", re.IGNORECASE)
PATHS = re.compile(r"(^|_)PATH$")  # variables in which every program skips what is not there
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
ZONE = "/usr/share/zoneinfo/Europe/Berlin"


def remains(image: Subject) -> Iterator[Finding]:
    """A13: paths of the build in files, links that lead nowhere, scripts whose interpreter is not there."""
    yield from _mentions(image)
    yield from _links(image)
    yield from _scripts(image)


def _mentions(image: Subject) -> Iterator[Finding]:
    """A distribution's own files tell of its builders, which no program follows; what we built must not."""
    serious: dict[str, list[Evidence]] = defaultdict(list)
    harmless: list[Evidence] = []
    for mention in image.inventory.mentions:
        owner = image.owners.get(mention.path, "")
        if owner.startswith("debian:") or mention.path.startswith(DPKG) or image.tree.exists(mention.text):
            continue
        said = Evidence(path=mention.path, detail=f"line {mention.line}: {mention.text}")
        if owner and not SETTINGS.search(mention.path):
            harmless.append(said)
        else:
            serious[mention.path].append(said)
    for path, evidence in serious.items():
        yield image.finding(
            "A13",
            "warning",
            f"{posixpath.basename(path)} names a folder of the build",
            subject=path,
            evidence=evidence,
            advice="Build with the final prefix, or correct the path when the tree is assembled.",
        )
    if harmless:
        yield image.finding(
            "A13",
            "note",
            f"{len({each.path for each in harmless})} files of Python packages name folders of a build",
            subject="Python packages",
            evidence=harmless,
            advice="Most are comments; a path that a program follows has to be corrected.",
        )


def _links(image: Subject) -> Iterator[Finding]:
    for file in image.inventory.files:
        if file.kind != "link" or UNREAD.match(file.path) or _leads(image, file):
            continue
        folder = posixpath.basename(posixpath.dirname(file.path))
        works = folder in {"bin", "sbin"} or LIBRARY.search(file.path)
        yield image.finding(
            "A13",
            "warning" if works else "note",
            f"{posixpath.basename(file.path)} is a link that leads nowhere",
            subject=file.path,
            evidence=[Evidence(path=file.path, detail=f"-> {file.target}")],
            advice="Bring what it points at, or remove the link.",
        )


def _leads(image: Subject, file: File) -> bool:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(file.path), file.target or ""))
    return f"{target}/".startswith(HOST) or image.inventory.real_path(file.path) is not None


def _scripts(image: Subject) -> Iterator[Finding]:
    path = image.inventory.settings.env.get("PATH", "")
    folders = {image.inventory.real_path(each) for each in path.split(":")}
    for script, line in image.inventory.interpreters.items():
        wanted = interpreter(line)
        if wanted is None or UNREAD.match(script):
            continue
        found = image.inventory.program(wanted)
        if found is None:
            severity: Severity = "error" if posixpath.dirname(script) in folders else "note"
            yield image.finding(
                "A13",
                severity,
                f"{posixpath.basename(script)} cannot start: there is no {wanted}",
                subject=script,
                evidence=[Evidence(path=script, detail=f"#!{line}")],
                advice="Install the interpreter, or make the script for the one that is there.",
            )


def missing_data(image: Subject) -> Iterator[Finding]:
    """A16: time zones, certificates, fonts, PROJ's and GDAL's data; variables that point at nothing."""
    real = image.inventory.real_path
    if real(ZONE) is None and "tzdata" not in image.distributions:
        yield _lacks(image, "time zones", ZONE, "Install tzdata ([runtime] packages).")
    bundle = real(CERTIFICATES)
    if bundle is None or not image.inventory.by_path[bundle].size:
        yield _lacks(image, "certificates", CERTIFICATES, "Install ca-certificates ([runtime] packages).")
    env = image.inventory.settings.env
    if _prefixes(image, "libproj"):
        folders = [*_paths(env.get("PROJ_DATA", "") + ":" + env.get("PROJ_LIB", "")), "/usr/share/proj"]
        folders += [f"{prefix}/share/proj" for prefix in _prefixes(image, "libproj")]
        if not any(image.tree.exists(f"{folder}/proj.db") for folder in folders):
            yield _lacks(image, "PROJ's database", f"{folders[0]}/proj.db", "Install proj-data, or set PROJ_DATA.")
    for prefix in _prefixes(image, "libgdal"):
        folder = env.get("GDAL_DATA") or f"{prefix}/share/gdal"
        if not image.tree.glob(f"{folder}/*"):
            yield _lacks(image, "GDAL's data", folder, "Copy share/gdal with the library, or set GDAL_DATA.", "warning")
    fonts = any(FONTS.search(file.path) for file in image.inventory.files if file.kind == "file")
    if _prefixes(image, "libfontconfig") and not fonts:
        yield _lacks(image, "fonts", "/usr/share/fonts", "Install a font where text is drawn into images.", "note")
    yield from _variables(image)


def _lacks(image: Subject, what: str, path: str, advice: str, severity: Severity = "error") -> Finding:
    return image.finding(
        "A16",
        severity,
        f"{what} are missing" if what.endswith("s") else f"{what} is missing",
        subject=what,
        evidence=[Evidence(path=path, detail="is not there, or empty")],
        advice=advice,
    )


def _variables(image: Subject) -> Iterator[Finding]:
    for name, value in image.inventory.settings.env.items():
        for path in _paths(value):
            if f"{path}/".startswith(HOST) or "*" in path or image.inventory.real_path(path) is not None:
                continue
            yield image.finding(
                "A16",
                "note" if PATHS.search(name) else "warning",
                f"{name} points at {path}, which is not there",
                subject=f"{name}={path}",
                evidence=[Evidence(path=path, detail=f"{name}={value}")],
                advice="Bring it, or drop it from the variable.",
            )


def _paths(value: str) -> list[str]:
    parts = () if "://" in value else value.split(":")
    return [part for part in parts if re.fullmatch(r"/[\w./+@-]*\w/?", part)]


def _prefixes(image: Subject, stem: str) -> tuple[str, ...]:
    """The prefixes (/usr, /usr/local) below which a library of this name and any version stands."""
    versioned = re.compile(rf"{stem}\.so\.\d+")
    found = {
        re.sub(r"/lib(64)?(/[\w-]+-linux-gnu)?$", "", posixpath.dirname(path))
        for name, paths in image.libraries.items()
        if versioned.match(name)
        for path in paths
    }
    return tuple(sorted(found))
