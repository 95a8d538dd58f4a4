"""Building a set from one folder of accident frames, and what came of it."""

import json

from data.prep.build import main

SPLITS = {"train": "train", "valid": "val", "test": "test"}
"""Folders of a Roboflow export -> our names."""
MAPPED = ("--classes", "minor=moderate", "fatal=severe")


def truth_of(out, split):
    lines = (out / f"truth_{split}.jsonl").read_text().splitlines()
    return {t["image_id"]: t for t in map(json.loads, lines)}


def faults_of(out):
    return json.loads((out / "report.json").read_text())["faults"]["counts"]


def run(root, out, *options):
    alone = ["--without", "negatives", "trace"]
    return main(["--source", str(root), "--out", str(out), *alone, *options])
