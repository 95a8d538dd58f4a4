import time

import pytest

from dat_runtime.errors import DataError
from data.prep.importers.plain_yaml import plain_yaml
from data.prep.importers.yolo import read_data_yaml, read_labels

NAMES = ("moderate", "severe")


def write_yaml(tmp_path, text):
    path = tmp_path / "data.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "names",
    ["[severe, Moderate]", "{0: severe, 1: moderate}", "\n  - severe\n  - moderate"],
)
def test_class_names_map_to_severities_in_the_sources_order(tmp_path, names):
    found, faults = read_data_yaml(write_yaml(tmp_path, f"names: {names}\n"), "data.yaml")
    assert found == ["severe", "moderate"]
    assert faults == []


@pytest.mark.parametrize(
    ("text", "message"),
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
        ("names: [moderate, severe]\n#" + "x" * 70_000, "larger than 65,536 bytes"),
    ],
)
def test_a_data_yaml_that_cannot_be_trusted_is_refused(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        read_data_yaml(write_yaml(tmp_path, text), "data.yaml")
    assert not (tmp_path / "owned").exists()


def test_an_alias_bomb_costs_no_more_than_its_text(tmp_path):
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    bomb = "\n".join(["a0: &a0 [x]", *levels, "names: *a29"])
    path = write_yaml(tmp_path, bomb)
    refusals = []
    for _ in range(3):
        started = time.perf_counter()
        with pytest.raises(DataError, match="aliases"):
            read_data_yaml(path, "data.yaml")
        refusals.append(time.perf_counter() - started)
    harmless = write_yaml(tmp_path, bomb.replace("&", "").replace("*", ""))
    started = time.perf_counter()
    plain_yaml(harmless)
    assert min(refusals) < time.perf_counter() - started


def test_a_download_key_is_reported_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "names: [moderate, severe]\ndownload: |\n  open('owned', 'w')\n"
    _, faults = read_data_yaml(write_yaml(tmp_path, text), "set/data.yaml")
    assert [(f.kind, f.file) for f in faults] == [("download-key", "set/data.yaml")]
    assert not (tmp_path / "owned").exists()


def test_bytes_that_are_not_text_are_a_fault_and_not_a_crash(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xff\xfe\x00\x81\n")
    _, faults = read_labels(path, "a.txt", NAMES)
    assert [f.kind for f in faults] == ["not-a-number"]


def test_a_huge_label_file_is_refused_unread(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"0 0.5 0.5 0.5 0.5\n" * 100_000)
    _, faults = read_labels(path, "a.txt", NAMES)
    assert [(f.kind, f.line) for f in faults] == [("unreadable-label", None)]
