from pathlib import Path

import pytest

from dat_runtime.errors import ConfigError
from export.repository import releases
from tests.export.repository.small_repository import FILES, SmallRepository, terms, write


@pytest.mark.parametrize(
    ("files", "changes"),
    [
        (FILES | {"a b": b""}, {}),
        ({name: content for name, content in FILES.items() if name != "manifest.json"}, {}),
        (FILES, {"gate": "0" * 64}),
    ],
)
def test_what_no_node_would_take_is_not_staged(
    tmp_path: Path, files: dict[str, bytes], changes: dict[str, str]
) -> None:
    repository = SmallRepository(tmp_path)
    bundle = write(tmp_path / "bundle", files)
    told = terms(files, **changes)
    with pytest.raises(ConfigError, match="what no node takes"):
        releases.add(repository.store, ("crossing", "1"), bundle, told)
    assert repository.store.waiting("targets") is None


def test_the_number_of_a_release_rises_whatever_was_taken_back(tmp_path: Path) -> None:
    repository = SmallRepository(tmp_path)
    first = repository.publish("1").release
    releases.withdraw(repository.store, ("crossing", "1"))
    repository.sign(*repository.targets)
    assert repository.publish("1").release > first
