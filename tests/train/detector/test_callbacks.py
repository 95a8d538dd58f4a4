import subprocess
import sys
from pathlib import Path

import pytest

from dat_runtime.errors import DataError
from train.detector.callbacks import Epochs, refuse_drops


def test_an_image_or_a_box_that_ultralytics_left_out_is_an_error() -> None:
    loaded = [{"im_file": "/x/a.jpg", "cls": [0, 1]}, {"im_file": "/x/b.jpg", "cls": []}]
    refuse_drops("train", loaded, {"a": 2, "b": 0})
    with pytest.raises(DataError, match="skipped 1 of 3 images of train, first c"):
        refuse_drops("train", loaded, {"a": 2, "b": 0, "c": 1})
    with pytest.raises(DataError, match=r"labels/train/a\.txt: Ultralytics took 2 of 3 boxes"):
        refuse_drops("train", loaded, {"a": 3, "b": 0})


CHILD = """
import sys
sys.path = {path!r}
from ultralytics.utils.patches import torch_load
state = torch_load({state!r}, map_location="cpu")
for event in ("on_pretrain_routine_end", "on_train_epoch_start", "on_model_save"):
    callback = state["callbacks"][event][-1]
    print("=", type(callback.__self__).__module__, callback.__name__, callback.__self__.boxes)
"""


@pytest.mark.slow
def test_the_callbacks_reach_the_processes_of_several_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ultralytics pickles them into a file that each process loads; no GPU is needed for that."""
    from types import SimpleNamespace

    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    from ultralytics.utils import dist
    from ultralytics.utils.callbacks import get_default_callbacks

    monkeypatch.setattr(dist, "USER_CONFIG_DIR", tmp_path)
    callbacks = get_default_callbacks()
    trained = SimpleNamespace(add_callback=lambda event, call: callbacks[event].append(call))
    Epochs(tmp_path / "checkpoint.pt", {"train": {"a": 2}}).register(trained)
    trainer = SimpleNamespace(args=SimpleNamespace(), model="yolo12n.yaml", callbacks=callbacks)
    state = Path(dist.generate_ddp_file(trainer)).with_suffix(".pt")
    child = CHILD.format(path=sys.path, state=str(state))
    run = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
    assert [line for line in run.stdout.splitlines() if line.startswith("=")] == [
        f"= train.detector.callbacks {name} {{'train': {{'a': 2}}}}"
        for name in ("begin", "seed", "save")
    ], run.stderr


@pytest.mark.slow
def test_of_several_processes_the_first_alone_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    trainer = SimpleNamespace(epoch=1, epochs=1)
    for rank, writes in (("1", False), ("0", True)):
        monkeypatch.setenv("RANK", rank)
        Epochs(tmp_path / "checkpoint.pt", {}).report(trainer)
        assert (tmp_path / "cost.json").is_file() == writes
