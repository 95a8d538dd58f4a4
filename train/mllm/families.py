"""What a training needs to know of each family, by its name (`dat_runtime.family`)."""

from dat_runtime.family import QWEN2_5_VL, QWEN3_VL
from train.mllm import qwen2_5_vl, qwen3_vl

MODULES = {QWEN2_5_VL.name: qwen2_5_vl, QWEN3_VL.name: qwen3_vl}
