"""Answers about code units of weak nodes: bits -> features -> the tower's tail -> language model.

    POST /v1/codes/completions
    {"unit": BASE64, "system": "...", "prompt": "...", "max_tokens": 1024}

The response has the form of a chat completion, and `versions`: codec, base and adapter. A unit of
another codec is refused by name (422): its bits mean something else here.
"""

import asyncio
import base64
import binascii
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dat_runtime import fields, manifest
from dat_runtime.base_identity import difference
from dat_runtime.errors import ModelError, OffloadError
from dat_runtime.offload import MAX_BYTES, CodeUnit, unpack
from dat_runtime.prompt import PROMPT_VERSION
from eval.answers.asks import Answer
from eval.answers.model import ends_of

MOST_TOKENS = 4096
MOST_WORDS = 20_000
"""Characters of a message."""

_REQUEST = {
    "unit": fields.Rule(
        lambda v: isinstance(v, str) and len(v) <= 4 * MAX_BYTES // 3 + 4,
        f"a code unit of at most {MAX_BYTES:,} bytes in base64",
    ),
    "system": fields.Rule(lambda v: isinstance(v, str) and len(v) <= MOST_WORDS, "a text"),
    "prompt": fields.Rule(lambda v: isinstance(v, str) and len(v) <= MOST_WORDS, "a text"),
    "max_tokens": fields.whole(1, MOST_TOKENS),
}


class CodeAnswers:
    """A model that answers about codes as it does about pictures.

    The model's vision tower is taught to take features where it is given them, and still takes
    pictures: the same model may answer about both at once.

    Args:
        codec: folder of `train.offload`.
        base, adapter: folder or hub name, and folder, of the model.

    Raises:
        ManifestError, ModelError: the codec is broken, or was trained for another model or prompt.
    """

    def __init__(
        self, model: Any, processor: Any, codec: Path, base: str, adapter: Path | None
    ) -> None:
        from train.offloading.folder import read_codec
        from train.offloading.tower import tower_of

        self._description, decoder = read_codec(codec)
        demand_same(self._description.fields, codec, base, adapter)
        self._tower = tower_of(model)
        take_features(self._tower, self._description.block)
        self._decoder = decoder.to(next(self._tower.parameters()).device)
        self._model, self._processor = model, processor

    @property
    def versions(self) -> dict[str, str]:
        """As alerts state them."""
        stated = self._description.fields
        named = {"codec": stated["id"], "base": f"{stated['base']}@{stated['revision']}"}
        return named | ({"adapter": stated["adapter"]} if stated["adapter"] else {})

    def answer(self, unit: bytes, system: str, prompt: str, max_tokens: int) -> Answer:
        """The greedy answer about the picture that a unit is of.

        Raises:
            OffloadError: the unit is broken, of another codec, or has more channels than that.
        """
        import torch

        came = unpack(unit, self._description.id)
        self._demand_fitting(came)
        started = time.monotonic()
        with torch.inference_mode():
            inputs = self._inputs(came, system, prompt)
            # Whatever the base's own file says: Qwen2.5-VL-7B's holds a repetition_penalty.
            tokens = self._model.generate(
                **inputs, max_new_tokens=max_tokens, do_sample=False, repetition_penalty=1.0
            )
        length = inputs["input_ids"].shape[1]
        new = tokens[0, length:].tolist()
        ends = set(ends_of(self._model))
        text = self._processor.tokenizer.decode(new, skip_special_tokens=True)
        cut = len(new) == max_tokens and not ends & set(new)
        return Answer(text, time.monotonic() - started, length, len(new), cut=cut)

    def _demand_fitting(self, unit: CodeUnit) -> None:
        widest, spatial = self._description.channels[-1], self._description.spatial
        if unit.grid not in self._description.grids:
            # Before anything is made of it: a megabyte may state a picture of 200 million pixels.
            raise OffloadError(
                f"a code unit of {unit.grid[0]} x {unit.grid[1]} patches: its codec is for "
                + ", ".join(f"{rows} x {columns}" for rows, columns in self._description.grids)
            )
        if unit.channels > widest or unit.spatial != spatial:
            raise OffloadError(
                f"a code unit of {unit.channels} channels with spatial encoding {unit.spatial}: "
                f"its codec has {widest} and {spatial}"
            )

    def _inputs(self, unit: CodeUnit, system: str, prompt: str) -> dict[str, Any]:
        """The model's inputs, with the decoded features in the place of the patches."""
        from PIL import Image

        from train.offloading.codec import signs_of

        rows, columns = unit.grid
        patch = self._tower.patch_size
        # Of a blank picture the processor makes all that follows from the size alone.
        blank = Image.new("RGB", (columns * patch, rows * patch))
        conversation = [
            {"role": "system", "content": [{"type": "text", "text": system}]},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]},
        ]
        text = self._processor.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True
        )
        encoded = self._processor(images=[blank], text=[text], return_tensors="pt")
        if encoded["image_grid_thw"].tolist() != [[1, rows, columns]]:
            raise OffloadError(
                f"a picture of {rows} x {columns} patches, which this model's processor resizes: "
                "raise its limits of pixels"
            )
        device = self._model.device
        signs = signs_of(unit.bits, self._description.channels[-1], device)
        features = self._decoder.decode(signs, unit.grid).to(self._tower.dtype)
        return {**{name: t.to(device) for name, t in encoded.items()}, "pixel_values": features}


def take_features(tower: Any, block: int) -> None:
    """Let a vision tower take features after `block` blocks, (N, D), in the place of patches.

    Raises:
        ModelError: features would look like patches.
    """
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    from train.offloading.tower import tail

    whole, width = tower.forward, tower.config.hidden_size
    if width == tower.patch_embed.proj.weight[0].numel():
        raise ModelError(f"features and patches are both {width} wide: they cannot be told apart")

    def forward(hidden_states: Any, grid_thw: Any, **options: Any) -> Any:
        if hidden_states.shape[-1] != width:
            return whole(hidden_states, grid_thw, **options)
        merged = tail(tower, hidden_states, grid_thw, block)
        return BaseModelOutputWithPooling(pooler_output=merged)

    tower.forward = forward


def demand_same(stated: Mapping[str, Any], codec: Path, base: str, adapter: Path | None) -> None:
    """Refuse a codec that was trained for another model: its features are that one's.

    Raises:
        ModelError: names what differs.
    """
    here = {
        "adapter": manifest.digest(adapter) if adapter else None,
        "prompt": PROMPT_VERSION,
    }
    for name, value in here.items():
        if stated[name] != value:
            raise ModelError(
                f"was trained for {name} {stated[name]}, here is {value}: name the model that it "
                "was trained for, or train a codec for this one",
                codec,
            )
    if Path(base).is_dir() and (why := difference(Path(base), stated["base"], stated["revision"])):
        raise ModelError(
            f"was trained for {stated['base']} at revision {stated['revision']}, {base} is another "
            f"base: {why}",
            codec,
        )


def add_codes(application: Any, engine: Any, answers: CodeAnswers) -> None:
    """Add the endpoint to LLaMA-Factory's application.

    Args:
        engine: of LLaMA-Factory; its semaphore bounds what the model does at once.
    """
    from fastapi import HTTPException, Request

    key = os.environ.get("API_KEY", "")

    @application.post("/v1/codes/completions")  # type: ignore[untyped-decorator]
    async def complete(request: Request) -> dict[str, Any]:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if key and not secrets.compare_digest(given.encode(), key.encode()):
            raise HTTPException(401, "the key is not this server's")
        try:
            asked = fields.checked(await request.json(), _REQUEST, "", further_keys=True)
            unit = base64.b64decode(asked["unit"], validate=True)
        except (ValueError, binascii.Error, RecursionError) as error:
            raise HTTPException(400, f"no question about a code: {error}") from None
        words = asked["system"], asked["prompt"], asked["max_tokens"]
        async with engine.semaphore:
            try:
                answer = await asyncio.to_thread(answers.answer, unit, *words)
            except OffloadError as error:
                raise HTTPException(422, str(error)) from None
        return completion(answer, answers.versions)


def completion(answer: Answer, versions: Mapping[str, str]) -> dict[str, Any]:
    """The answer in the form of a chat completion."""
    message = {"role": "assistant", "content": answer.text}
    finish = "length" if answer.cut else "stop"
    return {
        "object": "chat.completion",
        "created": int(time.time()),
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
        },
        "versions": dict(versions),
    }
