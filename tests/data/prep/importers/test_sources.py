from pathlib import Path

import pytest

from dat_runtime.errors import DataError
from data.prep.build import main
from data.prep.importers.sources import find_sources


def test_the_parts_are_found_by_layout_three_folders_deep(source, tmp_path):
    source.root.rename(tmp_path / "c")
    for deeper in ("b", "a"):
        outer = tmp_path / f"{deeper}_"
        outer.mkdir()
        (tmp_path / "c").rename(outer / "c")
        outer.rename(tmp_path / "c")
    found = find_sources(tmp_path / "c" / "c")
    assert found.accidents.name == "accidents-detection"
    assert found.negatives.name == "data"
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


def test_a_split_without_labels_is_named(source, tmp_path, capsys):
    (source.accidents / "test" / "labels").rename(source.root.parent / "moved")
    assert main(["--source", str(source.root), "--out", str(tmp_path / "data")]) == 1
    assert "test/labels: no such folder" in capsys.readouterr().err


def test_two_sets_of_a_kind_are_refused_by_name(source):
    second = source.root / "again"
    (second / "train" / "images").mkdir(parents=True)
    (second / "data.yaml").write_text("names: [moderate, severe]")
    with pytest.raises(DataError, match="found accidents-detection, again"):
        find_sources(source.root)


def test_a_source_that_is_not_there_is_named():
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find_sources(Path("nowhere"))


def test_the_zoom_trace_is_taken_of_several_and_the_others_are_listed(source):
    other = source.trace.with_name("a_game.csv")
    other.write_text("DL_bitrate,UL_bitrate\n1,1\n")
    found = find_sources(source.root)
    assert (found.trace, found.other_traces) == (source.trace, (other,))
