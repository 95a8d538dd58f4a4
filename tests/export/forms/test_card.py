"""What the card of a form says."""

from typing import Any

import pytest

from dat_runtime.adapter import Adapter
from dat_runtime.manifest import VERSIONS
from export.forms.card import FP8, form_card

REPORT: dict[str, Any] = {
    "samples": ["a", "b", "c"],
    "same_answers": 2,
    "answers": {
        "sev_f1": {"adapter": 0.91234, "form": 0.9},
        "bbox_miou": {"adapter": None, "form": 0.5},
    },
    "agreement": {"tokens": 77, "mean": 0.00123, "largest": 0.0456, "same_choice": 0.9876},
}

BODY = f"""\
pipeline_tag: image-text-to-text
library_name: transformers
tags:
- traffic-accident-detection
---

# DAT, fp8

{FP8}

From one camera frame to the number of accidents, their boxes and severity, and an urgency score, as
one JSON object. Base `BASE`, revision `main`; LoRA of rank 8. Prompt version {VERSIONS["prompt"]},
schema version {VERSIONS["schema"]}, drawing version {VERSIONS["drawing"]}: it was tuned on these \
and on no other. The
image, the system message and the prompt are those of `dat_runtime.event.question`; the answer is
read by `dat_runtime.schema.check`.

## Held to its adapter
`eval.proof` compared it with the adapter on its base, on 3 held-out samples.

| | adapter | this form |
| --- | --- | --- |
| sev_f1 | 0.912 | 0.900 |
| bbox_miou | - | 0.500 |

2 of 3 answers are the same. Log-probabilities of the true answers' 77 tokens
differ by 1.2e-03 nats on average, 4.6e-02 at most; 98.8% prefer the same token.

## Licences"""


@pytest.mark.parametrize(
    ("base", "header"),
    [
        ("mine", "license: other\n"),
        ("me/mine", "base_model: me/mine\nlicense: other\n"),
        (
            "Qwen/Qwen2.5-VL-7B-Instruct",
            "base_model: Qwen/Qwen2.5-VL-7B-Instruct\nlicense: apache-2.0\n",
        ),
        ("Qwen2.5-VL-7B-Instruct", "license: apache-2.0\n"),
        (
            "a/b/Qwen2.5-VL-7B-Instruct",
            "base_model: a/b/Qwen2.5-VL-7B-Instruct\nlicense: apache-2.0\n",
        ),
        (
            "Qwen/Qwen2.5-VL-3B-Instruct",
            "base_model: Qwen/Qwen2.5-VL-3B-Instruct\nlicense: other\n",
        ),
    ],
)
def test_a_card_states_base_licence_and_proof(base: str, header: str) -> None:
    adapter = Adapter(base, "main", 8, 2.0, 4, 100, ("F32",))
    card = form_card("fp8", FP8, adapter, REPORT)
    assert card.startswith(f"---\n{header}{BODY.replace('BASE', base)}\n")
