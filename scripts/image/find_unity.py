"""Finds which of GDAL's sources cannot be compiled in one unit with the others of their target.

usage: find_unity.py --source FOLDER --work FOLDER --options FILE --output FILE [--jobs N]

--options holds the options for CMake, one a line, as the gdal stage leaves them (/opt/report/cmake-options.txt).

Each target's sources are put into units, and the compiler checks them without making code. A source that clashes with
those before it (the same file-local name, a macro defined twice) is taken out, and the rest is tried again, until every
unit compiles. Then the preprocessor's output of every unit is compared with that of its sources alone: a source that
reads another text in the unit, its own or a header's, because a macro of another source reached it, is taken out as
well. A target of which more than half would be left alone is left out as a whole.
The file is a proposal: `benchmarks/unity.py proof` says whether the library is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent / "gdal-unity"
UNIT = re.compile(r"/(?P<target>[^/]+)\.dir/Unity/unity_[^/]*\.c(xx)?$")
FROM = re.compile(r"^(In file included)? +from (?P<file>[^:]+):[0-9]+(:[0-9]+)?[,:]$")
FAULT = re.compile(r"^(?P<file>[^: ]+):[0-9]+(:[0-9]+)?: (?P<kind>error|warning|fatal error): (?P<text>.*)$")
# What the compiler says where two sources meet in one unit. Any other error may be a result of one of these.
CLASH = re.compile(
    r"redefin|redeclar|conflicting (types|declaration)|ambiguating new|previous(ly)? (defin|declar)|is ambiguous"
)


@dataclass(frozen=True)
class Clash:
    """A source that cannot follow the others of its unit, and what the compiler said first."""

    source: Path
    why: str


@dataclass
class Unit:
    """The sources of one target and language that CMake would compile as one, and how it would."""

    target: str
    file: Path
    command: Sequence[str]
    folder: Path
    sources: Sequence[Path]
    alone: dict[Path, str] = field(default_factory=dict)
    texts: dict[Path, dict[str, list[str]]] = field(default_factory=dict)

    @property
    def rest(self) -> list[Path]:
        """The sources that are still together."""
        return [source for source in self.sources if source not in self.alone]

    @property
    def hopeless(self) -> bool:
        """More is left alone than together."""
        return len(self.rest) < max(2, len(self.sources) / 2)


def clashes(said: str, sources: Iterable[Path]) -> list[Clash]:
    """The sources to take out, from what the compiler said about a unit: each that clashes, or the first that failed.

    Taking out the first of a pair or the second makes no difference; the compiler names the second.
    """
    known = {str(source): source for source in sources}
    found: dict[Path, str] = {}
    first: Clash | None = None
    chain: list[str] = []
    for line in said.splitlines():
        if match := FROM.match(line):
            # the innermost file comes first, the unit itself last; the one before it is the source
            chain = [match["file"]] if match[1] else [*chain, match["file"]]
            continue
        match = FAULT.match(line)
        if match is None:
            continue
        source = next((known[name] for name in (match["file"], *chain) if name in known), None)
        if source is None:
            continue
        if CLASH.search(match["text"]):
            found.setdefault(source, match["text"])
        elif match["kind"] != "warning" and first is None:
            first = Clash(source, match["text"])
    if first is not None and not found:
        return [first]
    return [Clash(source, why) for source, why in found.items()]


def texts(preprocessed: str) -> dict[str, list[str]]:
    """The lines that came from each file, as the compiler reads them; not the system's headers."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in preprocessed.splitlines():
        if line.startswith("# "):
            match = re.match(r'# [0-9]+ "([^"]*)"', line)
            name = match[1] if match else "<none>"
            current = [] if name.startswith(("/usr/", "<")) else found.setdefault(name, [])
        elif line.strip():
            current.append(" ".join(line.split()))
    return found


def leaks(together: Mapping[str, list[str]], alone: Mapping[Path, Mapping[str, list[str]]]) -> list[Clash]:
    """The sources that read another text in their unit than *alone*: their own, or a header's.

    A unit reads a header once, where its first source wants it. GDAL's declare more when others were read before, so a
    header may have lines more or less, which the compiler sees to; but none of its lines may be another one.
    """
    found = {}
    for source, mine in alone.items():
        for name, lines in mine.items():
            theirs = together.get(name, [])
            same = lines == theirs if name == str(source) else within(lines, theirs) or within(theirs, lines)
            if not same:
                found.setdefault(source, f"reads another text of {Path(name).name}")
    return [Clash(source, why) for source, why in found.items()]


def within(few: Iterable[str], many: Iterable[str]) -> bool:
    """Whether *few* are among *many*, in their order."""
    rest = iter(many)
    return all(line in rest for line in few)


def proposal(units: Sequence[Unit], *, title: str) -> str:
    """The file: a line for each target, then one for each source that stays alone, with the reason."""
    lines = [f"# {title}"]
    for target in sorted({unit.target for unit in units}):
        mine = [unit for unit in units if unit.target == target]
        left = sum(len(unit.sources if unit.hopeless else unit.alone) for unit in mine)
        if left > sum(len(unit.sources) for unit in mine) / 2:
            lines.append(f"# {target}: too many clashes")
            continue
        lines.append(target)
        for unit in mine:
            why = "too many clashes in its unit"
            reasons = dict.fromkeys(unit.sources, why) if unit.hopeless else unit.alone
            lines += [f"{target} {source.name} # {reason.split(';')[0][:80]}" for source, reason in reasons.items()]
    return "\n".join(lines) + "\n"


# --- with the compiler


def configure(arguments: argparse.Namespace) -> list[Unit]:
    """Let CMake write its units, and the files that other steps generate; return the units of more than one source."""
    build = arguments.work / "build"
    base = ["cmake", "-S", arguments.source, "-B", build, "-G", "Ninja", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"]
    unity = [
        f"-DCMAKE_PROJECT_INCLUDE={HERE / 'unity.cmake'}",
        "-DJETPARE_UNITS=",
        f"-DJETPARE_BATCH={arguments.batch}",
    ]
    options = arguments.options.read_text().splitlines()
    subprocess.run([*base, *options, *unity], check=True, stdout=sys.stderr)
    generate(build)
    found = []
    for entry in json.loads((build / "compile_commands.json").read_text()):
        file = Path(entry["file"])
        match = UNIT.search(str(file))
        if not match:
            continue
        sources = [Path(name) for name in re.findall(r'^#include "(.*)"$', file.read_text(), re.MULTILINE)]
        if len(sources) > 1:
            command = without_output(shlex.split(entry["command"]))
            found.append(Unit(match["target"], file, command, Path(entry["directory"]), sources))
    return found


def generate(build: Path) -> None:
    """Run the steps that write sources and headers, which CMake has every target of a compiler wait for."""
    said = subprocess.run(["ninja", "-C", build, "-t", "targets", "all"], check=True, capture_output=True, text=True)
    wanted = re.findall(r"^(cmake_object_order_depends_target_\S+): phony$", said.stdout, re.MULTILINE)
    subprocess.run(["ninja", "-C", build, *wanted], check=True, stdout=sys.stderr)


def without_output(command: Sequence[str]) -> list[str]:
    """The compiler's call without launcher, source, output and dependency file."""
    words = iter(command)
    kept = []
    for word in words:
        if word in {"-o", "-MF", "-MT", "-MQ", "-c"}:
            next(words, None)
        elif word not in {"-MD", "-MMD"} and Path(word).name != "ccache":
            kept.append(word)
    return kept


def compiled(unit: Unit, text: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Give *text* to the unit's compiler, in the file's place so that what it says names it."""
    language = "c" if unit.file.suffix == ".c" else "c++"
    command = [*unit.command, *more, "-x", language, "-"]
    environ = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(
        command, cwd=unit.folder, input=text, capture_output=True, text=True, errors="replace", env=environ, check=False
    )


def including(sources: Iterable[Path]) -> str:
    """The text of a unit."""
    return "".join(f'#include "{source}"\n' for source in sources)


def settle(unit: Unit) -> Unit:
    """Take sources out of *unit* until it compiles and each means what it means alone."""
    while not unit.hopeless:
        done = compiled(unit, including(unit.rest), "-fsyntax-only")
        bad = clashes(done.stderr, unit.rest)
        if done.returncode and not bad:
            raise SystemExit(f"{unit.target}: the compiler failed, and names none of its sources:\n{done.stderr}")
        bad = bad or misread(unit)
        if not bad:
            break
        for clash in bad:
            unit.alone[clash.source] = clash.why
            print(f"{unit.target}: {clash.source.name}: {clash.why}", file=sys.stderr, flush=True)
    return unit


def misread(unit: Unit) -> list[Clash]:
    """The sources of *unit* that mean something else in it than alone."""
    for source in unit.rest:
        if source not in unit.texts:
            unit.texts[source] = texts(compiled(unit, including([source]), "-E").stdout)
    together = texts(compiled(unit, including(unit.rest), "-E").stdout)
    return leaks(together, {source: unit.texts[source] for source in unit.rest})


def main(argv: Sequence[str]) -> None:
    """Configure, settle every unit, write the proposal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--options", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args(argv)
    units = configure(arguments)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        settled = list(pool.map(settle, sorted(units, key=lambda unit: -len(unit.sources))))
    version = (arguments.source / "VERSION").read_text().strip()
    compiler = subprocess.run(["g++", "-dumpfullversion"], check=True, capture_output=True, text=True).stdout.strip()
    title = (
        f"GDAL {version}: targets whose sources are compiled in units, and the sources that stay alone (g++ {compiler})"
    )
    arguments.output.write_text(proposal(settled, title=title))
    print(arguments.output.read_text())


if __name__ == "__main__":
    main(sys.argv[1:])
