"""Each command that a document writes down is one that its parser takes."""

import contextlib
import importlib
import io
import re
from collections.abc import Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.documents.commands import code_of

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COMMAND = re.compile(
    r"(?:python -m (?P<module>(?:data|train|eval|export|benchmarks)\.[\w.]+\w)|dat-runtime)(?= |$)"
    r"(?P<rest>[^#|]*)"
)
NOT_OURS = "train.mllm.upstream"
"""LLaMA-Factory's own entry, with its own options."""


class Written(NamedTuple):
    """A command as a document has it: words that choose a subcommand, then options."""

    module: str
    words: tuple[str, ...]
    options: frozenset[str]


def commands_in(text: str) -> Iterator[Written]:
    """The commands in code of a Markdown text."""
    for line in code_of(text):
        for found in COMMAND.finditer(line):
            words = tuple(takewhile(str.isalpha, found["rest"].split()))
            options = frozenset(re.findall(r"(?<![\w-])--[a-z][\w-]*", found["rest"]))
            yield Written(found["module"] or "dat_runtime.cli", words, options)


@cache
def help_of(module: str, words: tuple[str, ...]) -> str:
    """What `--help` prints; an unknown subcommand is named in the error instead."""
    told = io.StringIO()
    main = importlib.import_module(module).main
    printed = contextlib.redirect_stdout(told), contextlib.redirect_stderr(told)
    with printed[0], printed[1], contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return told.getvalue()


def wrong_in(text: str) -> list[str]:
    """Commands of a document that do not start, and options that they do not have."""
    wrong = []
    for module, words, options in commands_in(text):
        if module == NOT_OURS:
            continue
        told = help_of(module, words)
        if not told.startswith("usage: ") or "error: " in told:
            wrong.append(f"{module} {' '.join(words)}: {told[-200:]}")
        known = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", told))
        wrong += [f"{module} {option}" for option in sorted(options - known)]
    return sorted(wrong)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_of_a_document_is_taken_by_its_parser(document: Path) -> None:
    assert wrong_in(document.read_text("utf-8")) == []


def test_a_command_that_is_not_there_would_be_found() -> None:
    text = "`dat-runtime fly`, `python -m eval.score --out x --wings 2`\n"
    text += "```\ndat-runtime plan --up\n```"
    assert [word.split(":")[0] for word in wrong_in(text)] == [
        "dat_runtime.cli --up",
        "dat_runtime.cli fly",
        "eval.score --wings",
    ]
