"""Real adapters of the tiny Qwen2.5-VL: trained by PEFT at three nodes, aggregated, merged."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dat_runtime import manifest
from dat_runtime.adapter import CONFIG
from dat_runtime.federation.factors import read_start
from dat_runtime.federation.increment import write_increment
from dat_runtime.federation.round import open_round
from dat_runtime.files import write_json
from dat_runtime.stage import Stage
from eval.answers.model import demand_base
from tests.dat_runtime.federation.fleet import Fleet
from train import aggregate

pytestmark = pytest.mark.timeout(300)

SAMPLES = [100, 200, 500]
WEIGHTS = [0.125, 0.25, 0.625]
TARGETS = ["q_proj", "v_proj", "o_proj"]


class Round(NamedTuple):
    """A base, an adapter, and three that were trained from it."""

    base: Path
    fleet: Fleet
    nodes: list[Path]

    def aggregate(self, mode: str) -> Path:
        fleet = self.fleet
        paths = {
            "--round": fleet.root / "round.json",
            "--start": fleet.start.folder,
            "--nodes": fleet.root / "nodes",
            "--increments": fleet.inbox,
            "--out": fleet.root / mode,
        }
        named = [str(part) for pair in paths.items() for part in pair]
        assert aggregate.main([*named, "--mode", mode]) == 0
        return fleet.root / mode


def load(base: Path) -> Any:
    import torch
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)


def train(model: Any, seed: int) -> None:
    """A few steps on tokens of the node's own."""
    import torch

    torch.manual_seed(seed)
    ids = torch.randint(0, 300, (2, 24))
    chosen = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(chosen, 3e-3)
    model.train()
    for _ in range(4):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()


def save(model: Any, folder: Path, revision: str) -> None:
    model.save_pretrained(folder, save_embedding_layers=False)  # else it asks the hub for "base"
    stated = json.loads((folder / CONFIG).read_text())
    stated |= {"base_model_name_or_path": "base", "revision": revision}
    (folder / CONFIG).write_text(json.dumps(stated))


@pytest.fixture(scope="module")
def made(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Round:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("round")
    revision = manifest.digest(tiny_base)
    with Stage(root / "start", kind="lora", inputs={}, config={}) as folder:
        lora = LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, task_type="CAUSAL_LM")
        model = get_peft_model(load(tiny_base), lora)
        train(model, 0)
        save(model, folder, revision)
        (folder / "README.md").write_text("# Adapter\n")
        (folder / "config.yaml").write_text("image_max_pixels: 12544\n")
    start = read_start(root / "start")
    keys = {f"node-{i}": Ed25519PrivateKey.generate() for i in range(3)}
    fleet = Fleet(root, start, open_round(1, start), keys)
    fleet.write_registry()
    write_json(root / "round.json", asdict(fleet.opened))
    fleet.inbox.mkdir()
    nodes = []
    for i, node in enumerate(keys):
        model = PeftModel.from_pretrained(load(tiny_base), root / "start", is_trainable=True)
        train(model, i + 1)
        save(model, root / node, revision)
        path = fleet.inbox / f"{node}.increment"
        write_increment(path, root / node, fleet.opened, start, node, SAMPLES[i], keys[node])
        nodes.append(root / node)
    return Round(tiny_base, fleet, nodes)


def merged(base: Path, adapter: Path) -> dict[str, Any]:
    from peft import PeftModel

    return PeftModel.from_pretrained(load(base), adapter).merge_and_unload().state_dict()


def test_merged_it_is_the_weighted_mean_of_the_merged_models(made: Round) -> None:
    result = merged(made.base, made.aggregate("stack"))
    models = [merged(made.base, node) for node in made.nodes]
    untouched = load(made.base).state_dict()
    changed = 0
    for name, tensor in result.items():
        wanted = sum(w * m[name] for w, m in zip(WEIGHTS, models, strict=True))
        assert (tensor - wanted).abs().max() < 1e-5
        changed += bool((tensor - untouched[name]).abs().max() > 1e-3)
    assert changed == len(made.fleet.start.weights.modules)


def test_pefts_own_concatenation_gives_the_same(made: Round) -> None:
    from peft import PeftModel

    model = PeftModel.from_pretrained(load(made.base), made.nodes[0], adapter_name="n0")
    model.load_adapter(made.nodes[1], "n1")
    model.load_adapter(made.nodes[2], "n2")
    model.add_weighted_adapter(["n0", "n1", "n2"], WEIGHTS, "mean", combination_type="cat")
    model.load_adapter(made.aggregate("stack"), "ours")
    compared = 0
    for module in model.modules():
        if "ours" in getattr(module, "lora_A", {}):
            difference = module.get_delta_weight("ours") - module.get_delta_weight("mean")
            assert difference.abs().max() < 1e-5
            compared += 1
    assert compared == len(made.fleet.start.weights.modules)


def test_at_the_starts_rank_it_loads_and_is_as_near_as_it_says(made: Round) -> None:
    exact = merged(made.base, made.aggregate("stack"))
    folder = made.aggregate("svd")
    assert demand_base(str(made.base), None, folder) is None  # as eval.proof and eval.predict ask
    near = merged(made.base, folder)
    start = merged(made.base, made.fleet.start.folder)
    lost = sum(float(((near[n] - exact[n]) ** 2).sum()) for n in exact) ** 0.5
    change = sum(float(((exact[n] - start[n]) ** 2).sum()) for n in exact) ** 0.5
    report = json.loads((folder / "federation.json").read_text())
    assert report["outcome"]["rank"] == 4
    assert report["outcome"]["lost_of_change"] == pytest.approx(lost / change, rel=0.01)
    assert lost < change
