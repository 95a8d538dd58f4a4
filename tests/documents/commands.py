"""The commands that documents write down: `python -m ...`, `dat-runtime ...`, `make ...`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *(path for path in sorted(ROOT.glob("docs/**/*.md")) if "decisions" not in path.parts),
    ROOT / "README.md",  # most of its commands are those of a guide
]
BEFORE = r"(?:[A-Z_]+=\S+ )*(?:runuser -u \w+ -- )?(?:\S*/bin/)?"
"""Variables, another user, an environment's folder."""
COMMAND = re.compile(rf"{BEFORE}(?:python3? -m [a-z]|dat-runtime |make )\S.*")


class Command(NamedTuple):
    """A command, its white space made single and its remark taken off."""

    document: str
    text: str


def without_remark(line: str) -> str:
    return re.split(r"\s#\s", line, maxsplit=1)[0]


def code_of(text: str) -> Iterator[str]:
    """Lines of fenced blocks, those that end in a backslash joined, and code within sentences."""
    block = re.compile(r"^```\w*\n(.*?)^```$", re.S | re.M)
    at = 0
    for found in block.finditer(text):
        yield from re.findall(r"`([^`]+)`", text[at : found.start()])
        yield from found[1].replace("\\\n", " ").splitlines()
        at = found.end()
    yield from re.findall(r"`([^`]+)`", text[at:])


def commands_in(text: str, document: str) -> Iterator[Command]:
    """In the text's order; a program's name alone is none."""
    for code in code_of(text):
        line = " ".join(without_remark(code).split())
        if COMMAND.fullmatch(line):
            yield Command(document, line)


def documents_with(command: str) -> list[str]:
    """The texts, their white space made single, of the documents that have it."""
    texts = [path.read_text("utf-8") for path in DOCUMENTS]
    return [
        " ".join(text.split())
        for text in texts
        if command in {found.text for found in commands_in(text, "")}
    ]


def commands() -> list[Command]:
    """Every command once, where a document has it first."""
    first: dict[str, Command] = {}
    for path in DOCUMENTS:
        name = path.relative_to(ROOT).as_posix()
        for command in commands_in(path.read_text("utf-8"), name):
            first.setdefault(command.text, command)
    return list(first.values())
