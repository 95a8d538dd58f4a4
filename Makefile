# DAT on the bench. `make help` lists the targets; README.md says what they print.
PROFILE ?= smoke
SOURCE ?=
OUT ?= runs/$(PROFILE)$(if $(SOURCE),$(if $(filter smoke,$(PROFILE)),-$(notdir $(abspath $(SOURCE)))))
PYTHON ?= python3
BASE_FROM ?= shipped
ROWS := boxed-lora boxed-lora-constrained boxed-lora-ruled raw-lora boxed-none raw-none

ifneq ($(words $(SOURCE)$(OUT)),1)
  $(error SOURCE and OUT may not contain spaces: '$(SOURCE)', '$(OUT)')
endif
AS_GIVEN := $(if $(filter-out smoke,$(PROFILE)), PROFILE=$(PROFILE))$(if $(SOURCE), SOURCE=$(SOURCE))$(if $(filter command,$(origin OUT)), OUT=$(OUT))

# Raw images are made where a raw row is asked for: ROWS="boxed-lora boxed-none" leaves them out.
RAW_ROWS := $(filter raw-%,$(ROWS))
PY := .venv/bin/python
export PYTHONUNBUFFERED := 1
MAKEFLAGS += --no-print-directory

ifeq ($(PROFILE),smoke)
  # Tiny models that the project makes itself: nothing is to be downloaded, one thread a stage but the gate's.
  export HF_HUB_OFFLINE := 1
  export TRANSFORMERS_OFFLINE := 1
  export HF_DATASETS_OFFLINE := 1
  export OMP_NUM_THREADS := 1
  GATE_CONFIG := configs/yolo/smoke.yaml
  GATE_1CLS_CONFIG := configs/yolo/smoke.yaml
  GATE_1CLS_SET := single_cls=true
  LORA_CONFIG_boxed := configs/lora/smoke.yaml
  LORA_CONFIG_raw := configs/lora/smoke.yaml
  MAX_PIXELS := 28224
  ifeq ($(BASE_FROM),scratch)
    BASE := $(OUT)/base
    BASE_STAGE := base
    # Cut short: that a base can be made, not what it can do.
    PRIMER_SET ?= --scenes 1200 --words 2000
    BASE_SET ?= --tower 60 --words 100 max_steps=150
  else ifeq ($(BASE_FROM),shipped)
    BASE := train/shipped_base
  else
    $(error BASE_FROM is shipped or scratch, not '$(BASE_FROM)')
  endif
  JOBS := 2
else ifeq ($(PROFILE),paper)
  GATE_CONFIG := configs/yolo/gate_2cls.yaml
  GATE_1CLS_CONFIG := configs/yolo/gate_1cls.yaml
  LORA_CONFIG_boxed := configs/lora/boxed.yaml
  LORA_CONFIG_raw := configs/lora/raw.yaml
  MAX_PIXELS := 1003520
  BASE := Qwen/Qwen2.5-VL-7B-Instruct
  JOBS := 1
  # Of a hub name: that of LORA_SET, else the one that the configuration pins. A folder has none.
  PINNED = $(shell sed -n 's/^model_revision: *\([0-9a-f]*\).*/\1/p' configs/lora/boxed.yaml)
  SET = $(patsubst model_revision=%,%,$(filter model_revision=%,$(LORA_SET)))
  REVISION = $(if $(wildcard $(BASE)/config.json),,--revision $(or $(SET),$(PINNED)))
else
  $(error PROFILE is smoke or paper, not '$(PROFILE)')
endif
export HF_HUB_DISABLE_TELEMETRY := 1
# The stages start many processes: the libraries are compiled to bytecode once, not by each of them.
unexport PYTHONDONTWRITEBYTECODE
export ORT_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

# What `make help` says of the variables:
#: Variables, given after make as NAME=value (docs/your-data.md has examples):
#:   PROFILE       smoke (tiny models, CPU; the default) or paper (YOLOv12s, Qwen2.5-VL-7B, one A100)
#:   SOURCE        folder with the sets; left out, the smoke profile renders scenes
#:   OUT           folder to make (runs/PROFILE, or runs/smoke-<name of SOURCE>)
#:   BASE          the base model, a folder or a hub name (paper: Qwen/Qwen2.5-VL-7B-Instruct)
#:   GATE          form of the gate that is shipped: gate, gate-openvino, gate-int8
#:   ROWS          of Tables 1-2: boxed-lora boxed-lora-{constrained,ruled} raw-lora {boxed,raw}-none
#:   DATA_SET      options of data.prep.build       DATA_SET="--leak-free"              docs/data.md
#:   GATE_SET      keys of Ultralytics              GATE_SET="epochs=50 batch=16"       docs/gate.md
#:   INSTRUCT_SET  options of data.prep.instruct    INSTRUCT_SET="--detections labels"  docs/lora.md
#:   BASE_FROM     shipped (train/shipped_base) or scratch, which trains one        (smoke only)
#:   PRIMER_SET    options of data.prep.primer      PRIMER_SET="--scenes 2000"          docs/lora.md
#:   BASE_SET      options and keys of train.base   BASE_SET="--tower 50 max_steps=50"  docs/lora.md
#:   LORA_SET      keys of LLaMA-Factory, adapters  LORA_SET="num_train_epochs=2"       docs/lora.md
#:   CASCADE_SET   options of eval.cascade; export then ships its thresholds            docs/gate.md
#:   OFFLOAD_SET   keys of train.offload            OFFLOAD_SET="block=1"              docs/offload.md
#:   FORM_SET      options of export.merged and export.quantised                        docs/export.md
#:   ACCEPT_UNTRAINED  1: ship what is not fit for use as a rehearsal (rendered scenes: 1)  docs/export.md
#:   LINKS         traces, or folders of them, for eval-links                     docs/transmission.md
#:   ROOM SAMPLE SEED  a folder or a file, how many changes, which draw, for mutants  CONTRIBUTING.md
#:   REPOSITORY RELEASE KEYS                   for publish                              docs/updates.md
#:   ROUND START NODES INBOX AGGREGATE_SET     for round and aggregate               docs/federation.md
#:   RESTART       1: replace what other settings, data or code made before, which is refused otherwise
#:   PYTHON        the Python from which make setup makes .venv (python3)
DATA_SET ?=
GATE ?= gate
GATE_SET ?=
PRIMER_SET ?=
BASE_SET ?=
INSTRUCT_SET ?=
LORA_SET ?=
CASCADE_SET ?=
FORM_SET ?=
OFFLOAD_SET ?=
# Tiny models on rendered scenes are a rehearsal in any case: what is not fit for use says so.
ACCEPT_UNTRAINED ?= $(if $(SOURCE),,$(if $(filter smoke,$(PROFILE)),1))
# Only 1 is a yes: RESTART=0 replaces nothing.
ACCEPT = $(if $(filter 1,$(ACCEPT_UNTRAINED)),--accept-untrained)
RESTART ?=
AGAIN = $(if $(filter 1,$(RESTART)),--restart)

.DEFAULT_GOAL := help
.PHONY: help setup lock smoke pipeline check source download data train-gate train-gate-1cls eval-gate \
        cascade export-gate rehearse primer base instructions train-lora lora-boxed lora-raw proof-boxed proof-raw predict-val \
        $(ROWS:%=predict-%) table-3 eval-transmission eval-links train-offload eval-offload eval export publish round aggregate edge-check demo demo-live test test-fast documents mutants lint clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 20
	@sed -n 's/^#: \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

setup: .venv/.installed .venv/bin/dat-runtime  ## make .venv and install the pinned bench requirements

# The wheel's own command, from this checkout.
.venv/bin/dat-runtime: .venv/.installed
	@printf '#!%s\nimport sys\nsys.path.insert(0, "%s")\nfrom dat_runtime.cli import main\nsys.exit(main())\n' \
	  "$(CURDIR)/$(PY)" "$(CURDIR)" > $@ && chmod +x $@

.venv/.installed: requirements/bench.txt requirements/setup.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make setup PYTHON=python3.11")'
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@echo "[setup] installing the bench requirements into .venv (about 7 GB)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/setup.txt
	@.venv/bin/uv pip install --quiet --python $(PY) --require-hashes -r requirements/bench.txt
	@touch $@

lock:  ## compile requirements/*.txt again from *.in
	@for name in setup bench field openvino node receiver ray; do .venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header -o requirements/$$name.txt requirements/$$name.in; done

smoke: setup  ## set up and run the whole job on rendered scenes (or SOURCE=...), two cores
	@$(MAKE) -j$(JOBS) pipeline
	@echo "bundle        $(OUT)/bundle   (check it: make edge-check$(AS_GIVEN))"
	@echo "one frame     make demo$(AS_GIVEN)"

# What is shipped is proved after the tables: what is not fit for use ends the run there.
pipeline: check  ## the whole job in one go, as smoke runs it: PROFILE=paper SOURCE=<folder>
	@$(MAKE) eval predict-val
	@$(PY) -m eval.tables --show $(OUT)/eval
	@echo "data report   $(OUT)/data/report.html"
	@echo "report        $(OUT)/eval/report.html"
	@$(MAKE) export

check: setup  ## keys, weights, base, card and disk, before hours are spent: pipeline begins with it
	@$(PY) -m train.check --gate "$(GATE_CONFIG) $(GATE_SET)" --out $(OUT) \
	  --tuning "$(LORA_CONFIG_boxed) $(LORA_SET)" $(if $(RAW_ROWS),--tuning "$(LORA_CONFIG_raw) $(LORA_SET)") \
	  $(if $(BASE_STAGE),--tuning "configs/lora/base.yaml $(foreach word,$(BASE_SET),$(if $(findstring =,$(word)),$(word)))",--base $(BASE))

ifeq ($(SOURCE),)
source: setup
ifeq ($(PROFILE),paper)
	@echo "PROFILE=paper needs the public sets: SOURCE=<folder> (make download fetches them)" >&2; exit 1
endif
	@$(PY) -m data.prep.scenes --out $(OUT)/source
data: SOURCE_FOLDER := $(OUT)/source
data: source
else
data: SOURCE_FOLDER := $(SOURCE)
endif

download: setup  ## fetch the public sets into SOURCE with your own Kaggle account
	@test -n "$(SOURCE)" || { echo "say where to: make download SOURCE=<folder>" >&2; exit 1; }
	@$(PY) -m data.prep.download public --out $(SOURCE)

data: setup  ## import, check and split the data sets and the bandwidth trace
	@$(PY) -m data.prep.build --source $(SOURCE_FOLDER) --out $(OUT)/data $(DATA_SET)

ifeq ($(PROFILE),smoke)
# All else waits for the gate: it has both cores.
train-gate: export OMP_NUM_THREADS := 2
endif
train-gate: data  ## train the gate, export it to ONNX and check the export
	@$(PY) -m train.gate --config $(GATE_CONFIG) --data $(OUT)/data --out $(OUT)/gate $(AGAIN) $(GATE_SET)

train-gate-1cls: data
	@$(PY) -m train.gate --config $(GATE_1CLS_CONFIG) --data $(OUT)/data --out $(OUT)/gate-1cls $(AGAIN) \
	  $(GATE_1CLS_SET) $(GATE_SET)

eval-gate: train-gate train-gate-1cls  ## Figure 4: what gates of two classes and of one let through
	@$(PY) -m eval.gating --data $(OUT)/data --gate $(OUT)/gate --gate $(OUT)/gate-1cls \
	  --out $(OUT)/gating

ifneq ($(GATE),gate)
  GATE_STAGE := export-gate
else
  GATE_STAGE := train-gate
endif

cascade: $(GATE_STAGE) predict-val predict-boxed-lora  ## thresholds: CASCADE_SET="--policy band --load 0.3 --missed-severe 0.1"
	@$(PY) -m eval.gating --data $(OUT)/data --gate $(OUT)/$(GATE) --out $(OUT)/gating-shipped
	@$(PY) -m eval.cascade --gating $(OUT)/gating-shipped --gate $(OUT)/$(GATE) \
	  --validation $(OUT)/predictions-val/boxed-lora --test $(OUT)/predictions/boxed-lora \
	  --out $(OUT)/cascade $(CASCADE_SET)

export-gate: train-gate  ## the gate for OpenVINO, in float32 and INT8
	@$(PY) -m train.gate_export --gate $(OUT)/gate --data $(OUT)/data --format openvino --out $(OUT)/gate-openvino
	@$(PY) -m train.gate_export --gate $(OUT)/gate --data $(OUT)/data --format int8 --out $(OUT)/gate-int8

instructions: train-gate  ## boxed images, and raw ones for raw ROWS, with prompts and target answers
	@$(PY) -m data.prep.instruct --data $(OUT)/data --out $(OUT)/instructions $(AGAIN) \
	  $(if $(findstring --detections labels,$(subst =, ,$(INSTRUCT_SET))),,--gate $(OUT)/gate) \
	  --inputs boxed $(if $(RAW_ROWS),raw) --max-pixels $(MAX_PIXELS) $(INSTRUCT_SET)

rehearse: data $(BASE_STAGE)  ## memory, speed and hours of gate and LoRA by a few steps of random weights
	@$(PY) -m data.prep.instruct --data $(OUT)/data --detections labels --inputs boxed \
	  --max-pixels $(MAX_PIXELS) --out $(OUT)/rehearsal-instructions $(AGAIN)
	@$(PY) -m train.rehearse --config $(LORA_CONFIG_boxed) --instructions $(OUT)/rehearsal-instructions \
	  --base $(BASE) --gate "$(GATE_CONFIG) $(GATE_SET)" --data $(OUT)/data --out $(OUT)/rehearsal $(LORA_SET)

primer: setup  ## rendered scenes and questions, from which base learns
	@$(PY) -m data.prep.primer --out $(OUT)/primer $(PRIMER_SET)

base: primer  ## the tiny Qwen2.5-VL that stands in for the 7B, as in train/shipped_base: some six hours on two cores
	@$(PY) -m train.base --config configs/lora/base.yaml --primer $(OUT)/primer \
	  --out $(OUT)/base $(AGAIN) $(BASE_SET)

train-lora: proof-boxed $(if $(RAW_ROWS),proof-raw)  ## tune the MLLM with LoRA on boxed and on raw images, prove the adapters

lora-boxed lora-raw: lora-%: instructions $(BASE_STAGE)
	@$(PY) -m train.lora --config $(LORA_CONFIG_$*) --dataset $*_train \
	  --instructions $(OUT)/instructions --base $(BASE) --out $(OUT)/lora-$* $(AGAIN) $(LORA_SET)

# The adapter on boxed images is what ships: its validation answers have to be better than none.
# A rehearsal's adapters may answer off the schema, each of the three that are proved.
PROOF = $(PY) -m eval.proof --instructions $(OUT)/instructions --base $(BASE) $(ACCEPT)
proof-boxed: predict-val
	@$(PROOF) --inputs boxed --adapter $(OUT)/lora-boxed --answers $(OUT)/predictions-val/boxed-lora \
	  --out $(OUT)/proof-boxed
proof-raw: lora-raw
	@$(PROOF) --inputs raw --adapter $(OUT)/lora-raw --out $(OUT)/proof-raw

PREDICT = $(PY) -m eval.predict $(AGAIN) --instructions $(OUT)/instructions --model $(BASE) $(REVISION)
predict-boxed-none predict-raw-none: predict-%-none: instructions $(BASE_STAGE)
	@$(PREDICT) --inputs $* --out $(OUT)/predictions/$*-none
predict-boxed-lora predict-raw-lora: predict-%-lora: lora-%
	@$(PREDICT) --inputs $* --adapter $(OUT)/lora-$* --out $(OUT)/predictions/$*-lora
predict-val: lora-boxed
	@$(PREDICT) --inputs boxed --part val --adapter $(OUT)/lora-boxed --out $(OUT)/predictions-val/boxed-lora
predict-boxed-lora-constrained: lora-boxed
	@$(PREDICT) --inputs boxed --adapter $(OUT)/lora-boxed --constrained \
	  --out $(OUT)/predictions/boxed-lora-constrained
predict-boxed-lora-ruled: lora-boxed
	@$(PREDICT) --inputs boxed --adapter $(OUT)/lora-boxed --constrained rules \
	  --out $(OUT)/predictions/boxed-lora-ruled

# docs/offload.md: a codec for the tuned model, and what its bits are worth beside pictures.
train-offload: lora-boxed  ## learned bits for weak nodes, compared with JPEG and WebP: OFFLOAD_SET="block=1"
	@$(PY) -m train.offload --config configs/offload/$(PROFILE).yaml --instructions $(OUT)/instructions \
	  --base $(BASE) --adapter $(OUT)/lora-boxed --out $(OUT)/codec $(AGAIN) $(OFFLOAD_SET)
	@$(PY) -m eval.codes --instructions $(OUT)/instructions --data $(OUT)/data --base $(BASE) \
	  --adapter $(OUT)/lora-boxed --codec $(OUT)/codec --out $(OUT)/codes $(AGAIN)

MEASURED = codes codec instructions
eval-offload: data  ## where an answer is made: ApproxBit's tables, the controller, and a node's table after train-offload
	@$(PY) -m eval.offload $$(test -f $(OUT)/data/bandwidth.csv && echo --trace $(OUT)/data/bandwidth.csv) \
	  $$(test -f $(OUT)/codes/manifest.json && echo $(foreach made,$(MEASURED),--$(made) $(OUT)/$(made))) \
	  --profile $(PROFILE) --source "$(notdir $(abspath $(SOURCE)))" --out $(OUT)/offload

TRANSMISSION = $(PY) -m eval.transmission --config configs/transmission/c0.yaml \
  --trace $(OUT)/data/bandwidth.csv
table-3: data
	@if [ -f $(OUT)/data/bandwidth.csv ]; then $(TRANSMISSION) --quick --out $(OUT)/transmission; \
	else echo "[table-3] left out: the source has no trace"; fi

eval-transmission: data  ## the whole study of the scheduler: Table 3, figures, bounds, pass or fail
	@$(TRANSMISSION) --accept --out $(OUT)/transmission-study

eval-links: setup  ## which claims of the scheduler hold on which link: LINKS=<traces, or folders of them>
	@test -n "$(LINKS)" || { echo "name the traces: make eval-links LINKS=<files or folders>" >&2; exit 1; }
	@$(PY) -m data.prep.trace --source $(LINKS) --out $(OUT)/traces
	@$(PY) -m eval.links --traces $(OUT)/traces --config configs/transmission/c0.yaml --out $(OUT)/links

eval: $(ROWS:%=predict-%) table-3  ## Tables 1-3 as JSON, Markdown, CSV, and a report
	@$(PY) -m eval.tables --instructions $(OUT)/instructions --predictions $(OUT)/predictions \
	  $$(test -f $(OUT)/data/bandwidth.csv && echo --transmission $(OUT)/transmission) \
	  --data $(OUT)/data --profile $(PROFILE) --source "$(notdir $(abspath $(SOURCE)))" \
	  --out $(OUT)/eval

export: $(GATE_STAGE) proof-boxed $(if $(CASCADE_SET),cascade)  ## the bundle that is shipped to edge nodes, its adapter proved again
	@$(PY) -m export.bundle --gate $(OUT)/$(GATE) --adapter $(OUT)/lora-boxed --base $(BASE) \
	  $(if $(CASCADE_SET),--cascade $(OUT)/cascade) $(if $(filter command,$(origin GATE)),--replace-gate) \
	  --proof $(OUT)/proof-boxed $(ACCEPT) --out $(OUT)/bundle
	@$(PROOF) --inputs boxed --adapter $(OUT)/bundle/adapter --out $(OUT)/proof-bundle

# docs/updates.md: the keys, and what they sign.
REPOSITORY ?=
RELEASE ?=
KEYS ?=
publish: setup  ## sign the bundle for nodes: REPOSITORY=DIR RELEASE=crossing/1.0.0 KEYS="targets.pem online.pem"
	@test -d $(OUT)/bundle || { echo "no $(OUT)/bundle: make export$(AS_GIVEN) first" >&2; exit 1; }
	@test -n "$(REPOSITORY)" -a -n "$(RELEASE)" || { echo "say where to and what as: make publish$(AS_GIVEN) REPOSITORY=DIR RELEASE=crossing/1.0.0 KEYS=..." >&2; exit 1; }
	@$(PY) -m export.publish add $(OUT)/bundle --as $(RELEASE) --base $(BASE) \
	  --scores $(OUT)/eval/boxed-lora/scores.json --repository $(REPOSITORY) $(if $(KEYS),--key $(KEYS))

# A federated round (docs/federation.md): ROUND=3 START=<adapter> NODES=<public keys> INBOX=<increments>
ROUND ?= 1
START ?= $(OUT)/lora-boxed
NODES ?= $(OUT)/nodes
INBOX ?= $(OUT)/inbox-$(ROUND)
AGGREGATE_SET ?=
LED := $(OUT)/round-$(ROUND)
round: setup  ## open a federated round: ROUND=3 START=<adapter folder>
	@$(PY) -m train.round --start $(START) --number $(ROUND) --out $(LED)/round.json

SCORE = $(PY) -m eval.score --truth $(OUT)/instructions/truth.jsonl
aggregate: setup  ## the increments in INBOX into the next adapter, scored beside START; promotes nothing
	@$(PY) -m train.aggregate --round $(LED)/round.json --start $(START) --nodes $(NODES) \
	  --increments $(INBOX) --out $(LED)/lora $(AGGREGATE_SET)
	@$(PREDICT) --inputs boxed --adapter $(START) --out $(LED)/predictions-start
	@$(PREDICT) --inputs boxed --adapter $(LED)/lora --out $(LED)/predictions
	@$(SCORE) --predictions $(LED)/predictions-start/predictions.jsonl --out $(LED)/scores-start
	@$(SCORE) --predictions $(LED)/predictions/predictions.jsonl --out $(LED)/scores \
	  --require $(foreach m,parse>= sev_f1>= bbox_miou>= count_mae<=,"$(m)@$(LED)/scores-start/scores.json")

FORM = --base $(BASE) --adapter $(OUT)/lora-boxed --instructions $(OUT)/instructions $(FORM_SET)
export-merged: lora-boxed  ## the base with the adapter in its weights, held to it: FORM_SET="--require 'sev_f1>=0.9'"
	@$(PY) -m export.merged $(FORM) --out $(OUT)/merged $(AGAIN)

export-quantised: export-merged  ## the merged model in FP8, half the size, held to the adapter
	@$(PY) -m export.quantised --merged $(OUT)/merged $(FORM) --out $(OUT)/fp8 $(AGAIN)

edge-check: setup  ## the wheel alone in an empty environment plans a batch and verifies the bundle
	@test -d $(OUT)/bundle || { echo "no $(OUT)/bundle: make export$(AS_GIVEN) first" >&2; exit 1; }
	@$(PY) -m export.edge_check --bundle $(OUT)/bundle

demo: setup  ## one frame from the camera to the plan, in words
	@$(PY) -m dat_runtime.cli demo $(if $(wildcard $(OUT)/bundle),--bundle $(OUT)/bundle)

demo-live: setup  ## cameras, node, thin link, receiver and the operator's page, live: open the address
	@$(PY) -m export.demo_live $(if $(wildcard $(OUT)/bundle),--bundle $(OUT)/bundle)

test: setup  ## the tests: CPU only, no network
	@$(PY) -m pytest -m "not gpu" -n 2 --dist loadgroup

test-fast: setup  ## the tests that train nothing
	@$(PY) -m pytest -m "not gpu and not slow" -n 2 --dist loadgroup

documents: setup  ## run each command of the documents, cut short, on what a shortened smoke job left: OUT=runs/ci
	@DAT_DOCUMENTS_OUT=$(OUT) $(PY) -m pytest -m documents -n 2 --dist loadgroup tests/documents

ROOM ?=
SAMPLE ?=
SEED ?= 0
mutants: setup  ## which changes of a room's code no test notices: ROOM=dat_runtime/planning
	@test -n "$(ROOM)" || { echo "name a folder or a file: make mutants ROOM=dat_runtime/planning" >&2; exit 1; }
	@$(PY) -m benchmarks.mutants $(ROOM) $(if $(SAMPLE),--sample $(SAMPLE) --seed $(SEED))

lint: setup  ## ruff and mypy
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

clean:  ## remove what the profile made
	@case "$(OUT)" in runs/*) rm -rf "$(OUT)" ;; \
	*) echo "make clean removes folders under runs/ only, not $(OUT)" >&2; exit 1 ;; esac
