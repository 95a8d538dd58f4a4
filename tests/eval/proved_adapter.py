"""A tiny model of the 7B's classes and an adapter trained here in seconds, for proofs of it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from dat_runtime import answer, manifest
from dat_runtime.adapter import CONFIG
from dat_runtime.event import question
from dat_runtime.stage import Stage
from dat_runtime.types import Accident, Box, Size
from eval.answers.likelihood import read_questions
from eval.answers.model import Loaded, encode, load

SIDE, SAMPLES = 112, 6
SEVERITIES = ("none", "moderate", "severe")


def write_sample(folder: Path, number: int) -> dict[str, Any]:
    frame = Size(SIDE, SIDE)
    image = np.full((SIDE, SIDE, 3), 40 * number, np.uint8)
    asked = question(image, None, SIDE * SIDE)
    name = SEVERITIES[number % 3]
    box = Box(8 + 4 * number, 20, 60, 70, frame)
    wanted = answer.target([] if name == "none" else [Accident(box, name)])
    (folder / f"v{number}.png").write_bytes(asked.png)
    return {
        "image_id": f"v{number}",
        "system": asked.system,
        "messages": [
            {"role": "user", "content": f"<image>{asked.prompt}"},
            {"role": "assistant", "content": answer.dump(wanted)},
        ],
        "images": [f"v{number}.png"],
        "frame": [SIDE, SIDE],
        "original": [640, 640],
    }


def build(folder: Path) -> Path:
    """Instructions, an untrained base, and an adapter of a few steps in `lora`."""
    with Stage(folder / "instructions", kind="instructions", inputs={}, config={}) as made:
        samples = [write_sample(made, i) for i in range(SAMPLES)]
        (made / "raw_val.json").write_text(json.dumps(samples))
    build_base(folder / "base", samples)
    train_adapter(folder)
    return folder


def build_base(out: Path, samples: list[dict[str, Any]]) -> None:
    from train.mllm import tiny_model

    words = [m["content"] for s in samples for m in s["messages"]] + [samples[0]["system"]]
    with Stage(out, kind="base", inputs={}, config={}) as made:
        tiny_model.build(made, words * 5, 384, SIDE * SIDE, seed=0)


def train_adapter(root: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.set_num_threads(1)
    torch.manual_seed(0)
    loaded = load(str(root / "base"), None, None)
    targets = [
        name
        for name, _ in loaded.model.named_modules()
        if re.fullmatch(r".*language_model.*\.(q|v|o|gate|up|down)_proj", name)
    ]
    lora = LoraConfig(r=8, lora_alpha=32, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(loaded.model, lora)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), 1e-2)
    batch = training_batch(loaded, root)
    model.train()
    for _ in range(25):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    with Stage(root / "lora", kind="lora", inputs={"base": root / "base"}, config={}) as made:
        model.save_pretrained(made)
        (made / "README.md").write_text("# Adapter\n")
        state_base(made, manifest.digest(root / "base"))


def training_batch(loaded: Loaded, root: Path) -> dict[str, Any]:
    """All samples, prompts and answers, the prompt without loss."""
    import torch

    questions = read_questions(root / "instructions", "raw", "val")
    encoded = dict(encode(loaded.processor, [q.ask for q in questions]))
    texts = [f"{q.answer}<|im_end|>" for q in questions]
    new = loaded.processor.tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
    prompt, ids = encoded["input_ids"], new["input_ids"]
    hidden = ids.masked_fill(new["attention_mask"] == 0, -100)
    encoded["labels"] = torch.cat([torch.full_like(prompt, -100), hidden], 1)
    encoded["input_ids"] = torch.cat([prompt, ids], 1)
    encoded["attention_mask"] = torch.cat([encoded["attention_mask"], new["attention_mask"]], 1)
    kinds = encoded["mm_token_type_ids"]
    encoded["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(ids)], 1)
    return encoded


def state_base(folder: Path, revision: str) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config |= {"base_model_name_or_path": "base", "revision": revision}
    (folder / CONFIG).write_text(json.dumps(config))
