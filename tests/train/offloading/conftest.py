"""Folders that tests of the split share."""

from pathlib import Path

import pytest

from tests.train.offloading.small_codec import arguments, write_instructions


@pytest.fixture(scope="session")
def boxed_instructions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_instructions(tmp_path_factory.mktemp("data") / "instructions")


@pytest.fixture(scope="session")
def codec_folder(
    tiny_base: Path, boxed_instructions: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """As `train.offload` leaves it."""
    from train import offload

    out = tmp_path_factory.mktemp("codecs") / "codec"
    assert offload.main(arguments(tiny_base, boxed_instructions, out)) == 0
    return out
