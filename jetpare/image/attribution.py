"""Whose is each byte of an image: every regular file belongs to exactly one component, and what is left to 'nobody'.

Pure. RULES is the whole of it, read from the top: the first rule that knows a file decides. Nothing here assumes that
the image was built by jetpare; a manifest that is not there knows no file.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import translate
from functools import cache

from packaging.utils import canonicalize_name

from jetpare.config.values import OTHER_GROUP
from jetpare.image.inventory import File, Inventory, Package
from jetpare.image.known_files import BASE_FILES, CUDA_NAMES, GDAL_NAMES, PYTHON_FILES, VENV_FILES, WRITTEN_BY

NEVER = r"(?!)"  # a pattern that nothing matches
COLLECTED_MANIFEST = "/usr/share/jetpare/cudnn.tsv"  # scripts/image/collect.py
GDAL_MANIFEST = "/usr/share/jetpare/gdal-files.txt"  # scripts/image/compile-gdal.sh
DIVERSIONS = "/var/lib/dpkg/diversions"


@dataclass(frozen=True, kw_only=True)
class Component:
    """A part of an image that has a name. ``bytes``, ``files``: of the regular files that are its own."""

    key: str
    kind: str  # debian, python, collected, gdal, cuda, jetpare, base, nobody
    name: str
    version: str | None
    group: str
    bytes: int
    files: int


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Who owns what. The sum of the components' bytes is the inventory's.

    ``owners``: the path of every regular file, further names of hard links too -> the key of its component.
    """

    components: tuple[Component, ...]  # largest first
    owners: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A component as a rule names it; what it has is counted later."""

    key: str
    kind: str
    name: str
    version: str | None = None


Finder = Callable[[str], Owner | None]

NOBODY = Owner(key="nobody", kind="nobody", name="nobody")
BASE = Owner(key="base", kind="base", name="base system")
JETPARE = Owner(key="jetpare", kind="jetpare", name="jetpare")
CUDA = Owner(key="cuda", kind="cuda", name="CUDA")
GDAL = Owner(key="gdal", kind="gdal", name="GDAL")

# What was made out of another file belongs to whom that belongs to: (this, made out of that).
MADE_FROM = (
    (re.compile(r"/__pycache__/([^/]+?)\.(?:cpython|pypy)[^/]*\.pyc$"), r"/\1.py"),
    (re.compile(r"\.(?:dpkg|ucf)-(?:old|new|dist|tmp)$"), ""),
    (re.compile(r"^(/etc/(?:passwd|group|shadow|gshadow|subuid|subgid))-$"), r"\1"),
)

MADE_ENDS = (".pyc", "-", "-old", "-new", "-dist", "-tmp")  # of all that MADE_FROM matches


def attribute(inventory: Inventory, *, groups: Mapping[str, Sequence[str]]) -> Attribution:
    """Give every regular file of *inventory* to one component, and every component to one of *groups*.

    *groups*: a name -> patterns (fnmatch), of paths where they start with '/', else of component keys; the first group
    that matches takes it. A group that takes some of a component's files by their paths makes them a component of
    their own, 'KEY (GROUP)'.
    """
    grouped = _Groups(groups)
    owners = {path: grouped.split(path, owner) for path, owner in _owners(inventory).items()}
    sums: dict[Owner, list[int]] = {}
    for path, (owner, _) in owners.items():
        counts = sums.setdefault(owner, [0, 0])
        file = inventory.by_path[path]
        counts[0] += file.bytes
        counts[1] += file.hardlink is None
    group_of = dict(owners.values())
    made = [
        Component(
            key=owner.key,
            kind=owner.kind,
            name=owner.name,
            version=owner.version,
            group=group_of[owner],
            bytes=counts[0],
            files=counts[1],
        )
        for owner, counts in sums.items()
    ]
    ordered = tuple(sorted(made, key=lambda each: (-each.bytes, each.key)))
    return Attribution(components=ordered, owners={path: owner.key for path, (owner, _) in owners.items()})


@dataclass
class _Groups:
    groups: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        self.names = [*self.groups, OTHER_GROUP]
        paths = [[each for each in patterns if each.startswith("/")] for patterns in self.groups.values()]
        keys = [[each for each in patterns if not each.startswith("/")] for patterns in self.groups.values()]
        self.of_path, self.of_key = _ordered(paths), cache(_ordered(keys))

    def split(self, path: str, owner: Owner) -> tuple[Owner, str]:
        """The owner, and the group of one of its files; an owner of its own where the path decides."""
        by_key, by_path = self.of_key(owner.key), self.of_path(path)
        if by_path >= by_key:
            return owner, self.names[by_key]
        group = self.names[by_path]
        return replace(owner, key=f"{owner.key} ({group})"), group


def _ordered(patterns: Sequence[Sequence[str]]) -> Callable[[str], int]:
    """The index of the first list of patterns that matches a text; their number where none does."""
    # Named groups, since what translate() gives may hold groups of its own.
    joined = [f"(?P<_{number}>{_any_of(some)})" for number, some in enumerate(patterns)]
    match = re.compile("|".join(joined) or NEVER).match

    def index(text: str) -> int:
        found = match(text)
        return len(patterns) if found is None else int(str(found.lastgroup)[1:])

    return index


# --- rules


def _owners(inventory: Inventory) -> dict[str, Owner]:
    """The owner of every regular file; of a hard link's names, the one that the first rule knows decides for all."""
    finders = [make(inventory) for _, make in RULES]
    best: dict[str, tuple[int, Owner]] = {}
    names: dict[str, str] = {}
    for file in inventory.files:
        if file.kind != "file":
            continue
        inode = file.hardlink or file.path
        names[file.path] = inode
        found = _first(finders, file.path)
        if inode not in best or found[0] < best[inode][0]:
            best[inode] = found
    return {path: best[inode][1] for path, inode in names.items()}


def _first(finders: Sequence[Finder], path: str) -> tuple[int, Owner]:
    """The number of the first rule that knows *path*, or what it was made from, and whose it is."""
    for candidate in (path, *_made_from(path)):
        for number, finder in enumerate(finders):
            owner = finder(candidate)
            if owner is not None:
                return number, owner
    return len(finders), NOBODY


def _made_from(path: str) -> Iterator[str]:
    if path.endswith(MADE_ENDS):
        for pattern, source in MADE_FROM:
            made = pattern.sub(source, path)
            if made != path:
                yield made


def _collected(inventory: Inventory) -> Finder:
    lines = inventory.texts.get(COLLECTED_MANIFEST, "").splitlines()
    paths = [line.split("\t")[0] for line in lines[1:]]
    return _versioned(
        {path: Owner(key=f"collected:{name}", kind="collected", name=name) for path in paths if (name := family(path))}
    )


def _gdal(inventory: Inventory) -> Finder:
    first, *paths = inventory.texts.get(GDAL_MANIFEST, "").splitlines() or [""]
    owner = replace(GDAL, version=first.removeprefix("# GDAL ") or None)
    return dict.fromkeys(paths, owner).get


def _jetpare(_: Inventory) -> Finder:
    return _patterns(("/usr/share/jetpare/*", "/etc/ld.so.conf.d/00-jetpare-*.conf"), JETPARE)


def _debian(inventory: Inventory) -> Finder:
    return _listed(inventory).get


def _listed(inventory: Inventory, ends: tuple[str, ...] = ("",)) -> dict[str, Owner]:
    """What dpkg's lists have that *ends* so, by the real names of its folders (usrmerge), where it is if diverted."""
    place = unpacked_at(inventory)
    owners: dict[str, Owner] = {}
    for package, key in zip(inventory.packages, package_keys(inventory.packages), strict=True):
        owner = Owner(key=key, kind="debian", name=package.name, version=package.version)
        for path in package.files:
            if path.endswith(ends):
                owners.setdefault(place(package, path), owner)
    return owners


def unpacked_at(inventory: Inventory) -> Callable[[Package, str], str]:
    """Return where dpkg put a path of a package's list: by the real name of its folder, and elsewhere if diverted."""
    lines = inventory.texts.get(DIVERSIONS, "").splitlines()  # by three: name, other name, who still has the name
    diverted = {old: (new, by) for old, new, by in zip(lines[::3], lines[1::3], lines[2::3], strict=False)}

    def place(package: Package, path: str) -> str:
        target, by = diverted.get(path, (path, package.name))
        return inventory.placed(path if by == package.name else target)

    return place


def listed_by(inventory: Inventory) -> dict[str, str]:
    """Map the real path of every file that a list names to the key of its package, or else of its distribution."""
    keys, packages = distribution_keys(inventory), packaged(inventory)
    found = {
        inventory.placed(path): package or key
        for key, package, each in zip(keys, packages, inventory.distributions, strict=True)
        for path in each.files or ()
    }
    return found | {path: owner.key for path, owner in _listed(inventory).items()}


def package_keys(packages: Sequence[Package]) -> list[str]:
    """'debian:NAME' of each; with the architecture where a name is installed for several."""
    count = Counter(each.name for each in packages)
    return [f"debian:{each.name}" + (f":{each.architecture}" if count[each.name] > 1 else "") for each in packages]


def _python(inventory: Inventory) -> Finder:
    """RECORD's names; where a distribution has no such list, its metadata and what can be imported of it."""
    real = inventory.placed
    owners: dict[str, Owner] = {}
    folders: dict[str, Owner] = {}
    keys, packages = distribution_keys(inventory), packaged(inventory)
    for distribution, key, package in zip(inventory.distributions, keys, packages, strict=True):
        if package:
            continue
        owner = Owner(key=key, kind="python", name=distribution.name, version=distribution.version)
        for path in distribution.files or ():
            owners.setdefault(real(path), owner)
        folders.setdefault(real(distribution.info), owner)
        if distribution.files is None:
            for name in distribution.top_level:
                place = real(posixpath.join(distribution.location, name))
                folders.setdefault(place, owner)
                owners.setdefault(f"{place}.py", owner)

    known: dict[str, Owner | None] = dict(folders)

    def below(folder: str) -> Owner | None:
        passed = []
        while folder not in known and folder != "/":
            passed.append(folder)
            folder = posixpath.dirname(folder)
        known.update(dict.fromkeys(passed, known.get(folder)))
        return known.get(folder)

    def find(path: str) -> Owner | None:
        return owners.get(path) or below(path.rpartition("/")[0] or "/")

    return find


def distribution_keys(inventory: Inventory) -> list[str]:
    """'python:name' of each, normalised, with its folder where the name is there several times.

    With its folder too where a package of the distribution brought it, which then owns its files.
    """
    names = [canonicalize_name(each.name) for each in inventory.distributions]
    own = [not each for each in packaged(inventory)]
    count = Counter(name for name, alone in zip(names, own, strict=True) if alone)
    return [
        f"python:{name}" + ("" if alone and count[name] == 1 else f"@{each.location}")
        for name, alone, each in zip(names, own, inventory.distributions, strict=True)
    ]


def packaged(inventory: Inventory) -> list[str | None]:
    """Of each Python distribution, the key of the package whose list has its metadata."""
    find = _listed(inventory, ("/METADATA", "/PKG-INFO", ".egg-info", ".dist-info")).get
    places = [(each.info, f"{each.info}/METADATA", f"{each.info}/PKG-INFO") for each in inventory.distributions]
    owners = [next((owner for place in some if (owner := find(place))), None) for some in places]
    return [owner.key if owner else None for owner in owners]


def _written(inventory: Inventory) -> Finder:
    keys = package_keys(inventory.packages)
    installed = {package.name: (package, key) for package, key in zip(inventory.packages, keys, strict=True)}
    table = [
        (pattern, Owner(key=installed[name][1], kind="debian", name=name, version=installed[name][0].version))
        for pattern, name in WRITTEN_BY
        if name in installed
    ]
    index = _ordered([[pattern] for pattern, _ in table])

    def find(path: str) -> Owner | None:
        number = index(path)
        return table[number][1] if number < len(table) else None

    return find


def _venv(inventory: Inventory) -> Finder:
    roots = [posixpath.dirname(file.path) for file in inventory.files if posixpath.basename(file.path) == "pyvenv.cfg"]
    found = [
        _patterns(
            [posixpath.join(root, each) for each in VENV_FILES], Owner(key=f"venv:{root}", kind="python", name=root)
        )
        for root in roots
    ]
    return _any(found)


def _interpreter(inventory: Inventory) -> Finder:
    found = []
    listed = _listed(inventory, ("/os.py",))
    for file in inventory.files:
        match = re.fullmatch(r"(/.+)/lib/python(3\.\d+)/os\.py", file.path)
        if match and file.kind == "file" and file.path not in listed:
            prefix, version = match.groups()
            owner = Owner(key=f"interpreter:{prefix}", kind="python", name=f"Python in {prefix}")
            patterns = [posixpath.join(prefix, each.format(version=version)) for each in PYTHON_FILES]
            found.append(_outside_packages(_patterns(patterns, replace(owner, version=version))))
    return _any(found)


def _outside_packages(finder: Finder) -> Finder:
    return lambda path: None if re.search(r"/(?:site|dist)-packages/", path) else finder(path)


def _cuda(inventory: Inventory) -> Finder:
    """/usr/local/cuda*, and by name what stands elsewhere; each library by its own name, the rest as one."""
    known = _patterns(("/usr/local/cuda*/*", *CUDA_NAMES), CUDA)
    owners = {}
    for file in inventory.files:
        if file.kind == "file" and known(file.path):
            name = family(file.path) if re.search(r"/lib[^/]*\.(so|a)(\.|$)|cudnn[^/]*\.h$", file.path) else ""
            owners[file.path] = replace(CUDA, key=f"cuda:{name}", name=name) if name else CUDA
    return _versioned(owners)


def family(path: str) -> str:
    """The name of a library, or of its header, without what tells its parts apart: 'cudnn' of libcudnn_ops.so.9."""
    match = re.match(r"(?:lib)?([A-Za-z]+)", posixpath.basename(path))
    return match[1] if match else ""


def _versioned(owners: Mapping[str, Owner]) -> Finder:
    """Each owner with the version that its libraries' names carry: one of three numbers or more, the same on all."""
    versions: dict[str, set[str]] = {}
    for path, owner in owners.items():
        match = re.search(r"\.so\.(\d+(?:\.\d+){2,})$", path)
        if match:
            versions.setdefault(owner.key, set()).add(match[1])
    return {
        path: replace(owner, version=next(iter(found))) if len(found := versions.get(owner.key, set())) == 1 else owner
        for path, owner in owners.items()
    }.get


RULES: tuple[tuple[str, Callable[[Inventory], Finder]], ...] = (
    ("the manifest of what was collected out of JetPack names it", _collected),
    ("the manifest of the GDAL that was compiled names it", _gdal),
    ("jetpare wrote it into the image", _jetpare),
    ("a package's list in dpkg's database names it", _debian),
    ("a Python distribution's RECORD names it, or it stands in what that names", _python),
    ("a package's scripts or programs write it", _written),
    ("a virtual environment's own", _venv),
    ("it is CUDA's or cuDNN's, by its place or its name", _cuda),
    ("it is GDAL's, by its name", lambda _: _patterns(GDAL_NAMES, GDAL)),
    ("an interpreter that no package brought", _interpreter),
    ("the base system's, written by no package", lambda _: _patterns(BASE_FILES, BASE)),
)


# --- small parts


def _any_of(patterns: Iterable[str]) -> str:
    return "|".join(translate(each) for each in patterns) or NEVER


def _patterns(patterns: Iterable[str], owner: Owner) -> Finder:
    match = re.compile(_any_of(patterns)).match
    return lambda path: owner if match(path) else None


def _any(finders: Sequence[Finder]) -> Finder:
    return lambda path: next((owner for finder in finders if (owner := finder(path))), None)


def unowned(inventory: Inventory, attribution: Attribution) -> tuple[File, ...]:
    """The files that are nobody's, largest first."""
    nobodys = {component.key for component in attribution.components if component.kind == NOBODY.kind}
    files = (inventory.by_path[path] for path, key in attribution.owners.items() if key in nobodys)
    return tuple(sorted(files, key=lambda file: (-file.bytes, file.path)))
