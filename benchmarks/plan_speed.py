"""python benchmarks/plan_speed.py: the scheduler's speed against one argsort in the same run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from eval.uplink.plan_speed import main

if __name__ == "__main__":
    raise SystemExit(main())
