"""What a training needs to know of each family, by its name (`dat_runtime.family`)."""

from dat_runtime.family import QWEN2_5_VL
from train.mllm import qwen2_5_vl

MODULES = {QWEN2_5_VL.name: qwen2_5_vl}
