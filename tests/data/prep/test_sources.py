import time
from pathlib import Path

import pytest

from dat_runtime.errors import DataError
from data.prep.importers.sources import find_sources
from data.prep.importers.yolo import read_data_yaml


def write_yaml(tmp_path, text):
    path = tmp_path / "data.yaml"
    path.write_text(text)
    return path


def test_the_parts_are_found_by_layout_three_folders_deep(source, tmp_path):
    source.root.rename(tmp_path / "c")
    for deeper in ("b", "a"):
        outer = tmp_path / f"{deeper}_"
        outer.mkdir()
        (tmp_path / "c").rename(outer / "c")
        outer.rename(tmp_path / "c")
    found = find_sources(tmp_path / "c" / "c")
    assert found.accident_folder("val").name == "valid"
    assert found.negative_folder("val").parent.parent.name == "data"
    assert found.trace.name == "zoom_1s.csv"


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("accidents/data.yaml", "accident frames"),
        ("negatives", "accident-free frames"),
        ("trace", "trace"),
    ],
)
def test_a_missing_part_is_named_with_what_was_found(source, part, named):
    attribute, _, file = part.partition("/")
    path = getattr(source, attribute) / file if file else getattr(source, attribute)
    path.rename(source.root.parent / "elsewhere")
    with pytest.raises(DataError, match=rf"{named} \(expected .*?\): found nothing") as caught:
        find_sources(source.root)
    assert str(caught.value).count("found nothing") == 1


def test_a_missing_split_is_named(source):
    (source.accidents / "test" / "labels").rename(source.root / "moved")
    (source.root / "moved").rename(source.root.parent / "moved")
    with pytest.raises(DataError, match=r"test/labels: no such folder"):
        find_sources(source.root)


def test_two_sets_of_a_kind_are_refused_by_name(source):
    second = source.root / "again"
    (second / "train" / "images").mkdir(parents=True)
    (second / "data.yaml").write_text("names: [moderate, severe]")
    with pytest.raises(DataError, match="found accidents-detection, again"):
        find_sources(source.root)


def test_a_source_that_is_not_there_is_named():
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find_sources(Path("nowhere"))


def test_the_zoom_trace_is_taken_of_several_and_the_others_are_told(source):
    other = source.trace.with_name("a_game.csv")
    other.write_text("DL_bitrate,UL_bitrate\n1,1\n")
    found = find_sources(source.root)
    assert (found.trace, found.other_traces) == (source.trace, (other,))


@pytest.mark.parametrize(
    "names",
    ["[severe, Moderate]", "{0: severe, 1: moderate}", "\n  - severe\n  - moderate"],
)
def test_class_names_map_to_severities_in_the_sources_order(tmp_path, names):
    found, faults = read_data_yaml(write_yaml(tmp_path, f"names: {names}\n"), "data.yaml")
    assert found == ["severe", "moderate"]
    assert faults == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("names: [Accident]", r"this set names \['Accident'\]"),
        ("names: [moderate, severe, fatal]", "fatal"),
        ("names: [moderate, moderate]", "this set names"),
        ("names: {1: moderate, 2: severe}", "class ids"),
        ("names: 3", "list or a mapping"),
        ("nc: 3\nnames: [moderate, severe]", "nc is 3"),
        ("- moderate\n- severe", "mapping with `names`"),
        ("", "mapping with `names`"),
        ("names: [moderate, severe", r"data.yaml:\d+: not plain YAML"),
        ("names: !!python/object/apply:os.system ['touch owned']", r"data.yaml:1: not plain YAML"),
        ("a: &a [x]\nnames: [*a, *a]", "data.yaml:2: aliases"),
        ("names: " + "[" * 500 + "]" * 500, "deep nesting"),
        ("names: [moderate, severe]\n#" + "x" * 70_000, "at most 65536"),
    ],
)
def test_a_data_yaml_that_cannot_be_trusted_is_refused(tmp_path, monkeypatch, text, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=told):
        read_data_yaml(write_yaml(tmp_path, text), "data.yaml")
    assert not (tmp_path / "owned").exists()


def test_an_alias_bomb_costs_nothing(tmp_path):
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    bomb = "\n".join(["a0: &a0 [x]", *levels, "names: *a29"])
    started = time.monotonic()
    with pytest.raises(DataError, match="aliases"):
        read_data_yaml(write_yaml(tmp_path, bomb), "data.yaml")
    assert time.monotonic() - started < 1


def test_a_download_key_is_reported_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "names: [moderate, severe]\ndownload: |\n  open('owned', 'w')\n"
    _, faults = read_data_yaml(write_yaml(tmp_path, text), "set/data.yaml")
    assert [(f.kind, f.file) for f in faults] == [("download-key", "set/data.yaml")]
    assert not (tmp_path / "owned").exists()
