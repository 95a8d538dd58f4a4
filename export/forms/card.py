"""The card of a form of the tuned model, as the Hugging Face Hub shows it."""

from typing import Any

from dat_runtime.adapter import Adapter
from dat_runtime.manifest import VERSIONS

APACHE = "Qwen2.5-VL-7B-Instruct"
"""The base whose licence is known here; those of its 3B and 72B versions differ."""

MERGED = "The base with the adapter in its weights, bfloat16. Serve it as the base itself."
FP8 = (
    "The merged model, the linear layers of its language model in FP8 (e4m3, a scale per output "
    "channel, activations scaled per token): the layout of compressed-tensors, which vLLM reads."
)

CARD = """\
---
{header}pipeline_tag: image-text-to-text
library_name: transformers
tags:
- traffic-accident-detection
---

# DAT, {form}

{what}

From one camera frame to the number of accidents, their boxes and severity, and an urgency score, as
one JSON object. Base `{base}`, revision `{revision}`; LoRA of rank {rank}. Prompt version {prompt},
schema version {schema}, drawing version {drawing}: it was tuned on these and on no other. The
image, the system message and the prompt are those of `dat_runtime.event.question`; the answer is
read by `dat_runtime.schema.check`.

## Held to its adapter
`eval.proof` compared it with the adapter on its base, on {samples} held-out samples.

| | adapter | this form |
| --- | --- | --- |
{rows}

{same} of {samples} answers are the same. Log-probabilities of the true answers' {tokens} tokens
differ by {mean:.1e} nats on average, {largest:.1e} at most; {choice:.1%} prefer the same token.

## Licences
It is used under the licence of its base model and those of the data that it was tuned on: they
apply, whatever this card states.

## Limits
An aid for dispatchers, not a decision maker. It knows what its training frames show; on other
cameras, countries and weather its error is unknown until measured.
"""


def form_card(form: str, what: str, adapter: Adapter, report: dict[str, Any]) -> str:
    """README.md of a form's folder.

    Args:
        report: the proof.json of `eval.proof --form`.
    """
    rows = []
    for name, values in report["answers"].items():
        rows.append(f"| {name} | {_number(values['adapter'])} | {_number(values['form'])} |")
    agreement = report["agreement"]
    return CARD.format(
        header=_header(adapter.base),
        form=form,
        what=what,
        base=adapter.base,
        revision=adapter.revision,
        rank=adapter.rank,
        samples=len(report["samples"]),
        rows="\n".join(rows),
        same=report["same_answers"],
        tokens=agreement["tokens"],
        mean=agreement["mean"],
        largest=agreement["largest"],
        choice=agreement["same_choice"],
        **VERSIONS,
    )


def _header(base: str) -> str:
    """Base and licence; a base that is no name on the hub would be a broken link there."""
    named = f"base_model: {base}\n" if "/" in base else ""
    return f"{named}license: {'apache-2.0' if base.rsplit('/', 1)[-1] == APACHE else 'other'}\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
