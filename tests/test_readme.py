"""The README's commands, files and tree are those of the repository."""

import re
import subprocess
from pathlib import Path

import pytest

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


DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TOPS = "dat_runtime|data/prep|configs|train|eval|export|docs|tests|benchmarks|requirements"


def missing_paths(text: str, folder: Path = ROOT) -> list[str]:
    """Files and modules that a document names and the repository lacks.

    Paths in code, targets of links (relative to the document's `folder`), and `python -m` modules.
    """
    patterns = re.findall(rf"`((?:{TOPS})/[\w./*-]*)`", text)
    missing = [name for name in patterns if not list(ROOT.glob(name.rstrip("/")))]
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    missing += [link for link in links if not (folder / link).exists()]
    for module in re.findall(r"python -m ((?:data|train|eval|export|benchmarks)\.[\w.]+\w)", text):
        if not ROOT.joinpath(*module.split(".")).with_suffix(".py").is_file():
            missing.append(module)
    return missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_path_that_a_document_names_is_there(document: Path) -> None:
    assert missing_paths(document.read_text("utf-8"), document.parent) == []


def anchors(text: str) -> set[str]:
    """The anchors of a Markdown text's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings]
    return {words.replace(" ", "-") for words in plain}


def missing_anchors(document: Path) -> list[str]:
    """Links of a document to a heading that is not there."""
    links = re.findall(r"\]\(([^)#: ]*)#([^)]+)\)", document.read_text("utf-8"))
    return [
        f"{name}#{anchor}"
        for name, anchor in links
        if anchor not in anchors((document.parent / (name or document.name)).read_text("utf-8"))
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_heading_that_a_document_links_to_is_there(document: Path) -> None:
    assert missing_anchors(document) == []


def test_a_heading_that_is_not_there_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("## 2. Install it\n[x](#2-install-it) [y](#3-fly) [z](b.md#c)")
    (tmp_path / "b.md").write_text("# B\n```\n# c\n```")
    assert missing_anchors(tmp_path / "a.md") == ["#3-fly", "b.md#c"]


def test_a_path_that_is_not_there_would_be_found() -> None:
    text = "`eval/nothing.py`, [a guide](docs/nothing.md), `python -m eval.nothing --out x`"
    assert missing_paths(text) == ["eval/nothing.py", "docs/nothing.md", "eval.nothing"]


def tree_of(text: str) -> dict[str, list[str]]:
    """Folder of the README's tree -> the rooms that it lists below."""
    lines = text.split("```\ndat_runtime/")[1].split("```")[0].splitlines()
    tree: dict[str, list[str]] = {"dat_runtime": []}
    for line in lines[1:]:
        name = line.split()[0].rstrip("/")
        if line.startswith(" "):
            tree[list(tree)[-1]].append(name)
        else:
            tree[name] = []
    return tree


@pytest.mark.parametrize("folder", ["dat_runtime", "data/prep", "train", "eval", "export"])
def test_the_tree_shows_every_room(folder: str) -> None:
    rooms = sorted(path.parent.name for path in (ROOT / folder).glob("*/__init__.py"))
    assert sorted(tree_of(README)[folder]) == rooms


def test_the_tree_names_every_command() -> None:
    for folder in ("data/prep", "train", "eval", "export"):
        (line,) = [line for line in README.splitlines() if line.startswith(f"{folder}/ ")]
        for path in (ROOT / folder).glob("*.py"):
            assert path.stem in line or path.stem == "__init__", path


def test_make_help_lists_the_stages_in_one_line_each() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = {line.split()[0] for line in done.stdout.splitlines()}
    stages = {"data", "train-gate", "instructions", "train-lora", "eval", "export", "smoke", "test"}
    assert stages <= listed


def test_make_help_explains_every_variable_that_one_may_set() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    variables = set(re.findall(r"^([A-Z_]+) \?=", text, re.M))
    assert {"PROFILE", "SOURCE", "GATE", "DATA_SET", "INSTRUCT_SET", "LORA_SET"} <= variables
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    told = done.stdout.partition("Variables")[2]
    missing = {name for name in {*variables, "BASE", "ROWS"} if not re.search(rf"\b{name}\b", told)}
    assert not missing
