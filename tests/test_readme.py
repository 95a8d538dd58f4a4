"""The README's commands, files and tree are those of the repository."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def make_targets(text: str) -> set[str]:
    """The targets of every `make ...` in code of a Markdown text."""
    code = re.findall(r"```\n(.*?)```", text, re.S) + re.findall(r"`([^`\n]+)`", text)
    targets: set[str] = set()
    for line in "\n".join(code).splitlines():
        command = line.split("#")[0].split()
        if command[:1] == ["make"]:
            words = re.sub(r'\w+=(".*?"|\S*)', "", " ".join(command[1:])).split()
            targets |= set(words)
    return targets


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.M))


def test_every_make_target_that_the_readme_names_is_there_and_explained() -> None:
    named = make_targets(README)
    assert {"smoke", "test", "help", "edge-check"} <= named
    assert named <= makefile_targets()


def test_a_target_that_is_not_there_would_be_found() -> None:
    assert make_targets("`make fly-away PROFILE=smoke`") - makefile_targets() == {"fly-away"}


def test_every_path_that_the_documents_name_is_there() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "paper.md"):
        text = document.read_text("utf-8")
        tops = "dat_runtime|data/prep|configs|train|eval|export|docs|tests|benchmarks|requirements"
        for name in re.findall(rf"`((?:{tops})/[\w./*-]*)`", text):
            assert list(ROOT.glob(name.rstrip("/"))), f"{document.name} names {name}"


def test_make_help_lists_the_stages_in_one_line_each() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = {line.split()[0] for line in done.stdout.splitlines()}
    stages = {"data", "train-gate", "instructions", "train-lora", "eval", "export", "smoke", "test"}
    assert stages <= listed
