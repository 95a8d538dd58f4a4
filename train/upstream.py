"""`llamafactory-cli train` with a frozen vision tower kept out of the backward pass.

    python -P train/upstream.py train CONFIG.yaml [--wait]

Under gradient checkpointing PEFT asks for gradients at the inputs; Transformers 5 then asks for
them at the vision tower's too, and LLaMA-Factory 0.9.5 checkpoints no frozen layer. So all
activations of a tower that learns nothing are kept, and its backward pass is computed for nothing:
6.7 GB for each image of a million pixels at the 7B's sizes (docs/lora.md). Here the tower runs
without autograd as long as none of its weights is trained. Losses and gradients are the same.

With --wait it loads its libraries, then waits for a line on stdin before it reads anything else:
so the preflight costs no time, and stops the run before it began.
"""

import os
import sys
from typing import Any

WAIT = "--wait"


def leave_out_frozen_towers() -> None:
    """Let Qwen2.5-VL's vision tower run without autograd while all of its weights are frozen."""
    import torch
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
        Qwen2_5_VisionTransformerPretrainedModel as Tower,
    )

    whole = Tower.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        trained = any(weight.requires_grad for weight in self.parameters())
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            return whole(self, *args, **kwargs)

    Tower.forward = forward


def main() -> None:
    """LLaMA-Factory's own entry: with several cards it starts torchrun, which runs this file."""
    from llamafactory import launcher
    from llamafactory.train.tuner import run_exp

    leave_out_frozen_towers()
    if sys.argv[-1] == WAIT:
        sys.argv.pop()
        if not sys.stdin.readline():
            return  # the run was called off
    if sys.argv[1] == "train":
        os.environ["PYTHONSAFEPATH"] = "1"  # this folder's modules have common names
        launcher.__file__ = os.path.abspath(__file__)
        launcher.launch()
    else:  # one of torchrun's processes
        run_exp()


if __name__ == "__main__":
    main()
