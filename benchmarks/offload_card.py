"""The split and the codec at the 7B's sizes: `python -m benchmarks.offload_card --device cuda`.

A vision tower of Qwen2.5-VL-7B's sizes with random weights looks at one picture of `--pixels`
(644 x 644), in bfloat16 on a card and in float32 on a CPU. It is cut after blocks 7, 10, 21 and 23,
which count from 0: a node has 8, 11, 22 or 24 of the 32. Measured are milliseconds of head and tail
(medians of `--repeats`), and the largest difference of the two halves from the unsplit tower, which
must be exactly 0. Then codecs with and without spatial encoding: milliseconds of encoder and
decoder at 64, 128 and 256 channels, and the bytes of a unit.
Random weights say nothing of accuracy. Prints a table; writes it as JSON with `--out`.

    python -m benchmarks.offload_card --size small          # a tower of four small blocks, seconds
"""

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_json
from dat_runtime.offload import HEADER_BYTES, size_of
from train.mllm.model_sizes import SEVEN_B

PATCH = 14

TOWERS: dict[str, dict[str, Any]] = {
    "7b": {
        **SEVEN_B["vision_config"],
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
    "small": {
        "depth": 4,
        "hidden_size": 64,
        "num_heads": 2,
        "intermediate_size": 96,
        "out_hidden_size": 48,
        "window_size": 112,
        "fullatt_block_indexes": [1, 3],
    },
}
BLOCKS = {"7b": (8, 11, 22, 24), "small": (1, 2, 3)}
"""That a node runs."""

WIDTHS = {"7b": 512, "small": 32}
"""Of the decoder, as in configs/offload/paper.yaml."""

CHANNELS = (64, 128, 256)


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.offload_card", __doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--size", choices=tuple(TOWERS), default="7b", help="of the tower (7b)")
    parser.add_argument("--pixels", type=int, default=644, help="side of the picture (644)")
    parser.add_argument("--repeats", type=int, default=10, help="of each measurement (10)")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    args = parser.parse_args(argv)
    if args.pixels < 2 * PATCH or args.pixels % (2 * PATCH):
        raise ConfigError(f"--pixels {args.pixels}: expected a multiple of {2 * PATCH}")
    report = measure(args.size, args.device, args.pixels, args.repeats)
    for line in lines(report):
        print(line)
    if args.out:
        write_json(args.out, report)
    if any(cut["difference"] for cut in report["cuts"]):
        raise ConfigError("the halves differ from the whole: the split is not exact here")
    return 0


def measure(size: str, device: str, pixels: int, repeats: int) -> dict[str, Any]:
    """All figures of one tower and picture."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: no card here")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    tower = _tower(TOWERS[size], device, dtype)
    side = pixels // PATCH
    grid = torch.tensor([[1, side, side]], device=device)
    patches = torch.randn(side * side, 3 * 2 * PATCH * PATCH, device=device, dtype=dtype)
    with torch.inference_mode():
        timed = _Timer(device, repeats)
        cuts = [_cut(tower, patches, grid, block, timed) for block in BLOCKS[size]]
        codecs = [
            _codec(size, (side, side), channels, spatial, device, timed)
            for spatial in (False, True)
            for channels in CHANNELS
        ]
        whole = timed(lambda: tower(patches, grid_thw=grid))
    return {
        "size": size,
        "pixels": pixels,
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "features_bytes": patches.shape[0] * TOWERS[size]["hidden_size"] * 2,
        "whole_ms": whole,
        "cuts": cuts,
        "codecs": codecs,
    }


def _tower(sizes: dict[str, Any], device: str, dtype: Any) -> Any:
    import torch
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
        Qwen2_5_VisionTransformerPretrainedModel as Tower,
    )

    torch.manual_seed(0)
    config = Qwen2_5_VLVisionConfig(**sizes, patch_size=PATCH)
    with torch.device(device):
        return Tower(config).to(dtype).eval()


def _cut(tower: Any, patches: Any, grid: Any, blocks: int, timed: "_Timer") -> dict[str, Any]:
    from train.offloading.tower import head, tail

    features = head(tower, patches, grid, blocks)
    found = tail(tower, features, grid, blocks)
    difference = (found - tower(patches, grid_thw=grid).pooler_output).abs().max()
    kept = [*tower.patch_embed.parameters(), *tower.blocks[:blocks].parameters()]
    return {
        "blocks": blocks,
        "head_ms": timed(lambda: head(tower, patches, grid, blocks)),
        "tail_ms": timed(lambda: tail(tower, features, grid, blocks)),
        "difference": float(difference),
        "edge_weights_mb": round(2 * sum(weight.numel() for weight in kept) / 1e6, 1),  # bf16
    }


def _codec(
    size: str, grid: tuple[int, int], channels: int, spatial: bool, device: str, timed: "_Timer"
) -> dict[str, Any]:
    import torch

    from train.offloading.codec import Codec, Shape, signs_of

    features = TOWERS[size]["hidden_size"]
    codec = Codec(Shape(features, channels, WIDTHS[size], spatial)).to(device).eval()
    seen = torch.randn(grid[0] * grid[1], features, device=device)
    signs = signs_of(codec.bits(seen).T.cpu().numpy(), channels, device)
    return {
        "channels": channels,
        "spatial": spatial,
        "bytes": size_of(grid, channels, spatial) - HEADER_BYTES,
        "encoder_ms": timed(lambda: codec.bits(seen)),
        "decoder_ms": timed(lambda: codec.decode(signs, grid)),
        "decoder_parameters": sum(
            weight.numel() for name, weight in codec.named_parameters() if "compress" not in name
        ),
    }


class _Timer:
    """Median milliseconds of some work, after one run that does not count."""

    def __init__(self, device: str, repeats: int) -> None:
        self._on_card = device == "cuda"
        self._repeats = repeats

    def __call__(self, work: Callable[[], Any]) -> float:
        self._once(work)
        seconds = [self._once(work) for _ in range(self._repeats)]
        return round(1000 * float(np.median(seconds)), 3)

    def _once(self, work: Callable[[], Any]) -> float:
        import torch

        if self._on_card:
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        if self._on_card:
            torch.cuda.synchronize()
        return time.perf_counter() - started


def lines(report: dict[str, Any]) -> list[str]:
    """The figures as Markdown."""
    side = report["pixels"]
    table = [
        f"{report['size']} tower, {side} x {side} pixels, {report['dtype']} on {report['device']}, "
        f"{report['threads']} threads; unsplit {report['whole_ms']:.1f} ms; features "
        f"{report['features_bytes']:,} bytes in bf16",
        "",
        "| blocks on the node | head ms | tail ms | largest difference | edge weights, bf16 MB |",
        "| --- | --- | --- | --- | --- |",
    ]
    for cut in report["cuts"]:
        cells = [cut["blocks"], cut["head_ms"], cut["tail_ms"], cut["difference"]]
        table.append(_row([*cells, cut["edge_weights_mb"]]))
    table += ["", "| channels | spatial | bytes | encoder ms | decoder ms |"]
    table.append("| --- | --- | --- | --- | --- |")
    for codec in report["codecs"]:
        spatial = "2 x 2" if codec["spatial"] else "none"
        cells = [codec["channels"], spatial, f"{codec['bytes']:,}"]
        table.append(_row([*cells, codec["encoder_ms"], codec["decoder_ms"]]))
    return table


def _row(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    raise SystemExit(main())
