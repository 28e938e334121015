"""Images side by side against a baseline: what a Comparison holds. Data only; `differences` and `verdict` work it out.

An image's size has four meanings, and each has its own name here (bytes; None is 'not measured'):

- ``layers``: the sum of the uncompressed layers, what the image takes on an engine's disk beside no other image;
- ``merged``: the file system that a container sees, without what later layers overwrote or deleted;
- ``pull``: the compressed bytes that a registry sends;
- ``alone``: the layers that no other image of this comparison has.

What an engine answers as 'Size' is one or the other of them, by its store, and so is never compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from msgspec import to_builtins

from jetpare.base.versions import ImageCheck, VersionRow
from jetpare.image.attribution import Component
from jetpare.image.inventory import Settings

SCHEMA = "jetpare.compare/2"
NOT_BUILT, BUILT = "NOT BUILT", "built"
SIZE_NAMES = ("layers", "merged", "pull", "alone")
MAX_LAYERS = 127  # what the overlay file system of an engine can stack

MET, NOT_MET = "met", "not met"
RECOMMENDED, NOT_RECOMMENDED, NO_RECOMMENDATION = "recommended", "not recommended", "no recommendation"
RuleOutcome = Literal["met", "not met", "not measured"]
Recommendation = Literal["recommended", "not recommended", "no recommendation"]
Change = Literal["added", "removed", "changed", "same"]


@dataclass(frozen=True, kw_only=True)
class LayerFigures:
    """One layer, from the bottom up; ``index`` counts from 1. ``size`` and ``instruction``: None where not known."""

    index: int
    diff_id: str
    size: int | None = None
    instruction: str | None = None


@dataclass(frozen=True, kw_only=True)
class GroupBytes:
    """What the components of one group of build.toml's [groups] take in the merged file system."""

    name: str
    bytes: int
    files: int


@dataclass(frozen=True, kw_only=True)
class PathBytes:
    """A file and what it takes."""

    path: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Nobody:
    """What no component owns. ``share``: of the merged file system, 0 to 1."""

    bytes: int
    files: int
    share: float
    largest: tuple[PathBytes, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DuplicateSet:
    """One content under several names: ``bytes`` is what all but one of them take, ``size`` what one takes.

    ``count`` names, of which ``paths`` are the first.
    """

    bytes: int
    size: int
    count: int
    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Identical contents; ``bytes`` counts all sets, ``sets`` are the largest ones."""

    bytes: int
    sets: tuple[DuplicateSet, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HiddenFigures:
    """A file of a lower layer that a later one overwrote or deleted, and the instruction that did."""

    path: str
    bytes: int
    instruction: str | None = None


@dataclass(frozen=True, kw_only=True)
class Overwritten:
    """Bytes that are in a layer and that no container sees; None: the layers were not read, for ``reason``."""

    bytes: int | None
    entries: tuple[HiddenFigures, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class WasteFigures:
    """What the image holds more than once, or in vain."""

    duplicates: Duplicates
    overwritten: Overwritten


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """One stage of the image, in the newest run that really made it; seconds None: no record tells.

    ``cache``: cold, warm. ``overlaps``: built side by side with others. ``marks``: why the time does not stand for the
    power mode. ``run``: the record's id.
    """

    label: str
    seconds: float | None = None
    cache: str | None = None
    power_mode: str | None = None
    overlaps: bool = False
    marks: tuple[str, ...] = ()
    run: str | None = None


@dataclass(frozen=True, kw_only=True)
class ImageFigures:
    """What was measured of one image. Sizes in bytes by name, see SIZE_NAMES. None: not measured."""

    name: str
    reference: str
    status: str
    description: str = ""  # build.toml's
    id: str | None = None
    created: str | None = None
    profile: str | None = None
    platform: str | None = None
    base: str | None = None
    base_digest: str | None = None
    revision: str | None = None
    layers: tuple[LayerFigures, ...] | None = None
    layers_left: int | None = None
    sizes: Mapping[str, int | None] = field(default_factory=lambda: dict.fromkeys(SIZE_NAMES))
    pull_how: str | None = None
    budget: int | None = None  # bytes of `layers` allowed
    versions: tuple[VersionRow, ...] = ()
    checks: tuple[ImageCheck, ...] = ()
    config: Settings | None = None
    groups: tuple[GroupBytes, ...] | None = (
        None  # largest first; their sum is sizes['merged'], as is that of `components`
    )
    components: tuple[Component, ...] | None = None  # largest first
    nobody: Nobody | None = None
    waste: WasteFigures | None = None
    stages: tuple[StageTime, ...] = ()  # empty where it has none, or is not of this project
    notes: tuple[str, ...] = ()

    @property
    def build_seconds(self) -> float | None:
        """The sum of its stages' times; None where one of them is not known."""
        seconds = [stage.seconds for stage in self.stages if stage.seconds is not None]
        return sum(seconds) if seconds and len(seconds) == len(self.stages) else None

    @property
    def over_budget(self) -> bool:
        """Whether its layers take more than build.toml allows."""
        return self.budget is not None and (self.sizes.get("layers") or 0) > self.budget


# --- of several


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One size of one image against the baseline's."""

    image: str
    size: str
    saved: int  # bytes; negative where the image is larger
    percent: float  # of the baseline's size

    @property
    def words(self) -> str:
        """'smaller', 'larger' or 'equal'."""
        return "smaller" if self.saved > 0 else "larger" if self.saved < 0 else "equal"


@dataclass(frozen=True, kw_only=True)
class WaterfallStep:
    """One step of a waterfall: ``bytes`` signed, ``total_after`` what is left or reached with it."""

    label: str
    bytes: int
    total_after: int


@dataclass(frozen=True, kw_only=True)
class Waterfall:
    """From the baseline's merged size (``start``) to the image's (``end``), group by group; the sums are exact."""

    image: str
    start: int
    end: int
    steps: tuple[WaterfallStep, ...]


@dataclass(frozen=True, kw_only=True)
class PackageRow:
    """One package in several images, by name. Images that were not looked into are in neither mapping.

    ``versions``: None where the image has no such package. ``bytes``: None there too, and where they are not known.
    ``change``, against the baseline: added (it is in another image only), removed (another lacks it), changed (another
    has another version), same; the first of these that is true of any image.
    """

    kind: Literal["debian", "python"]
    name: str
    change: Change
    versions: Mapping[str, str | None]
    bytes: Mapping[str, int | None]


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How many files, and their bytes (hard links once)."""

    count: int = 0
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class FileChange:
    """One file that differs. ``bytes``: in the image; of a removed one, in the baseline."""

    path: str
    change: Change
    bytes: int


@dataclass(frozen=True, kw_only=True)
class FileDifferences:
    """Files of one image against the baseline's, by path; folders are not counted.

    ``changed``: bytes as the image has them, ``changed_before`` as the baseline has them, so that the image's merged
    size is the baseline's - removed + added - changed_before + changed. ``alike``: of the same size, mode and owner,
    whose contents were not compared, for want of a digest.
    """

    image: str
    added: Tally
    removed: Tally
    changed: Tally
    changed_before: Tally
    alike: Tally
    largest: tuple[FileChange, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ConfigurationRow:
    """One setting that differs: what each image has (None: not set), and why it matters."""

    key: str
    values: Mapping[str, str | None]
    why: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of the verdict for one image. ``title``: the rule in words, with its limit."""

    rule: str  # built, checks, budget, versions, saving, audit
    title: str
    image: str
    outcome: RuleOutcome
    evidence: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What follows, and from what. ``image``: the one that is (or is not) recommended, None where that is none."""

    status: Recommendation
    image: str | None
    headline: str
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """N images, the baseline first. ``caveat``: a sentence that every view shows beside the verdict."""

    generated: str  # RFC 3339, UTC
    tool: Mapping[str, str]  # name, version
    profile: str | None  # None: images that were named one by one
    description: str
    baseline: str
    engine: Mapping[str, Any]  # version, store, platform
    images: tuple[ImageFigures, ...]
    host: Mapping[str, Any] | None = None  # of the run that built the first image of which a record tells
    caveat: str | None = None
    verdict: Verdict = field(
        default_factory=lambda: Verdict(status="no recommendation", image=None, headline="not worked out yet")
    )
    differences: tuple[Difference, ...] = ()
    shared: int | None = None  # bytes of layers that more than one image has, counted once
    waterfalls: tuple[Waterfall, ...] = ()
    packages: tuple[PackageRow, ...] = ()
    files: tuple[FileDifferences, ...] = ()
    configuration: tuple[ConfigurationRow, ...] = ()
    findings: tuple[Mapping[str, Any], ...] | None = None  # of the audit, as docs/audit.md has them; None: not audited
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The documented JSON form (docs/compare.md)."""
        content: dict[str, Any] = to_builtins(self)
        for image, row in zip(content["images"], self.images, strict=True):
            image["versions"] = [asdict(version) | {"status": version.status} for version in row.versions]
        for difference, each in zip(content["differences"], self.differences, strict=True):
            difference["words"] = each.words
        return {"schema": SCHEMA} | content

    @property
    def over_budget(self) -> tuple[ImageFigures, ...]:
        """The images whose layers take more than build.toml allows."""
        return tuple(image for image in self.images if image.over_budget)

    def difference(self, image: str, size: str = "layers") -> Difference | None:
        """One size of *image* against the baseline's, where both were measured."""
        return next((row for row in self.differences if (row.image, row.size) == (image, size)), None)
