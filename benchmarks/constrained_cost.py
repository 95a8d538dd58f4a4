"""What constrained decoding costs per token, against free decoding of the same frames.

    python -m benchmarks.constrained_cost --instructions OUT/instructions --model BASE \\
        [--adapter OUT/lora-boxed] [--inputs boxed] [--frames 16]

All decode the same batch in the same run, in turn, five times; the least counts. Printed:
    free, schema, rules   generation time / tokens, and the ratio to free decoding
    mask                  a constraint alone, per token, with the model's vocabulary and with one of
                          Qwen2.5's size (made up, since the time does not need the real words); the
                          first answer of a process, whose states of the rules are all new, and one
                          whose states were met before
"""

import json
import random
import string
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime.answer import dump, target
from dat_runtime.command import command
from dat_runtime.errors import DatError, reports_errors
from dat_runtime.types import Accident, Box
from eval.answers.asks import Ask, read_asks
from eval.answers.constrained import AnswerConstraint
from eval.answers.local import Constrained, generate
from eval.answers.model import Loaded, load
from eval.answers.ruled import RuleConstraint
from eval.answers.rules import room_for

ROUNDS = 5
QWEN_VOCABULARY = 151_665
"""Entries of Qwen2.5's tokenizer, its special tokens included."""
SPACE = "Ġ"
"""As a byte-level tokenizer writes a space in its vocabulary."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.constrained_cost", __doc__)
    parser.add_argument("--instructions", type=Path, required=True)
    parser.add_argument("--inputs", choices=("boxed", "raw"), default="boxed")
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--frames", type=int, default=16)
    args = parser.parse_args(argv)
    batch = read_asks(args.instructions, args.inputs)[: args.frames]
    loaded = load(args.model, None, args.adapter)
    limit = room_for(batch)
    took: dict[Constrained, list[float]] = {None: [], "schema": [], "rules": []}
    for kind in took:
        generate(loaded, batch[:1], limit, kind)  # compile the grammar, warm up
    for _ in range(ROUNDS):
        for kind, times in took.items():
            times.append(per_token(loaded, batch, limit, kind))
    free = min(took[None])
    print(f"{len(batch)} frames in one batch, {ROUNDS} rounds")
    for kind, times in took.items():
        name = kind or "free"
        print(f"{name:<8}{1000 * min(times):8.3f} ms per token   {min(times) / free:.2f} x")
    for name, model in (("model's", loaded), ("Qwen2.5's", of_qwen_size(loaded))):
        size = len(model.processor.tokenizer)
        for kind in ("schema", "rules"):
            first, *others = mask_times(model, kind, batch[0])
            print(
                f"mask, {kind:<6} {1000 * first:8.3f} ms per token at first, "
                f"{1000 * min(others):.3f} then   {name} vocabulary, {size}"
            )
    return 0


def per_token(loaded: Loaded, batch: Sequence[Ask], limit: int, kind: Constrained) -> float:
    """Seconds per generated token of one batch."""
    import torch

    # On a CPU its own time: other work on the machine does not count.
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    started = clock()
    answers = generate(loaded, batch, limit, kind)
    return (clock() - started) / sum(answer.completion_tokens or 0 for answer in answers)


def mask_times(loaded: Any, kind: str, ask: Ask) -> list[float]:
    """Seconds that a constraint takes per token, to follow one and to refuse others; by round."""
    import torch

    box = Accident(Box(8, 9, ask.frame.width, ask.frame.height, ask.frame), "severe")
    tokens = loaded.processor.tokenizer(dump(target([box])))["input_ids"]
    scores = torch.zeros(1, loaded.model.get_output_embeddings().weight.shape[0])
    times = []
    AnswerConstraint(loaded, 1), RuleConstraint(loaded, [ask], room_for([ask]))  # read once
    for _ in range(ROUNDS):
        constraint: Any = AnswerConstraint(loaded, 1)
        if kind == "rules":
            constraint = RuleConstraint(loaded, [ask], room_for([ask]))
        started = time.process_time()
        for token in [0, *tokens]:
            if torch.isinf(constraint(torch.tensor([[token]]), scores)).all():
                raise DatError("the constraint refuses every token")
        times.append((time.process_time() - started) / (len(tokens) + 1))
    return times


def of_qwen_size(loaded: Loaded) -> Any:
    """The model's tokenizer with made-up words up to Qwen2.5's size, and scores of that width."""
    from copy import deepcopy

    tokenizer = deepcopy(loaded.processor.tokenizer)
    rng = random.Random(0)
    letters = string.ascii_letters + string.digits + '",:{}[]. '
    known = tokenizer.get_vocab()
    words: set[str] = set()
    missing = QWEN_VOCABULARY - len(tokenizer)
    while len(words) < missing:
        word = "".join(rng.choices(letters, k=rng.randint(3, 9)))
        if word.replace(" ", SPACE) not in known:
            words.add(word)
    tokenizer = _with_words(tokenizer, sorted(words))
    head = Part(weight=Part(shape=(len(tokenizer), 0)))
    ends = loaded.model.generation_config
    model = Part(generation_config=ends, get_output_embeddings=lambda: head)
    return Loaded(model, Part(tokenizer=tokenizer))


class Part:
    """Stands in for the part of a model that the constraint looks at."""

    def __init__(self, **attributes: Any):
        vars(self).update(attributes)


def _with_words(tokenizer: Any, words: Sequence[str]) -> Any:
    """Words in the vocabulary proper: added tokens would be special ones."""
    from tokenizers import Tokenizer

    content = json.loads(tokenizer.backend_tokenizer.to_str())
    special = len(tokenizer)
    for i, word in enumerate(words):
        content["model"]["vocab"][word.replace(" ", SPACE)] = special + i
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))
    return tokenizer


if __name__ == "__main__":
    raise SystemExit(main())
