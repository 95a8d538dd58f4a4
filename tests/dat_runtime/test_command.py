"""What every command begins with."""

import pytest

from dat_runtime.command import add_restart, command

DESCRIPTION = """One line.

    python -m eval.score --out OUT
      indented as written
"""


def test_help_names_the_module_and_keeps_the_lines_of_the_description(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        command("eval.score", DESCRIPTION).parse_args(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: python -m eval.score ")
    assert DESCRIPTION.strip() in text


def test_options_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    parser = command("eval.score", None)
    parser.add_argument("--out-folder")
    assert parser.parse_args(["--out-folder", "x"]).out_folder == "x"


@pytest.mark.parametrize("arguments", [["--out", "x"], ["--out-folders", "x"], ["x"]])
def test_a_prefix_of_an_option_and_an_unknown_one_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = command("eval.score", DESCRIPTION)
    parser.add_argument("--out-folder")
    with pytest.raises(SystemExit) as refusal:
        parser.parse_args(arguments)
    assert refusal.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: python -m eval.score ")
    assert "unrecognized arguments" in error


def test_work_of_another_recipe_is_replaced_only_where_that_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parser = command("train.lora", None)
    add_restart(parser)
    assert parser.parse_args([]).restart is False
    assert parser.parse_args(["--restart"]).restart is True
    words = "replace what another recipe made or began in --out"
    assert [action.help for action in parser._actions[1:]] == [words]
