"""The model card of an adapter, in Hugging Face's form."""

from collections.abc import Mapping
from typing import Any

from dat_runtime.adapter import Adapter
from dat_runtime.manifest import VERSIONS
from train.mllm.run_settings import RunSettings

APACHE = "Qwen2.5-VL-7B-Instruct"
"""The base whose licence is known here; those of its 3B and 72B versions differ."""

CARD = """\
---
base_model: {base}
library_name: peft
license: {license}
pipeline_tag: image-text-to-text
tags:
- lora
- llama-factory
- traffic-accident-detection
---

# DAT adapter, {dataset}

From one camera frame to the number of accidents, their boxes and severity, and an urgency score, as
one JSON object. A LoRA adapter for `{base}`, revision
`{revision}`.

## Use
The image, the system message and the prompt are those of `dat_runtime.event.question`; the answer
is read by `dat_runtime.schema.check`. Prompt version {prompt}, schema version {schema}, drawing
version {drawing}: the adapter was tuned on these and on no other.

## Training
LLaMA-Factory: rank {rank}, alpha {alpha}, learning rate {rate},
{steps} steps, {parameters:,} parameters in {tensors} tensors. Data set `{dataset}` of
{samples} samples, none longer than {longest} tokens. Last training loss {loss}.

## Licences
The adapter is used under the licence of its base model and those of the data that it was tuned on:
they apply, whatever this card states.

## Limits
An aid for dispatchers, not a decision maker. It knows what its training frames show; on other
cameras, countries and weather its error is unknown until measured.
"""


def lora_card(settings: RunSettings, adapter: Adapter, report: Mapping[str, Any]) -> str:
    """README.md of an adapter folder.

    Args:
        report: of `tuning.run`, with the samples' `tokens`.
    """
    tokens = report["tokens"]
    name_of_base = adapter.base.rsplit("/", 1)[-1]
    return CARD.format(
        base=adapter.base,
        license="apache-2.0" if name_of_base == APACHE else "other",
        revision=adapter.revision,
        dataset=settings.dataset,
        rank=adapter.rank,
        alpha=settings.alpha,
        rate=settings.learning_rate,
        steps=report.get("steps"),
        loss=report.get("loss", "not logged"),
        parameters=adapter.parameters,
        tensors=adapter.tensors,
        samples=sum(tokens["bins"]),
        longest=tokens["longest"],
        **VERSIONS,
    )
