import re

import pytest
import yaml

from data.prep.build import main
from tests.data.prep.source_builder import BOX, jpeg, picture


def card_of(source, out, *options):
    assert main(["--source", str(source.root), "--out", str(out), *options]) == 0
    return (out / "README.md").read_text()


def test_the_card_tells_split_leaks_faults_and_licence(source, tmp_path):
    (source.accidents / "data.yaml").write_text(
        "names: [moderate, severe]\nroboflow:\n  license: CC BY 4.0\n  url: https://u.example/x\n"
    )
    source.frame("bad", BOX + BOX, jpeg(picture(60)))
    text = card_of(source, tmp_path / "data", "--leak-free")
    front = yaml.safe_load(text.split("---")[1])
    assert front["configs"][0]["data_files"][2]["split"] == "test"
    for words in ("**leak-free**", "duplicate-row | 1", "CC BY 4.0", "| test in train | 0 "):
        assert words in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("options", [[], ["--without", "negatives", "trace"]])
def test_every_file_that_the_card_names_is_there(source, tmp_path, options):
    text = card_of(source, tmp_path / "data", *options)
    named = re.findall(r"`([\w.]+\.(?:csv|html|json|jsonl|md|yaml))`", text)
    assert {"manifest.json", "report.html"} <= set(named)
    assert [name for name in named if not (tmp_path / "data" / name).is_file()] == []


def test_the_card_promises_no_part_that_was_left_out(source, tmp_path):
    whole = card_of(source, tmp_path / "whole")
    assert "accident-free frames as background" in whole
    assert "Negatives are split by\nframe" in whole
    text = card_of(source, tmp_path / "data", "--without", "negatives", "trace")
    assert "Negatives" not in text
    assert "background" not in text
    assert "There is no set of accident-free frames." in text


@pytest.mark.parametrize("roboflow", ["", "roboflow: {}\n", "roboflow: [1]\n"])
def test_a_licence_that_the_export_does_not_state_is_said_to_be_missing(source, tmp_path, roboflow):
    (source.accidents / "data.yaml").write_text("names: [moderate, severe]\n" + roboflow)
    text = card_of(source, tmp_path / "data")
    assert "Licence: not stated in the files" in text
    assert "Stated in the export" not in text
