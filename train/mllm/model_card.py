"""The model cards of an adapter and of the project's own base, in Hugging Face's form."""

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
The image, the system message and the prompt are those of `dat_runtime.event.question` for {family};
the answer, its boxes {coordinates}, is read by `dat_runtime.schema.check`. Prompt version {prompt},
schema version {schema}, drawing version {drawing}: the adapter was tuned on these and on no other.

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

BASE_CARD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
tags:
- rendered-scenes
- rehearsal
---

# A tiny base of Qwen2.5-VL's classes

{weights:,} weights in bfloat16, trained from nothing. It stands in for Qwen2.5-VL-7B-Instruct
where there is no GPU: same architecture, special tokens, chat template and image processing, so
that tuning, evaluation and shipping run the code that they run on the 7B. It shares no weight with
any other model.

## What it can do
On rendered road scenes of {side} x {side} pixels: list vehicles, collisions and drawn boxes
roughly, say what a listed box shows, copy what the prompt lists, and answer in the JSON schema that
stands in the prompt. It has seen no photograph and knows a few hundred words.

## Training
`make base`, on {scenes:,} rendered scenes (`data.prep.primer`), four trainings, the first two of
them side by side:

1. The vision tower alone, {tower_steps} steps. Of {held_out} views held out it then says of
   {frames:.0%} rightly whether they show a collision; it names the severity of {severity:.0%} of a
   collision's units, and its box at a mean IoU of {iou:.2f}.
2. The language model on words alone, {words_steps} steps, to a loss of {words_loss}.
3. Both together on the places of things in pictures, {grounding_steps} steps, to a loss of
   {grounding_loss}.
4. The same on places, all other questions about pictures and words, {questions_steps} steps, to a
   loss of {questions_loss}.

The two severities were shown under other words than DAT's, invented ones or any two known ones, one
in ten under the wrong one. DAT's own words were tags to copy from a list, and sizes of vehicles. No
listed box ever helped to find an accident: DAT's task is left to the tuning.
{earlier}
## Limits
For rehearsals and tests. Figures measured with it are those of a tiny model on rendered scenes.
"""


def base_card(weights: int, side: int, scenes: int, reports: Mapping[str, Any]) -> str:
    """README.md of the base's folder.

    Args:
        weights: their number. side: of the pictures, pixels.
        scenes: of the primer.
        reports: of the four trainings, by name (`base_training.make_base`).
    """
    of_language = {
        f"{name}_{part}": reports[name].get(part, "not logged")
        for name in ("words", "grounding", "questions")
        for part in ("steps", "loss")
    }
    return BASE_CARD.format(
        weights=weights,
        side=side,
        scenes=scenes,
        tower_steps=reports["tower"]["steps"],
        **of_language,
        earlier=_earlier(reports.get("earlier")),
        **{name: reports["tower"][name] for name in ("held_out", "frames", "severity", "iou")},
    )


def _earlier(reports: Mapping[str, Any] | None) -> str:
    """Of a base that went on from another: what that one had learnt by, and those before it."""
    told = ""
    while reports:
        trainings = [f"{name} {reports[name]['steps']}" for name in reports if name != "earlier"]
        told += (
            f"\nIt went on from an earlier copy. Steps of its trainings: {', '.join(trainings)}.\n"
        )
        reports = reports.get("earlier")
    return told


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
        family=settings.family.title,
        coordinates=settings.family.coordinates,
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
