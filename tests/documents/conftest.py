"""Commands of documents are run where a shortened smoke run is named, and nowhere else."""

import os

import pytest

from tests.documents.folders import VARIABLE


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get(VARIABLE):
        return
    here = [item for item in items if item.get_closest_marker("documents")]
    if here:
        config.hook.pytest_deselected(items=here)
        items[:] = [item for item in items if item not in here]
