import pytest

from dat_runtime.errors import ConfigError, DataError
from data.prep.importers.classes import Classes


def test_a_mapping_can_be_a_file(tmp_path):
    (tmp_path / "map.yaml").write_text("Minor: moderate\nbus: ignore\nvan: none\n")
    classes = Classes.read([str(tmp_path / "map.yaml")])
    found = classes.of(["bus", "MINOR ", "severe", "van"], tmp_path)
    assert found == ["ignore", "moderate", "severe", "none"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["minor=mild"], "expected moderate, severe, ignore, none"),
        (["a=severe", "b"], "NAME=SEVERITY"),
        (["nowhere.yaml"], "cannot be read"),
    ],
)
def test_a_mapping_that_says_nothing_is_refused(words, message):
    with pytest.raises((ConfigError, DataError), match=message):
        Classes.read(words)
