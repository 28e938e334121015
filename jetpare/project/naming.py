"""Name the tags, folders and files that a plan leads to."""

from __future__ import annotations

from pathlib import Path

from jetpare.config.schema import Config
from jetpare.config.values import BUILDER, architecture_of
from jetpare.project.plan import Node, Plan

SECRETS = ("ca", "net")
DOWNLOADS = "downloads"  # in the state folder
BASE = "base"  # the named context that is each image's own base
BASE_SETTINGS = "base-settings"  # the named context that has the base's settings and none of its files
NEW_ROOT = "slim"  # the stage that starts from BASE_SETTINGS, and leaves out what [[prune]] names


LABEL_REVISION = "org.opencontainers.image.revision"
REBUILD_PREFIX = "REBUILD_"


def input_tag(config: Config, plan: Plan, name: str) -> str:
    """The tag of an input that is an image of ours: 'jetpare/l4t-cuda:rehearsal', 'jetpare/debian:bookworm-amd64'."""
    suite = plan.profile.contexts[name].suite
    if suite:
        return f"{config.project.name}/debian:{suite}-{architecture_of(input_platform(plan, name))}"
    return f"{config.project.name}/{name}:{plan.profile_name}"


def input_platform(plan: Plan, name: str) -> str:
    """The platform of an input: that of the images, except for what builds for another one."""
    return plan.builder_platform if name == BUILDER else plan.platform


def image_tag(config: Config, image: str, profile_name: str) -> str:
    """The tag of a finished image: 'jetpare/cuda:rehearsal'."""
    return f"{config.project.name}/{image}:{profile_name}"


def shell_tag(config: Config, plan: Plan, node: Node) -> str:
    """The tag of a stage while someone looks around in it: 'jetpare/cuda-gdal:rehearsal-shell'."""
    return f"{config.project.name}/{node.group}-{node.name}:{plan.profile_name}-shell"


def report_folder(state: Path, node: Node) -> Path:
    """Where a stage's record is exported to."""
    return state / "reports" / node.target


def secret_file(state: Path, name: str) -> Path:
    """The file of a build secret."""
    return state / "secrets" / name


def download_folder(state: Path, sha256: str) -> Path:
    """The folder that holds one downloaded archive and nothing else."""
    return state / DOWNLOADS / sha256


def definition_file(state: Path, name: str = "bake") -> Path:
    """Where a definition stands when bake runs; one of another *name* is for a person to paste."""
    return state / f"{name}.json"
