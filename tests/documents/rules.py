"""How each command of the documents is shrunk, and which ones are not run here, with the reason.

A key is a command, in which `*` stands for anything; the first key that fits a command counts.
A command without a key runs as it is written.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.documents import folders
from tests.documents.commands import ROOT
from tests.documents.folders import BASE, Ports

STORIES = (
    ("docs/gate.md", "docs/export.md", "README.md"),
    ("docs/evaluation.md",),
    ("docs/lora.md", "docs/your-data.md", "docs/paper.md"),
    ("docs/offload.md",),
    ("docs/federation.md", "docs/review.md"),
    ("docs/data.md", "docs/transmission.md"),
    ("docs/node.md", "docs/operator.md", "docs/uplink.md"),
    ("docs/updates.md",),
    ("docs/receiver.md", "docs/wire.md"),
)
"""Documents whose commands run one after the other in one working folder."""

Figures = list[tuple[str, ...]]

EVERYWHERE = (
    (r"^(OMP_NUM_THREADS=1|NODE_RANK=0) ", ""),
    (r"/opt/dat/bin/", ""),
    (r"runuser -u dat -- ", ""),
    (r"/var/lib/dat/", "var/"),
    (r"sqlite:///(/?)var/", "sqlite:///var/"),
    (r"/etc/dat/", "etc/"),
    (r"/srv/", "srv/"),
    (r"/media/stick", "stick"),
    (r"Qwen/Qwen2.5-VL-7B-Instruct|<base>|(?<= )BASE(?= |$)", BASE),
    (r" \[[^\]]+\]", ""),  # what may be left out
)
"""Places and names that a reader has elsewhere."""


@dataclass(frozen=True)
class Run:
    """What is put in the place of what, what goes behind it, and what has to come of it."""

    swaps: dict[str, str] = field(default_factory=dict)
    add: str = ""
    before: str = ""
    """Shell lines: what the document has the reader do by hand."""
    bring: Callable[[Path, Ports], None] | None = None
    """Files that the reader has."""
    beside: str = ""
    """A command that runs meanwhile."""
    until: str = ""
    """What a command says once it serves; then it is stopped. Of `beside`, where there is one."""
    status: tuple[int, ...] = (0,)
    shows: tuple[str, ...] = ()
    """Patterns that both the document and the output hold, with equal groups."""
    figures: Callable[[str, str], tuple[Figures, Figures]] | None = None
    """Of a document's text and of the output: figures that have to be the same."""
    seconds: float = 100


def old(*targets: str) -> str:
    """Make takes what these targets made as it is."""
    return "".join(f" -o {target}" for target in targets)


LISTENS = Run(add="--listen 127.0.0.1:0", until=r"listening on http://127.0.0.1:\d+")
SERVE = "python -m eval.serve serve.yaml --port {port}"
SERVES = "http://127.0.0.1:{port}/v1/models"
SMOKE = {"configs/lora/boxed.yaml": "configs/lora/smoke.yaml"}
SMALL = {"OUT/instructions": "small/instructions", "OUT/data": "small/data"}
OWN = {"OUT/base": BASE}
TINY_GATE = {"configs/yolo/gate_2cls.yaml": "configs/yolo/smoke.yaml"}
SHORT_GATE = " epochs=1 imgsz=32"
KEYS = "for key in {names}; do python -m export.publish key $key.pem; done"


NODE = (
    "dat-runtime receive --listen 127.0.0.1:{port} --store sqlite:///beside.sqlite & "
    "exec dat-runtime edge run "
)
CONNECTED = "uplink: connected"
BLOCKED = (
    "$(dat-runtime status node.yaml --json | grep -o 'blocked.*' | "
    "grep -o '[0-9a-f]\\{16\\}' | head -n 1)"
)


def keys(*names: str) -> str:
    return KEYS.format(names=" ".join(names))


def accident(folder: Path, ports: Ports) -> None:
    from tests.conftest import write_gate
    from tests.data.prep.accident_builder import write_clips

    write_clips(folder / "ACCIDENT", {}, frames=10)
    write_gate(folder / "sees")


def own_set(folder: Path, ports: Ports) -> None:
    """A YOLO set whose classes have names of their own, without negatives and trace."""
    mine = folder / "mine" / "crossing"
    yaml = next((folder / "small" / "source").rglob("data.yaml"))
    folders.copied(yaml.parent, mine)
    text = re.sub(r"(?m)^names:.*(\n[- ] .*)*", "names: [minor, crash]", (yaml).read_text())
    (mine / "data.yaml").write_text(text)


def reviews(folder: Path, ports: Ports) -> None:
    """What a receiver exports has this layout: a YOLO set, all of it for training."""
    yaml = next((folder / "small" / "source").rglob("data.yaml"))
    (folder / "reviewed").mkdir()
    shutil.copy(yaml, folder / "reviewed")
    folders.copied(yaml.parent / "train", folder / "reviewed" / "train")
    shutil.make_archive(str(folder / "reviews"), "zip", folder / "reviewed")


def my_link(folder: Path, ports: Ports) -> None:
    """The log whose one line docs/transmission.md shows."""
    guide = (ROOT / "docs" / "transmission.md").read_text("utf-8")
    (event,) = re.findall(r'(?m)^\{"id": .*\}$', guide)
    (folder / "MY").mkdir()
    (folder / "MY" / "events.jsonl").write_text(event + "\n")
    shutil.copy(folder / "small" / "data" / "bandwidth.csv", folder / "MY")


def serve_yaml(folder: Path, ports: Ports) -> None:
    text = (folder / "configs" / "endpoints" / "serve.yaml").read_text()
    text = text.replace("runs/smoke", "OUT")
    (folder / "serve.yaml").write_text(text)


def moved(document: str, output: str) -> tuple[Figures, Figures]:
    """How far 49 nodes of 100 move a round: seven collusions, each with three spreads."""
    written = re.findall(r"([\d.]+) → \*\*([\d.]+)\*\*, ([\d.]+)", document)
    printed = re.findall(r"\| \d+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", output)
    return written, [printed[7 * spread + row] for row in range(7) for spread in range(3)]


RULES: dict[str, Run] = {
    # README.md
    "make demo": Run(add="OUT=OUT"),
    "make demo-live": Run(add="OUT=OUT", until=r"open http://", status=(0, 2, 130, -2)),
    "dat-runtime receive --store sqlite:///events.sqlite": LISTENS,
    # docs/data.md
    "python -m data.prep.build --source SRC *": Run({"SRC": "small/source"}),
    "python -m data.prep.trace *": Run({"FILE_OR_FOLDER": "small/source/5g-traffic"}),
    "python -m benchmarks.leak_recall *": Run({"--frames 100 --every 2": "--frames 8 --every 4"}),
    "python -m benchmarks.looks_speed": Run(add="--looks 2000"),
    "python -m benchmarks.looks_pruning": Run(add="--looks 400"),
    "python -m benchmarks.reframed_speed *": Run(add="--frames 8 --sizes 100 200 400"),
    "python -m benchmarks.label_conflicts *": Run(SMALL, "--every 8"),
    "python -m benchmarks.prep_speed *": Run({"SRC": "small/source"}, "--rounds 1 --copies 1"),
    # docs/evaluation.md
    "python -m benchmarks.score_speed": Run(add="--answers 300"),
    "python -m eval.predict --instructions OUT/instructions --inputs boxed --model "
    "train/shipped_base --adapter OUT/lora-boxed *": Run(SMALL | {"--out OUT/": "--out small/"}),
    "python -m eval.merge *": Run(
        SMALL | {"OUT/predictions/ROW": "small/predictions/whole"},
        before="for part in 1 2; do python -m eval.predict --instructions small/instructions "
        f"--inputs boxed --model {BASE} --adapter OUT/lora-boxed "
        "--shard $part/2 --out parts/$part; done",
    ),
    "python -m eval.predict * --endpoint http://127.0.0.1:8000/v1 --base *": Run(
        SMALL
        | {
            ":8000": ":{port}",
            "--revision cc594898137f460bfe9f0759e9844b3ce807cfb5 ": "",
            "OUT/predictions/boxed-lora": "small/predictions/served",
        },
        bring=serve_yaml,
        beside=SERVE,
        until=SERVES,
    ),
    "python -m eval.score *": Run(
        {">=1.0": ">=0.0"},
        before="mkdir shipped; cp OUT/eval/boxed-lora/scores.json shipped/",
    ),
    "python -m data.prep.accident_clips *": Run(
        {"OUT/gate": "sees"}, "--max-pixels 28224", bring=accident
    ),
    # docs/export.md
    "make export-merged": Run(add='OUT=OUT FORM_SET="--samples 4"' + old("lora-boxed")),
    "make export-quantised": Run(add='OUT=OUT FORM_SET="--samples 4"' + old("export-merged")),
    "make export GATE=*": Run(add="OUT=OUT" + old("export-gate", "train-gate", "proof-boxed")),
    "python -m eval.proof * --answers OUT/predictions-val/boxed-lora *": Run(
        add="--accept-untrained"
    ),
    "python -m export.bundle --gate OUT/gate --adapter OUT/lora-promoted-3 *": Run(
        {"OUT/": "small/"}, "--accept-untrained"
    ),
    "python -m export.bundle *": Run(add="--accept-untrained"),
    "python -m benchmarks.bundle_open *": Run(add="--megabytes 1 --rounds 1"),
    "python -m export.merged *": Run(
        {"--require 'sev_f1>=0.9' --push-to-hub OWNER/NAME": "--samples 4"}
    ),
    "python -m export.quantised *": Run(add="--samples 4"),
    "python -m eval.predict * --endpoint * --out OUT/predictions-gguf": Run(
        SMALL | {":8000": ":{port}"},
        bring=serve_yaml,
        beside=SERVE,
        until=SERVES,
    ),
    "python -m eval.proof * --form OUT/predictions-gguf *": Run(
        SMALL | {"0.9": "0.0"}, "--samples 4"
    ),
    # docs/federation.md
    "make round *": Run({"OUT/": "small/"}, "OUT=small"),
    "python -m train.lora * adapter_name_or_path=BUNDLE/adapter": Run(
        SMOKE | {"OUT/": "small/", "BUNDLE": "OUT/bundle"},
        "max_steps=40 warmup_ratio=0 learning_rate=2e-4 per_device_train_batch_size=8",
    ),
    "python -m train.increment *": Run(
        {"OUT/": "small/"},
        before="cp small/round-3/round.json . && mkdir -p nodes inbox && "
        "openssl genpkey -algorithm ed25519 -out node-7-key.pem && chmod 600 node-7-key.pem && "
        "openssl pkey -in node-7-key.pem -pubout -out nodes/node-7.pem",
    ),
    "make aggregate ROUND=*": Run({"OUT/": "small/"}, "OUT=small", before="cp *.increment inbox/"),
    "python -m eval.promote *": Run({"OUT/": "small/"}),
    "python -m eval.predict * --out OUT/predictions-val/promoted-3": Run({"OUT/": "small/"}),
    "python -m eval.proof * --answers OUT/predictions-val/promoted-3 *": Run(
        {"OUT/": "small/"}, "--accept-untrained"
    ),
    "python -m export.publish add OUT/bundle-3 *": Run(
        {"OUT/": "small/"},
        before=keys("root-1", "root-2", "targets-1", "online")
        + " && python -m export.publish init --repository updates --root root-1.pub root-2.pub "
        "--targets targets-1.pub --online online.pub --key root-1.pem root-2.pem targets-1.pem",
    ),
    "python -m benchmarks.federation": Run(add="--nodes 3 --layers 1 --rank 1", figures=moved),
    # docs/gate.md
    "python -m train.gate --config configs/yolo/smoke.yaml *": Run(
        SMALL | {"OUT/gate-1cls": "small/gate-trained"}, SHORT_GATE
    ),
    "make eval-gate": Run(add="OUT=small" + old("train-gate", "train-gate-1cls")),
    "python -m eval.gating * --gate OUT/gate-1cls *": Run(
        SMALL | {"OUT/gate-1cls": "small/gate-1cls"}
    ),
    "python -m data.prep.scenes *": Run(
        {
            "--train 60 --val 1000 --test 1000": "--train 12 --val 16 --test 8",
            "--negatives 1400": "--negatives 90",
        }
    ),
    "python -m train.gate_export *": Run(SMALL),
    # docs/lora.md
    "python -m data.prep.instruct * --detections labels *": Run(SMALL | {"OUT/i": "small/i"}),
    "python -m benchmarks.instruct_speed *": Run(SMALL, "--rounds 1"),
    "python -m train.gate * --fold ?/3": Run(SMALL | TINY_GATE, SHORT_GATE),
    "python -m data.prep.instruct * --family qwen3_vl *": Run(SMALL),
    "make check": Run(add="OUT=OUT"),
    "python -m train.rehearse *": Run(
        SMALL | SMOKE | {"configs/yolo/gate_2cls.yaml": '"configs/yolo/smoke.yaml imgsz=32"'},
        "--steps 3 per_device_train_batch_size=2",
    ),
    "python -m train.lora --best-of *": Run(
        SMALL | SMOKE | {"64": "1", "OUT/lora-boxed": "OUT/lora-best"},
        "max_steps=1 warmup_ratio=0 save_steps=1 per_device_train_batch_size=2",
    ),
    "python -m benchmarks.lora_memory --only wide": Run(
        {"wide": '"wide loss, answer alone"'},
        shows=(r"wide loss, answer alone (\d+) MB (\d+) MB",),
    ),
    "python -m eval.proof * --out OUT/proof-boxed [--samples 16]": Run(
        {"--out OUT/proof-boxed": "--out OUT/proof-lora"}, "--accept-untrained"
    ),
    # docs/node.md
    "* verify /var/lib/dat/bundle": Run(
        bring=folders.field, shows=(r"complete, every file as its manifest states",)
    ),
    "* edge run try.yaml": Run(until=r"north: severe, says the gate \(north-"),
    "* edge status /etc/dat/node.yaml": Run(
        bring=folders.alive("etc/node.yaml"), beside=NODE + "etc/node.yaml", until=CONNECTED
    ),
    "* edge status node.yaml": Run(
        bring=folders.node_yaml, beside=NODE + "node.yaml", until=CONNECTED
    ),
    "dat-runtime install node.yaml": Run(
        bring=folders.release(1),
        beside="python -m http.server {port} --bind 127.0.0.1 --directory stick",
        until="Serving HTTP",
    ),
    "dat-runtime install node.yaml --from *": Run(bring=folders.release(2)),
    "dat-runtime status *": Run(
        bring=folders.alive("node.yaml"), beside=NODE + "node.yaml", until=CONNECTED
    ),
    "dat-runtime install node.yaml --unblock VERSION": Run({"VERSION": BLOCKED}, "--from stick"),
    "* edge run node.yaml": Run(bring=folders.node_yaml, until=r"camera north: live"),
    "python -m benchmarks.adapter_swap": Run(add="--swaps 2 --answers 20"),
    "python -m benchmarks.switch_kills *": Run({"400": "2"}),
    "python -m benchmarks.node_load *": Run(
        SMALL | {"OUT/bundle": "var/bundle", "25": "2"}, "--cameras 1"
    ),
    "python -m benchmarks.node_kills *": Run(SMALL | {"OUT/bundle": "var/bundle"}, "--kills 1"),
    # docs/offload.md
    "python -m train.offload *": Run(
        SMALL, "reconstruction_steps=1 merger_steps=1 answers_steps=1"
    ),
    "python -m eval.codes *": Run(SMALL, "--limit 2"),
    "make eval-offload": Run(
        before="cp -r OUT/codes OUT/codec small/", add="OUT=small" + old("data")
    ),
    "python -m eval.offload --trace OUT/*": Run(SMALL),
    "python -m eval.offload --trace TRACES/*": Run(
        {"TRACES/*.csv": "small/data/bandwidth.csv"}, "--out OUT/offload-traces"
    ),
    "python -m eval.serve * --codec OUT/codec *": Run(
        {"configs/endpoints/": "", "8000": "{port}"}, bring=serve_yaml, until=SERVES
    ),
    "dat-runtime receive * --finish *": LISTENS,
    "python -m benchmarks.offload_card *": Run({"cuda": "cpu --size small --repeats 1"}),
    "dat-runtime edge run weak-node.yaml": Run(bring=folders.weak_node, until=r"camera west: live"),
    # docs/operator.md
    "* receive --store sqlite:////var/lib/dat/receiver.db": LISTENS,
    # docs/receiver.md
    "dat-runtime receive --listen *": Run(
        {"0.0.0.0:8080": "127.0.0.1:0"},
        before="mkdir -p etc; umask 077; printf 'n1\\tabcdefghijklmnopqrstuvwxyz\\n' > etc/tokens",
        until="listening on",
    ),
    "python -m benchmarks.receiver_load": Run(add="--rate 50 --seconds 1 --stores sqlite"),
    # docs/review.md
    "dat-runtime receive * --tokens tokens": Run(
        add="--listen 127.0.0.1:0",
        before="umask 077; mkdir -p var; printf 'n1\\tabcdefghijklmnopqrstuvwxyz\\n' > tokens",
        until="listening on",
    ),
    "python -m data.prep.build --source reviews.zip *": Run(bring=reviews),
    "python -m benchmarks.page": Run(add="--events 20"),
    # docs/transmission.md
    "python -m eval.transmission --trace OUT/*": Run(SMALL, "--quick --seeds 1"),
    "python -m eval.real_link *": Run(SMALL, "--seconds 9"),
    "python -m eval.transmission * --events *": Run(bring=my_link),
    "python -m benchmarks.plan_speed": Run(add="--seconds 0.02"),
    "python -m benchmarks.live_queue": Run(add="--waiting 500"),
    # docs/updates.md
    "python -m export.publish init *": Run(
        before=keys("root-2", "root-3"),
        shows=(r"staged: root waits for (\d+) more of the keys [0-9a-f]{8}, [0-9a-f]{8}",),
    ),
    "python -m export.publish sign *": Run(shows=(r"root (\d+) is published",)),
    "python -m export.publish add OUT/bundle *": Run(
        shows=(r"crossing/1.0.0 is release (\d+): rank (\d+), alpha (\d+), (down_proj)",)
    ),
    "make publish REPOSITORY=*": Run({"1.0.0": "1.0.1"}, "OUT=OUT"),
    "python -m export.publish refresh *": Run(before="mkdir srv; cp -r updates srv/"),
    "python -m export.publish rotate online *": Run(before=keys("online-2")),
    "python -m export.publish rotate root --old *": Run(before=keys("root-4")),
    "python -m benchmarks.update_latency *": Run({"40": "2"}),
    # docs/uplink.md
    "python -m benchmarks.uplink_latency": Run(
        add="--rates 250 --round-trips 0 --losses 0 --seconds 3"
    ),
    # docs/wire.md
    "dat-runtime receive --store sqlite:///receiver.db": LISTENS,
    # docs/your-data.md
    "make data SOURCE=*": Run({"/data/mine": "mine"}, "OUT=runs/mine", bring=own_set),
}

MADE: dict[str, tuple[str, ...]] = {
    "make smoke": ("eval", "bundle", "proof-bundle"),
    "make smoke GATE_SET=*": ("gate", "lora-boxed"),
    "make pipeline": ("eval", "bundle"),
    "make data": ("data",),
    "make train-gate": ("gate",),
    "make instructions": ("instructions",),
    "make train-lora": ("lora-boxed", "lora-raw", "proof-boxed"),
    "make eval": ("predictions", "transmission", "eval"),
    "make export": ("bundle", "proof-bundle"),
    "make export ACCEPT_UNTRAINED=1": ("bundle",),
}
"""What the shortened smoke run ran itself, and the folders that show it."""

NAMED = "it is named only; a document has it in full elsewhere"
PAPER = "it needs the 7B and a card"
HOURS = "it takes hours"
FITTED = "a gate of one epoch has no scores to fit thresholds to; tests/eval/test_cascade.py fits"
NOT_RUN: dict[str, str] = {
    "*...*": "the document leaves options out",
    "dat-runtime verify": NAMED,
    "dat-runtime receive": NAMED,
    "dat-runtime install": NAMED,
    "dat-runtime rollback": NAMED,
    "dat-runtime plan": NAMED,
    "dat-runtime install | rollback | status": NAMED,
    "make RESTART=1": NAMED,
    "make aggregate": NAMED,
    "make publish": NAMED,
    "make rehearse": NAMED,
    "python -m benchmarks.rehearsal": NAMED,
    "python -m eval.links --seeds 5 --draws 40": NAMED,
    "python -m eval.real_link": NAMED,
    "python -m eval.real_link --round-trips": NAMED,
    "python -m eval.score": NAMED,
    "python -m export.publish": NAMED,
    "python -m http.server": "Python's own",
    "python -m pip wheel *": "it fetches what builds a wheel",
    "python3 -m venv /opt/dat": "Python's own; make edge-check installs the wheel",
    "make cascade*": FITTED,
    "make export CASCADE_SET=*": FITTED,
    "python -m eval.cascade *": FITTED,
    "make edge-check": "it installs from a package index; .ci/run runs it after the smoke run",
    "make test": "these are the tests",
    "make base*": HOURS + "; tests/train/test_base.py trains a small one",
    "make smoke BASE_FROM=scratch": "minutes; tests/train/test_base.py trains a base",
    "make smoke SOURCE=*": "the whole job; .ci/run runs it shortened where the sets are at hand",
    "make pipeline PROFILE=paper *": PAPER,
    "make check PROFILE=paper*": PAPER,
    "make train-lora PROFILE=paper *": PAPER,
    "make rehearse PROFILE=paper *": PAPER + "; the command that it runs is run with a tiny model",
    "make eval export PROFILE=paper *": PAPER,
    "make download *": "it needs the network and a Kaggle account",
    "python -m data.prep.download *": "it needs the network and an account",
    "python -m train.gate --config configs/yolo/gate_1cls.yaml *": "it needs yolo12s.pt and a card",
    "python -m train.gate --config * --data OUT/reviews *": "it needs yolo12s.pt and a card",
    "python -m benchmarks.gate_overhead --data OUT/data * --workers 8*": "it needs a card",
    "python -m train.lora --config configs/lora/qwen3_vl.yaml *": PAPER
    + "; tests/export/test_second_family.py tunes a tiny one",
    "NODE_RANK=? *": "it needs two machines",
    "python -m benchmarks.lora_memory --device cuda *": "it needs a card",
    "python -m benchmarks.lora_speed *": "it needs the 7B and a card",
    "*benchmarks.rehearsal --by-cpu *": "two timed trainings, which mean nothing when short",
    "OMP_NUM_THREADS=1 python -m benchmarks.lora_memory": "three minutes; one case of it is run",
    "python -m benchmarks.node_soak *": "half an hour, and less shows no slope",
    "dat-runtime receive --store postgresql:*": "it needs PostgreSQL; tests/dat_runtime/cloud "
    "speak to a private one",
    "make eval-transmission": "a minute; the command that it runs is run with --quick",
    "make eval-links LINKS=*": "minutes for each link",
    "make train-offload*": "a minute; both commands that it runs are run by hand",
    "* benchmarks.gate_overhead * device=cpu *": "two trainings side by side, half a minute",
    "python -m benchmarks.camera_speed *": "a quarter of a minute of full-HD videos",
    "make eval-gate export-gate": "both are run: one by itself, one by hand",
    "python -m eval.serve configs/endpoints/serve.yaml": "it is run beside the rows that ask it",
    "python -m benchmarks.constrained_cost *": "five rounds of three ways, a quarter of a minute",
    "*benchmarks.lora_overhead *": "trainings in turn, half a minute when shortest",
    "python -m benchmarks.gate_speed *": "a network in four forms, half a minute when shortest",
    "python -m benchmarks.offload_gate *": "it measures for a quarter of a minute, and demands "
    "an idle machine",
    "python -m benchmarks.offload_field *": "it waits for a slow link for a minute; "
    "tests/eval/test_weak_node.py goes the way",
    "python -m train.gate * --fold 2/3": "a training of a gate more; fold 1/3 is run",
    "python -m train.gate * --fold 3/3": "a training of a gate more; fold 1/3 is run",
    "python -m data.prep.instruct * --detections out-of-fold *": "it needs gates of all folds; "
    "tests/data/prep/instructions/test_guides.py joins some",
}
"""Command -> why it does not run here."""


def fits(key: str, command: str) -> bool:
    pattern = re.escape(key).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(pattern, command) is not None


def rule_of(command: str) -> Run:
    return next((rule for key, rule in RULES.items() if fits(key, command)), Run())


def placed(text: str, ports: Ports) -> str:
    return text.replace("{port}", str(ports[0])).replace("{other}", str(ports[1]))


def shrunk(command: str, rule: Run, ports: Ports = (0, 0)) -> str:
    for pattern, here in EVERYWHERE:
        command = re.sub(pattern, here, command)
    for there, here in rule.swaps.items():
        command = command.replace(there, here)
    return placed(f"{command} {rule.add}".strip(), ports)


def held(rule: Run, document: str, output: str) -> None:
    """What a document shows of the command, its figures too, the command printed."""
    printed = " ".join(output.split())
    for pattern in rule.shows:
        written, said = re.search(pattern, document), re.search(pattern, printed)
        assert written, f"no document says {pattern}"
        assert said, f"{pattern} is not in\n{output}"
        assert said.groups() == written.groups(), pattern
    if rule.figures:
        written_figures, figures = rule.figures(document, output)
        assert figures
        assert figures == written_figures
