"""Peak memory of a LoRA step: train.mllm.memory's estimate against a measurement.

    python -m benchmarks.lora_memory [--device cpu]
    python -m benchmarks.lora_memory --device cuda [--limit-gb 40] [--tokens 1024 4096]

The models are LLaMA-Factory's: Qwen2.5-VL with random weights, its adapter and its checkpointing,
under the Trainer's autocast. On a CPU a few small sizes; every allocation is counted by PyTorch's
profiler, and the resident weights, gradients and optimizer states are added. On a card the 7B's
sizes under a cap of memory: peak of PyTorch's allocator, seconds a step, tokens a second, for
batches of 1 to 4, with SDPA and, where it is installed, flash attention 2.
"""

import contextlib
import gc
import importlib.util
import logging
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from dat_runtime.command import command
from dat_runtime.errors import DatError, reports_errors
from train.mllm import memory, model_sizes, upstream
from train.mllm.run_settings import read_settings

MODEL_GRID = 36
"""Image tokens along a side of the card's runs: 1,296 tokens, 1,016,064 pixels."""

SMALL_GRID = 23
"""The same for samples with fewer tokens in all: 529 tokens, 644 x 644 pixels."""

ANSWER = 150
"""Learnt tokens of the card's samples: an answer with one accident has about as many."""

IMAGE, VIDEO, VISION_START, VISION_END = 5, 6, 7, 8
"""Token ids of the special words in the random inputs; words are from `FIRST_WORD` on."""

FIRST_WORD = 10


@dataclass(frozen=True)
class Case:
    """One measurement: sizes of the model, of the batch, and the keys that matter.

    Attributes:
        model: a config.json.
        size: samples of the batch.
        words: tokens of a sample besides those of its image.
        grid: image tokens of a row and of a column.
        answer: tokens of a sample that are learnt, at its end; 0 for all.
        bare: run like `llamafactory-cli train`, without `train.mllm.upstream`.
        flash: LLaMA-Factory's `flash_attn`.
    """

    name: str
    model: Mapping[str, Any]
    size: int
    words: int
    grid: tuple[int, int]
    checkpointing: bool = True
    bf16: bool = False
    dropout: float = 0.0
    answer: int = 0
    bare: bool = False
    flash: str = "sdpa"

    @property
    def keys(self) -> dict[str, Any]:
        """The configuration, in LLaMA-Factory's keys."""
        return {
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "lora",
            "lora_rank": 16,
            "lora_alpha": 32,
            "lora_dropout": self.dropout,
            "lora_target": "all",
            "freeze_vision_tower": True,
            "freeze_multi_modal_projector": True,
            "disable_gradient_checkpointing": not self.checkpointing,
            "bf16": self.bf16,
            "flash_attn": self.flash,
        }

    @property
    def batch(self) -> memory.Batch:
        image = self.grid[0] * self.grid[1]
        tokens = memory.padded(image + self.words)
        # Bare LLaMA-Factory computes the logits of all tokens.
        with_logits = tokens if self.bare else self.answer or tokens
        return memory.Batch(self.size, tokens, self.size * image, self.size * with_logits)

    def estimated(self, cuda: bool) -> memory.Estimate:
        """The estimate of what PyTorch allocates; the measurements do not see the CUDA context."""
        sizes = model_sizes.read_model(self.model)
        settings = read_settings({**self.keys, "use_cpu": not cuda})
        # Without checkpointing nothing asks for gradients at the tower's input.
        kept = self.bare and self.checkpointing
        estimate = memory.estimate(
            sizes, settings, self.batch, tower_kept=kept, inputs_copied=self.bare
        )
        return replace(estimate, resident={**estimate.resident, "CUDA context": 0})


def sizes(hidden: int, layers: int, inner: int, words: int, tower: int) -> dict[str, Any]:
    """A config.json like the 7B's, smaller."""
    vision = {"depth": 4, "hidden_size": tower, "num_heads": 4, "intermediate_size": 5 * tower // 2}
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "intermediate_size": inner,
        "vocab_size": words,
        "tie_word_embeddings": False,
        "vision_config": {**vision, "out_hidden_size": hidden, "spatial_merge_size": 2},
    }


def cpu_cases() -> Iterator[Case]:
    """Sizes at which the peak is in the loss, then in a layer, then in the kept activations."""
    wide = sizes(hidden=512, layers=4, inner=2048, words=16384, tower=320)
    deep = sizes(hidden=768, layers=8, inner=3072, words=1024, tower=320)
    first = Case("wide loss", wide, size=2, words=400, grid=(14, 14))
    yield first
    yield replace(first, name="wide loss, batch 4", size=4)
    yield replace(first, name="wide loss, answer alone", answer=100)
    yield replace(first, name="wide loss, bf16", bf16=True, dropout=0.05)
    second = Case("deep", deep, size=2, words=500, grid=(14, 14))
    yield second
    yield replace(second, name="deep, batch 1", size=1)
    yield replace(second, name="deep, bf16", bf16=True)
    yield replace(second, name="deep, bf16, dropout", bf16=True, dropout=0.05)
    yield replace(second, name="deep, no checkpoints", checkpointing=False)
    yield replace(
        second, name="deep, bf16, no checkpoints", checkpointing=False, bf16=True, dropout=0.05
    )
    yield replace(second, name="deep, bare llamafactory-cli", bare=True)
    yield replace(second, name="deep, bf16, bare", bare=True, bf16=True)


def cuda_cases(tokens: Sequence[int]) -> Iterator[Case]:
    """The 7B with the recipe of configs/lora/boxed.yaml."""
    kinds = ["sdpa"]
    if importlib.util.find_spec("flash_attn"):
        kinds.append("fa2")
    for flash in kinds:
        for total in tokens:
            # With fewer tokens the large image would leave too little room for words.
            side = MODEL_GRID if total > 1600 else SMALL_GRID
            for size in (1, 2, 3, 4):
                yield Case(
                    f"7B, {flash}, {total} tokens, batch {size}",
                    model_sizes.SEVEN_B,
                    size=size,
                    words=total - side * side,
                    grid=(side, side),
                    bf16=True,
                    dropout=0.05,
                    answer=ANSWER,
                    flash=flash,
                )
    yield Case(
        "7B, bare llamafactory-cli, batch 1", model_sizes.SEVEN_B, 1, 400, (MODEL_GRID,) * 2,
        bf16=True, dropout=0.05, bare=True,
    )  # fmt: skip


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.lora_memory", __doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--limit-gb", type=float, default=40.0, help="cap on the card (40)")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--only", help="cases whose name holds this")
    args = parser.parse_args(argv)
    import torch

    logging.disable(logging.WARNING)
    if args.device == "cuda":
        _cap(args.limit_gb)
        cases = list(cuda_cases(args.tokens))
    else:
        torch.set_num_threads(1)
        cases = list(cpu_cases())
    print(f"{'case':<34}{'estimate':>10}{'measured':>10}  measured / estimate")
    for case in cases:
        if not args.only or args.only in case.name:
            print(line(case, args.device), flush=True)
    print(f"largest resident set {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")
    return 0


def _cap(limit_gb: float) -> None:
    import torch

    if not torch.cuda.is_available():
        raise DatError("no CUDA card here: --device cpu measures small sizes")
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit_gb * 1e9 / total))
    print(f"{torch.cuda.get_device_name(0)}, capped at {limit_gb:g} GB; torch {torch.__version__}")


def line(case: Case, device: str) -> str:
    """One case's result, for the terminal."""
    import torch

    estimated = case.estimated(device == "cuda").peak
    begin = f"{case.name:<34}{estimated / 1e6:>7.0f} MB"
    try:
        with forward_as_in(case):
            measured = measure(case, device)
    except torch.cuda.OutOfMemoryError:
        return f"{begin}  out of memory under the cap"
    finally:
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
    tokens_per_second = case.batch.all_tokens / measured.seconds
    return (
        f"{begin}{measured.peak / 1e6:>7.0f} MB  {measured.peak / estimated:.3f}"
        f"  {measured.seconds:.2f} s a step, {tokens_per_second:.0f} tokens/s"
    )


@dataclass(frozen=True)
class Measured:
    """A training step: its peak in bytes and its seconds, on a CPU those of this process alone."""

    peak: int
    seconds: float


def measure(case: Case, device: str) -> Measured:
    """Peak bytes and seconds of the second step, while the first one's gradients are held."""
    import torch

    model, trained = build(case, device)
    optimizer = torch.optim.AdamW(trained, 1e-4)
    batch = inputs(case, device)
    step(model, batch)
    optimizer.step()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        step(model, batch)
        torch.cuda.synchronize()
        return Measured(torch.cuda.max_memory_allocated(), time.perf_counter() - started)
    # These exist when the step begins, so the profiler does not see their allocation.
    there = [*model.parameters(), *batch.values()]
    there += [parameter.grad for parameter in trained]
    for state in optimizer.state.values():
        there += state.values()
    resident = sum(tensor.numel() * tensor.element_size() for tensor in there)
    started = time.process_time()
    activations = allocated_peak(lambda: step(model, batch))
    seconds = time.process_time() - started
    return Measured(resident + activations, seconds)


def step(model: Any, batch: Mapping[str, Any]) -> None:
    """Forward and backward as the Trainer does them: outputs are freed before the backward pass."""
    outputs = model(**batch, use_cache=False)
    loss = outputs["loss"]
    del outputs
    loss.backward()


def allocated_peak(work: Any) -> int:
    """The most bytes on the CPU that a piece of work held at once, of those it allocated itself."""
    import torch

    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profile:
        work()
    events = profile.profiler.kineto_results.events()
    changes = [event for event in events if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def build(case: Case, device: str) -> tuple[Any, list[Any]]:
    """The model as LLaMA-Factory prepares it for training, and its trained weights."""
    import torch
    from accelerate import Accelerator
    from llamafactory.model.adapter import init_adapter
    from llamafactory.model.patcher import patch_model
    from transformers import AutoModelForImageTextToText

    model_args, finetuning_args = _hyperparameters(case, device)
    config = _config(case)
    config._attn_implementation = "flash_attention_2" if case.flash == "fa2" else "sdpa"
    dtype = torch.bfloat16 if case.bf16 else torch.float32
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = AutoModelForImageTextToText.from_config(config)
    finally:
        torch.set_default_dtype(torch.float32)
    patch_model(model, SimpleNamespace(), model_args, True, False)
    model = init_adapter(config, model, model_args, finetuning_args, True).train()
    accelerator = Accelerator(mixed_precision="bf16" if case.bf16 else "no", cpu=device == "cpu")
    model = accelerator.prepare_model(model)
    return model, [parameter for parameter in model.parameters() if parameter.requires_grad]


@contextlib.contextmanager
def forward_as_in(case: Case) -> Iterator[None]:
    """Tower, logits and LoRA's inputs as train.lora has them, or LLaMA-Factory alone."""
    before = [(owner, name, getattr(owner, name)) for owner, name in upstream.replaced()]
    if not case.bare:
        upstream.leave_out()
    try:
        yield
    finally:
        for owner, name, method in before:
            setattr(owner, name, method)


def _hyperparameters(case: Case, device: str) -> tuple[Any, Any]:
    from llamafactory.hparams import get_train_args

    nowhere = {
        "model_name_or_path": "none",
        "dataset": "none",
        "output_dir": "none",
        "template": "qwen2_vl",
        "report_to": "none",
        "use_cpu": device == "cpu",
    }
    model_args, _, _, finetuning_args, _ = get_train_args({**case.keys, **nowhere})
    return model_args, finetuning_args


def _config(case: Case) -> Any:
    """The case's sizes as Transformers' configuration; the rest is the 7B's, or its family's."""
    from transformers import AutoConfig, Qwen2_5_VLConfig

    tokens = {
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "vision_start_token_id": VISION_START,
        "vision_end_token_id": VISION_END,
    }
    if "model_type" in case.model:
        return AutoConfig.for_model(**case.model, **tokens)
    text = {key: value for key, value in case.model.items() if key != "vision_config"}
    head = text["hidden_size"] // text["num_attention_heads"]
    # The angles of a head, half its width, for time, rows and columns, in the 7B's shares.
    section = [head // 8, 3 * head // 16, 3 * head // 16]
    rope = {"rope_type": "default", "type": "default", "rope_theta": 1e6, "mrope_section": section}
    depth = case.model["vision_config"]["depth"]
    blocks = list(range(depth // 4 - 1, depth, depth // 4))
    return Qwen2_5_VLConfig(
        text_config={**text, "rope_parameters": rope, "use_sliding_window": False},
        vision_config={**case.model["vision_config"], "fullatt_block_indexes": blocks},
        tie_word_embeddings=text["tie_word_embeddings"],
        **tokens,
    )


def inputs(case: Case, device: str) -> dict[str, Any]:
    """A batch of one image and words a sample; a token of padding, as batches mostly have."""
    import torch

    batch, image = case.batch, case.grid[0] * case.grid[1]
    text, vision = model_sizes.read_model(case.model)
    ids = torch.randint(FIRST_WORD, text.vocabulary, (batch.size, batch.tokens))
    ids[:, 1] = VISION_START
    ids[:, 2 : 2 + image] = IMAGE
    ids[:, 2 + image] = VISION_END
    attended = torch.ones_like(ids)
    if batch.size > 1:
        attended[0, -1] = 0
    labels = ids.clone()
    if case.answer:
        labels[:, : -case.answer] = upstream.UNLEARNT
    # A token of the image stands for 2 x 2 patches.
    patches = 4 * batch.image_tokens
    tensors = {
        "input_ids": ids,
        "attention_mask": attended,
        "labels": labels,
        "mm_token_type_ids": (ids == IMAGE).int(),
        "image_grid_thw": torch.tensor([[1, 2 * case.grid[0], 2 * case.grid[1]]] * batch.size),
        "pixel_values": torch.randn(patches, vision.patch_values),
    }
    return {name: tensor.to(device) for name, tensor in tensors.items()}


if __name__ == "__main__":
    raise SystemExit(main())
