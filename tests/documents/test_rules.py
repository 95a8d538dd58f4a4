"""Every command of the documents is run, was run, or is listed with the reason; no list rots."""

import pytest

from tests.documents.commands import DOCUMENTS, ROOT, Command, commands, commands_in
from tests.documents.rules import (
    MADE,
    NOT_RUN,
    RULES,
    SMALL,
    STORIES,
    Run,
    fits,
    held,
    moved,
    rule_of,
    shrunk,
)

TEXTS = [command.text for command in commands()]


def unused(keys: list[str], texts: list[str]) -> list[str]:
    """Keys that decide about no command: none fits, or an earlier key takes all that do."""
    first = {next((key for key in keys if fits(key, text)), None) for text in texts}
    return [key for key in keys if key not in first]


def listed(text: str) -> bool:
    return any(fits(key, text) for key in (*MADE, *NOT_RUN))


def test_every_entry_is_of_a_command_that_a_document_has() -> None:
    run = [text for text in TEXTS if not listed(text)]
    assert unused(list(RULES), run) == []
    assert unused([*MADE, *NOT_RUN], TEXTS) == []


def test_an_entry_without_a_command_is_found() -> None:
    keys = ["make a*", "make ab", "make c"]
    assert unused(keys, ["make ab", "make a"]) == ["make ab", "make c"]


def test_every_document_with_a_command_belongs_to_one_story() -> None:
    told = [document for story in STORIES for document in story]
    assert len(told) == len(set(told))
    assert {command.document for command in commands()} <= set(told)


def test_most_commands_are_run() -> None:
    assert len(DOCUMENTS) > 15
    assert sum(not listed(text) for text in TEXTS) > 100


def test_commands_are_found_in_blocks_and_in_sentences() -> None:
    text = """Do `make eval` or
`python -m eval.score
--out x`, with `make` and `dat-runtime`.
```sh
OMP_NUM_THREADS=1 python -m eval.predict \\
    --out a        # one
runuser -u dat -- /opt/dat/bin/dat-runtime edge check a.yaml
makes nothing
```
`dat-runtime plan`
"""
    assert list(commands_in(text, "a.md")) == [
        Command("a.md", "make eval"),
        Command("a.md", "python -m eval.score --out x"),
        Command("a.md", "OMP_NUM_THREADS=1 python -m eval.predict --out a"),
        Command("a.md", "runuser -u dat -- /opt/dat/bin/dat-runtime edge check a.yaml"),
        Command("a.md", "dat-runtime plan"),
    ]


@pytest.mark.parametrize(
    ("written", "run"),
    [
        ("/opt/dat/bin/dat-runtime verify /var/lib/dat/bundle", "dat-runtime verify var/bundle"),
        ("dat-runtime status node.yaml [--json]", "dat-runtime status node.yaml"),
        (
            "python -m x --base BASE --bases A_BASE",
            "python -m x --base train/shipped_base --bases A_BASE",
        ),
    ],
)
def test_places_of_a_reader_are_places_here(written: str, run: str) -> None:
    assert shrunk(written, Run()) == run


def test_no_swap_is_of_words_that_are_gone() -> None:
    """A command that changed in a document may need another rule."""
    for command in commands():
        rule, text = rule_of(command.text), command.text
        if listed(text):
            continue
        for there in set(rule.swaps) - set(SMALL):
            assert there in text, (text, there)
        assert not set(SMALL) <= set(rule.swaps) or any(there in text for there in SMALL), text


def test_a_figure_that_a_document_has_otherwise_is_found() -> None:
    rule = Run(shows=(r"release (\d+)",))
    held(rule, "It is release 2.", "[publish]  release\n2")
    with pytest.raises(AssertionError):
        held(rule, "It is release 1.", "release 2")
    with pytest.raises(AssertionError, match="no document says"):
        held(rule, "It is one.", "release 2")
    with pytest.raises(AssertionError, match="is not in"):
        held(rule, "It is release 2.", "nothing")


def test_each_cell_of_the_federated_rounds_table_is_compared() -> None:
    row = "| 49 | 1.00 | 0.10 | 0.20 |\n"
    printed = row * 20 + "| 49 | 1.00 | 0.10 | 0.30 |"
    written = "1.00 → **0.10**, 0.20 | " * 20
    held(Run(figures=moved), written + "1.00 → **0.10**, 0.30", printed)
    with pytest.raises(AssertionError):
        held(Run(figures=moved), written + "1.00 → **0.10**, 0.20", printed)


def test_the_repository_is_where_the_documents_are() -> None:
    assert (ROOT / "README.md").is_file()
