"""A codec's folder as it is made, of a small tower and with patches of noise for pictures."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dat_runtime.codec_folder import read_description
from dat_runtime.errors import ConfigError
from dat_runtime.files import read_json, read_json_lines, read_yaml
from tests.train.offloading.test_learning import Model
from tests.train.offloading.test_settings import GIVEN
from train.mllm.lengths import image_size
from train.offloading import learning, making, node_graph
from train.offloading.frozen import Backbone
from train.offloading.samples import Sample
from train.offloading.settings import read_settings

CONFIG = {**GIVEN, "reconstruction_steps": 2, "merger_steps": 1, "answers_steps": 0}
BACKBONE = Backbone("Some/Base", "Some/Base", "a" * 40, None)


def noise(processor: Any, samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = [image_size(sample.image) for sample in samples]
    grids = torch.tensor([[1, size.height // 14, size.width // 14] for size in sizes])
    parts = [
        torch.randn(int(grid.prod()), 1176, generator=torch.manual_seed(int(sample.image.stem[1:])))
        for grid, sample in zip(grids, samples, strict=True)
    ]
    return torch.cat(parts), grids


@pytest.fixture
def make(boxed_instructions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a codec of some configuration in a folder, and returns the folder."""
    colours = SimpleNamespace(image_mean=(0.5, 0.4, 0.3), image_std=(0.2, 0.2, 0.1))
    processor = SimpleNamespace(image_processor=colours)
    monkeypatch.setattr(making, "load_frozen", lambda backbone: (Model(), processor))
    monkeypatch.setattr(making, "PICTURES", 3)
    for module in (learning, node_graph):
        monkeypatch.setattr(module, "pictures", noise)
    times = iter([10.0, 12.34])
    monkeypatch.setattr(making, "time", SimpleNamespace(monotonic=times.__next__))
    out = tmp_path / "codec"
    out.mkdir()

    def made(**changes: Any) -> Path:
        settings = replace(read_settings(CONFIG), **changes)
        datasets = ("boxed_train", "boxed_val")
        making.make_codec(out, BACKBONE, boxed_instructions, datasets, CONFIG, settings, "tiny")
        return out

    return made


def test_a_folder_holds_what_a_node_and_a_server_need(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out = make()
    assert {path.name for path in out.iterdir()} == {
        "codec.json", "codec.safetensors", "config.yaml", "encoder-8x8.onnx", "run.json",
        "steps.jsonl",
    }  # fmt: skip
    fields = dict(read_description(out).fields)
    assert {name: fields.pop(name) for name in ("version", "prompt", "id")}.keys()
    assert fields == {
        "base": "Some/Base", "revision": "a" * 40, "adapter": None, "block": 1, "channels": [4, 8],
        "spatial": False, "features": 96, "width": 16, "grids": [[8, 8]], "images": [[112, 112]],
        "patch": 14, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1],
    }  # fmt: skip
    assert read_yaml(out / "config.yaml") == CONFIG
    report = read_json(out / "run.json")
    ((_, logged),) = read_json_lines(out / "steps.jsonl")
    assert report == {
        "seconds": 2.3,
        "peak_memory_mb": report["peak_memory_mb"],
        "steps": 3,
        "losses": {key: value for key, value in logged.items() if key not in ("step", "stage")},
        "lost_variance": report["lost_variance"],
        "graphs": {"encoder-8x8.onnx": {"bits": 3 * 8 * 64, "differing": 0}},
    }
    assert 64 < report["peak_memory_mb"] < 1 << 20
    lost = report["lost_variance"]
    assert list(lost) == ["4", "8"]
    assert all(0.5 < share < 2 for share in lost.values())
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], len(lines)) == ("[tiny] 12 pictures, 4 held out", 4)
    assert lines[1].startswith("[tiny] step 3/3 merger: ")
    told = f"variance lost on held-out pictures: 4 channels {lost['4']:.1%}, 8 channels"
    assert lines[2] == f"[tiny] codec {read_description(out).id}; {told} {lost['8']:.1%}"
    assert lines[3] == "[tiny] encoder-8x8.onnx: 0 of 1,536 bits differ from torch's"


def test_a_cut_beyond_the_tower_is_refused(make: Any) -> None:
    with pytest.raises(ConfigError, match="block 5: the vision tower has 4 blocks"):
        make(block=5)


def test_what_is_lost_is_measured_in_batches_of_the_most_frequent_grid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(making, "PICTURES", 5)
    monkeypatch.setattr(making, "reconstruction_by_channels", lambda *given: given)
    held_out: Any = SimpleNamespace(
        grids=lambda: [(4, 4), (2, 2)], of_grid=lambda grid: [(grid, i) for i in range(9)]
    )
    settings = replace(read_settings(CONFIG), batch_size=2)
    grid = (4, 4)
    assert making._lost("learner", held_out, settings) == (  # type: ignore[arg-type]
        "learner",
        [
            (grid, [(grid, 0), (grid, 1)]),
            (grid, [(grid, 2), (grid, 3)]),
            (grid, [(grid, 4)]),
        ],
    )
