import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.errors import DataError
from train.detector.callbacks import Epochs, _restore_criterion, refuse_drops
from train.detector.stream import Stream


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
print("=", state["trainer"].__module__, state["trainer"].__name__)
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

    from train.detector.trainer import GateTrainer

    monkeypatch.setattr(dist, "USER_CONFIG_DIR", tmp_path)
    callbacks = get_default_callbacks()
    trained = SimpleNamespace(add_callback=lambda event, call: callbacks[event].append(call))
    Epochs(tmp_path / "checkpoint.pt", {"train": {"a": 2}}).register(trained)
    trainer = object.__new__(GateTrainer)
    vars(trainer).update(args=SimpleNamespace(), model="yolo12n.yaml", callbacks=callbacks)
    state = Path(dist.generate_ddp_file(trainer)).with_suffix(".pt")
    child = CHILD.format(path=sys.path, state=str(state))
    run = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
    assert [line for line in run.stdout.splitlines() if line.startswith("=")] == [
        "= train.detector.trainer GateTrainer",
        *(
            f"= train.detector.callbacks {name} {{'train': {{'a': 2}}}}"
            for name in ("begin", "seed", "save")
        ),
    ], run.stderr


@pytest.mark.slow
def test_of_several_processes_the_first_alone_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from types import SimpleNamespace

    trainer = SimpleNamespace(
        epoch=0, epochs=2, stop=True, tloss=None, args=SimpleNamespace(val=False), metrics={}
    )
    for rank, lines in (("1", 0), ("0", 1)):
        monkeypatch.setenv("RANK", rank)
        epochs = Epochs(tmp_path / "checkpoint.pt", {})
        epochs.report(trainer)
        trainer.epoch += 1
        epochs.report(trainer)  # as Ultralytics does once more after a stop
        assert capfd.readouterr().out.count("[gate] epoch") == lines


def trainer_of(folder: Path, fitness: float, best_epoch: int) -> Any:
    """What the callbacks touch of an Ultralytics trainer, after an epoch of this fitness."""
    from types import SimpleNamespace

    import torch

    from train.detector.trainer import Checkpoints

    def loader() -> Any:
        dataset = SimpleNamespace(labels=[], stream=Stream(pictures=8, batch=2, seed=0))
        return SimpleNamespace(dataset=dataset)

    model = torch.nn.Linear(2, 2)
    model.init_criterion = object
    return SimpleNamespace(
        accumulate=1,
        args=SimpleNamespace(single_cls=False),
        best=folder / "best.pt",
        best_fitness=fitness,
        checkpoints=Checkpoints(),
        csv=folder / "results.csv",
        device=torch.device("cpu"),
        ema=SimpleNamespace(ema=torch.nn.Linear(2, 2), updates=best_epoch),
        epoch=best_epoch + 2,
        epochs=100,
        last=folder / "last.pt",
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        save_dir=folder,
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        scheduler=SimpleNamespace(last_epoch=0),
        start_epoch=0,
        stop=False,
        stopper=SimpleNamespace(best_fitness=fitness, best_epoch=best_epoch),
        test_loader=loader(),
        train_loader=loader(),
    )


@pytest.mark.slow
def test_a_resumed_training_still_knows_its_best_epoch(tmp_path: Path) -> None:
    """Else a worse epoch would replace best.pt, and patience would begin anew."""
    checkpoint, boxes = tmp_path / "checkpoint.pt", {"train": {}, "val": {}}
    before = trainer_of(tmp_path, fitness=0.7, best_epoch=4)
    before.best.write_bytes(b"best so far")
    Epochs(checkpoint, boxes).save(before)
    before.best.unlink()
    after = trainer_of(tmp_path, fitness=0.0, best_epoch=0)
    Epochs(checkpoint, boxes).begin(after)
    assert (after.best_fitness, after.stopper) == (0.7, before.stopper)
    assert (after.start_epoch, after.scheduler.last_epoch, after.ema.updates) == (7, 6, 4)
    assert after.best.read_bytes() == b"best so far"
    assert (after.model.weight == before.model.weight).all()
    assert (after.ema.ema.weight == before.ema.ema.weight).all()


@pytest.mark.slow
def test_the_loss_of_a_detector_without_nms_goes_on_with_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    from ultralytics import YOLO
    from ultralytics.cfg import get_cfg

    model: Any = YOLO("yolo26n.yaml").model
    model.args = get_cfg(overrides={"epochs": 10})
    unbroken = model.init_criterion()
    for _ in range(3):
        unbroken.update()
    _restore_criterion(model, 3)
    resumed = model.criterion
    assert (resumed.o2m, resumed.o2o, resumed.updates) == (unbroken.o2m, unbroken.o2o, 3)
    assert resumed.o2m != model.init_criterion().o2m
