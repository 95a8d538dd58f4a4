"""What a round leaves; and real adapters of the tiny Qwen2.5-VL, aggregated and merged."""

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dat_runtime import manifest
from dat_runtime.adapter import CONFIG, read_adapter
from dat_runtime.errors import DataError
from dat_runtime.federation.aggregation import products_of
from dat_runtime.federation.factors import read_start
from dat_runtime.federation.inbox import read_inbox
from dat_runtime.federation.increment import write_increment
from dat_runtime.federation.keys import read_registry
from dat_runtime.federation.round import open_round
from dat_runtime.federation.screening import screen
from dat_runtime.files import read_json, write_json
from dat_runtime.stage import Stage
from eval.answers.model import demand_base
from tests.dat_runtime.federation.fleet import (
    Factors,
    Fleet,
    make_fleet,
    random_factors,
    trained,
    write_adapter,
)
from train import aggregate
from train.mllm import aggregation

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


def turned(start: Factors, factors: Factors) -> Factors:
    """Trained as far the other way."""
    return {m: (2 * start[m][0] - b, 2 * start[m][1] - a) for m, (b, a) in factors.items()}


def make_round(root: Path, nodes: int, hostile: int = 0) -> dict[str, Any]:
    """What `make_adapter` takes, of nodes the first of which train the other way."""
    fleet = make_fleet(root, nodes)
    rng = np.random.default_rng(1)
    for i, node in enumerate(fleet.keys):
        factors = trained(fleet.start_factors, rng)
        sent = turned(fleet.start_factors, factors) if i < hostile else factors
        fleet.send(node, sent, samples=100 * (i + 1))
    write_json(root / "round.json", asdict(fleet.opened))
    (root / "out").mkdir()
    return {
        "round_file": root / "round.json",
        "start_folder": fleet.start.folder,
        "nodes": fleet.write_registry(),
        "increments": fleet.inbox,
        "mode": "svd",
        "rate": 0.5,
        "name": "next",
    }


def test_a_rounds_report_card_and_lines_say_who_was_heard(tmp_path, capsys) -> None:
    given = make_round(tmp_path, 6, hostile=1)
    (tmp_path / "inbox" / "a\nb.increment").write_bytes(b"GIF89a")
    start = read_start(given["start_folder"])
    registry = read_registry(given["nodes"])
    written = read_json(given["round_file"])
    out = tmp_path / "out"
    aggregation.make_adapter(out, **given)

    opened = aggregation.read_round(given["round_file"])
    inbox = read_inbox(given["increments"], registry, opened, start)
    (junk,) = inbox.refusals
    samples = [one.samples for one in inbox.increments]
    assert samples == [100, 200, 300, 400, 500, 600]
    screening = screen(products_of(start, [one.weights for one in inbox.increments]), samples)
    why = [verdict.refused for verdict in screening.verdicts]
    assert [bool(one) for one in why] == [True, *[False] * 5]
    report = read_json(out / "federation.json")
    outcome = report.pop("outcome")
    assert set(outcome) == {"rank", "change", "lost_energy", "lost_of_change"}
    refused = [f"{junk.file}: {junk.reason}", f"node-00.increment: node-00: {why[0]}"]
    assert report == {
        "round": 3,
        "start": written["start"],
        "mode": "svd",
        "rate": 0.5,
        "registered": 6,
        "heard": 5,
        "refused": 2,
        "refusals": refused,
        "median_norm": pytest.approx(screening.median_norm),
        "centre": f"node-0{screening.centre}",
        "radius": pytest.approx(screening.radius),
        "bound": pytest.approx(2 * screening.median_norm),
        "clients": [
            {
                "node": one.node,
                "sha256": one.sha256,
                "samples": one.samples,
                "norm": pytest.approx(verdict.norm),
                "cosine": pytest.approx(verdict.cosine),
                "clip": pytest.approx(verdict.clip),
                "pull": pytest.approx(verdict.pull),
                "share": pytest.approx(verdict.share),
                "coefficient": pytest.approx(float(coefficient)),
            }
            for one, verdict, coefficient in zip(
                inbox.increments, screening.verdicts, screening.coefficients, strict=True
            )
            if not verdict.refused
        ],
    }
    assert (out / "README.md").read_text() == (
        "---\nbase_model: base\n---\n# Adapter\n\n## Federated round 3\n"
        "Aggregated from the increments of 5 of 6 registered nodes (svd, rate 0.5),\n"
        "2 refused; `federation.json` beside this file names them. It was not trained further and "
        "is\nno better than its scores: see those that it was promoted with.\n"
    )
    assert (out / "config.yaml").read_text() == "image_max_pixels: 12544\n"
    assert read_adapter(out).rank == 3
    assert capsys.readouterr().out.splitlines()[-3:] == [
        f"[next] refused a\\nb.increment: {junk.reason}",
        f"[next] refused {refused[1]}",
        f"[next] 5 nodes of 6 heard, 2 files refused; rank 3, changed by {outcome['change']:.3g} "
        f"(median increment {screening.median_norm:.3g}), {outcome['lost_of_change']:.1%} of the "
        "change lost",
    ]


def test_one_node_alone_has_none_to_be_compared_with(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(aggregation, "PROGRESS_SECONDS", -1)
    given = make_round(tmp_path, 1) | {"mode": "stack", "rate": 1.0}
    aggregation.make_adapter(tmp_path / "out", **given)
    (client,) = read_json(tmp_path / "out" / "federation.json")["clients"]
    assert client["cosine"] is None
    assert client["share"] == client["coefficient"] == 1.0
    assert capsys.readouterr().out.splitlines()[1:5] == [
        "[next] compared 1 of 2 modules",
        "[next] compared 2 of 2 modules",
        "[next] averaged 1 of 2 modules",
        "[next] averaged 2 of 2 modules",
    ]


def test_a_round_in_which_nobody_counts_says_so_and_who_came(tmp_path, capsys) -> None:
    given = make_round(tmp_path, 1)
    (tmp_path / "inbox" / "node-00.increment").write_bytes(b"GIF89a")
    (tmp_path / "inbox" / "note.txt").touch()
    with pytest.raises(DataError) as refused:
        aggregation.make_adapter(tmp_path / "out", **given)
    assert str(refused.value) == (
        f"{tmp_path / 'inbox'} holds no increment that counts for round 3: 2 refused, named above"
    )
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "[next] refused note.txt: its name does not end in .increment"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_start_without_its_recipe_or_an_increment_that_changes_is_refused(
    tmp_path, monkeypatch
) -> None:
    given = make_round(tmp_path, 2)
    seen: list[str] = []
    monkeypatch.setattr(aggregation, "demand_unchanged", lambda one: seen.append(one.node))
    (given["start_folder"] / "config.yaml").unlink()
    with pytest.raises(DataError, match=r"config\.yaml: is missing: train\.lora writes it"):
        aggregation.make_adapter(tmp_path / "out", **given)
    assert seen == ["node-00", "node-01"]


@pytest.mark.parametrize(("alpha", "rank", "stated"), [(6, 12, 24), (6, 3, 6), (5, 4, 20 / 3)])
def test_of_another_rank_alpha_keeps_the_scale(tmp_path, alpha, rank, stated) -> None:
    factors = random_factors(np.random.default_rng(0))
    folder = write_adapter(tmp_path / "start", factors, lora_alpha=alpha)
    config = read_json(folder / CONFIG)
    start = SimpleNamespace(folder=folder, adapter=read_adapter(folder))
    aggregation._write_config(tmp_path / CONFIG, start, rank)
    written = read_json(tmp_path / CONFIG)
    changed = {} if rank == 3 else {"lora_alpha": stated, "r": rank, "use_rslora": False}
    assert written == config | changed
    assert type(written["lora_alpha"]) is type(stated)
    assert list(written) == sorted(written)
