"""The container files of `configs/field`: what their comments say beside what they build."""

import re
from pathlib import Path

import pytest

FIELD = Path(__file__).parents[1] / "configs" / "field"
FILES = sorted(path.name for path in FIELD.glob("*.Containerfile"))


def parts(name: str) -> tuple[str, str]:
    """The comments, and the instructions with continued lines as one."""
    lines = (FIELD / name).read_text().replace("\\\n", "").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    return "\n".join(comments), "\n".join(line for line in lines if not line.startswith("#"))


def test_there_is_one_for_each_end() -> None:
    assert FILES == ["node.Containerfile", "receiver.Containerfile"]


@pytest.mark.parametrize("name", FILES)
def test_a_health_check_is_built_in_the_format_that_has_one(name: str) -> None:
    comments, instructions = parts(name)
    assert "\nHEALTHCHECK " in instructions
    assert re.findall("podman build(?! --format docker )", comments) == []


@pytest.mark.parametrize("name", FILES)
def test_the_secrets_are_given_to_the_user_that_reads_them(name: str) -> None:
    comments, instructions = parts(name)
    (uid,) = re.findall(r"useradd .*--uid (\d+) .*dat\b", instructions)
    (owner,) = re.findall(r"chown (\d+) /etc/dat/", comments)
    assert owner == uid
    assert instructions.index("\nUSER dat") < instructions.index("\nENTRYPOINT ")


@pytest.mark.parametrize("name", FILES)
def test_what_is_written_lies_in_the_volume_of_a_read_only_container(name: str) -> None:
    comments, instructions = parts(name)
    (made,) = re.findall(r"podman (?:run|create) (.*)", comments)
    assert {"--read-only", "--restart"} <= set(made.split())
    (volume,) = re.findall(r"^VOLUME (\S+)$", instructions, re.MULTILINE)
    assert re.findall(r"-v (\S+)", made)[-1].endswith(f":{volume}")
