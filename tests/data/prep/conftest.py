from pathlib import Path

import pytest

from tests.data.prep.source_builder import Source


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A sound source in its own folder, to which a test adds faults."""
    return Source(tmp_path / "source")
