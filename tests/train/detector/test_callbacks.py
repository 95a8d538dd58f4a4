import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dat_runtime.errors import DataError
from dat_runtime.files import read_json
from train.detector import callbacks
from train.detector.callbacks import Epochs, _restore_criterion, log_to_wandb, refuse_drops
from train.detector.stream import Stream


def test_an_image_or_a_box_that_ultralytics_left_out_is_an_error() -> None:
    loaded = [{"im_file": "/x/a.jpg", "cls": [0, 1]}, {"im_file": "/x/b.jpg", "cls": []}]
    refuse_drops("train", loaded, {"a": 2, "b": 0})
    with pytest.raises(DataError) as refused:
        refuse_drops("train", loaded, {"d": 1, "a": 2, "b": 0, "c": 1})
    assert str(refused.value) == (
        "Ultralytics skipped 2 of 4 images of train, first c: see train.log"
    )
    with pytest.raises(DataError) as refused:
        refuse_drops("train", loaded, {"a": 3, "b": 0})
    assert str(refused.value) == (
        "labels/train/a.txt: Ultralytics took 2 of 3 boxes: it drops equal rows and those that it "
        "finds invalid, see train.log"
    )


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


def trainer_of(folder: Path, fitness: float = 0.0, best_epoch: int = 0, workers: int = 1) -> Any:
    """What the callbacks touch of an Ultralytics trainer, after an epoch of this fitness."""
    import torch

    from train.detector.trainer import Checkpoints

    def loader(name: str) -> Any:
        stream = Stream(pictures=8, batch=2, seed=0, workers=workers)
        labels = [{"im_file": f"/x/{name}.jpg", "cls": [0]}]
        return SimpleNamespace(dataset=SimpleNamespace(labels=labels, stream=stream))

    model = torch.nn.Conv2d(2, 2, 2)
    model.init_criterion = object  # type: ignore[assignment]
    return SimpleNamespace(
        accumulate=1,
        args=SimpleNamespace(single_cls=False, seed=0, nbs=64, val=False),
        batch_size=16,
        best=folder / "best.pt",
        best_fitness=fitness,
        checkpoints=Checkpoints(),
        csv=folder / "results.csv",
        device=torch.device("cpu"),
        ema=SimpleNamespace(ema=torch.nn.Conv2d(2, 2, 2), updates=best_epoch),
        epoch=best_epoch + 2,
        epochs=100,
        last=folder / "last.pt",
        metrics={},
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        save_dir=folder,
        scaler=torch.amp.GradScaler("cpu", init_scale=2.0 ** (best_epoch + 1)),
        scheduler=SimpleNamespace(last_epoch=0),
        start_epoch=0,
        stop=False,
        stopper=SimpleNamespace(best_fitness=fitness, best_epoch=best_epoch),
        test_loader=loader("b"),
        tloss=None,
        train_loader=loader("a"),
    )


BOXES = {"train": {"a": 1}, "val": {"b": 1}}


def clock(monkeypatch: pytest.MonkeyPatch, *times: float) -> None:
    """What the callbacks read from the clock, one after the other."""
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=iter(times).__next__))


def test_each_callback_has_its_event(tmp_path: Path) -> None:
    added: list[tuple[str, Any]] = []
    epochs = Epochs(tmp_path / "checkpoint.pt", BOXES)
    epochs.register(SimpleNamespace(add_callback=lambda *pair: added.append(pair)))
    assert added == [
        ("on_pretrain_routine_end", epochs.begin),
        ("on_train_epoch_start", epochs.seed),
        ("on_model_save", epochs.save),
        ("on_fit_epoch_end", epochs.report),
        ("on_train_end", epochs.finish),
    ]


def test_what_ultralytics_loaded_is_looked_at_before_the_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    trainer, before = trainer_of(tmp_path), torch.get_num_threads()
    epochs = Epochs(tmp_path / "checkpoint.pt", BOXES)
    try:
        epochs.begin(trainer)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert trainer.model.weight.is_contiguous(memory_format=torch.channels_last)
    assert not hasattr(trainer.model, "names")
    assert capfd.readouterr().out == ""

    other = trainer_of(tmp_path)
    other.accumulate, other.device, other.args.single_cls = 2, torch.device("cuda"), True
    epochs.begin(other)
    assert torch.get_num_threads() == before
    assert other.model.weight.is_contiguous()
    assert other.model.names == other.ema.ema.names == {0: "accident"}
    assert capfd.readouterr().out == (
        "[gate] nbs=64 adds up gradients of 2 batches, past an epoch's end too: a run that is cut "
        "off will not end with the same weights (with nbs=16 it would)\n"
    )
    for split in ("train", "val"):
        more = Epochs(tmp_path / "checkpoint.pt", BOXES | {split: {"a": 1, "b": 1, "c": 1}})
        with pytest.raises(DataError, match=f"skipped 2 of 3 images of {split}, first"):
            more.begin(trainer)


def test_an_epochs_draws_follow_from_seed_number_and_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    epochs, gone_to = Epochs(tmp_path / "checkpoint.pt", BOXES), []
    trainer = trainer_of(tmp_path)
    trainer.train_loader.go_to = gone_to.append
    cases = ((3, 2, "1", 3_002_028), (3, 2, "", 3_002_026), (4295, 0, "0", 45_589))
    for seed, epoch, rank, number in cases:
        monkeypatch.delenv("RANK", raising=False)
        if rank:
            monkeypatch.setenv("RANK", rank)
        trainer.args.seed, trainer.epoch = seed, epoch
        epochs.seed(trainer)
        drawn = random.random(), np.random.random(), torch.rand(1).item()
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)
        assert drawn == (random.random(), np.random.random(), torch.rand(1).item())
    assert gone_to == [2, 2, 0]


def test_a_resumed_training_has_the_whole_state_of_the_one_that_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Else a worse epoch would replace best.pt, and patience would begin anew."""
    import torch

    clock(monkeypatch, 1000.0, 1012.5, 5000.0, 5001.06)
    checkpoint = tmp_path / "checkpoint.pt"
    before = trainer_of(tmp_path, fitness=0.7, best_epoch=4, workers=3)
    before.scaler.scale(before.model(torch.ones(1, 2, 2, 2)).sum()).backward()
    before.optimizer.step()
    before.best.write_bytes(b"best so far")
    before.csv.write_text("epoch,loss")
    cut_off = Epochs(checkpoint, BOXES)
    cut_off.begin(before)
    cut_off.save(before)
    before.best.unlink()
    before.csv.write_text("another start's")
    capfd.readouterr()

    after, resumed = trainer_of(tmp_path), Epochs(checkpoint, BOXES)
    resumed.begin(after)
    assert capfd.readouterr().out == "[gate] going on after epoch 7/100\n"
    assert (after.best_fitness, after.stopper) == (0.7, before.stopper)
    assert (after.start_epoch, after.scheduler.last_epoch, after.ema.updates) == (7, 6, 4)
    assert after.best.read_bytes() == b"best so far"
    assert after.csv.read_text() == "epoch,loss"
    assert (after.model.weight == before.model.weight).all()
    assert (after.ema.ema.weight == before.ema.ema.weight).all()
    weight = after.model.weight
    momentum = before.optimizer.state[before.model.weight]["momentum_buffer"]
    assert (after.optimizer.state[weight]["momentum_buffer"] == momentum).all()
    assert after.scaler.get_scale() == before.scaler.get_scale() == 32
    assert after.train_loader.dataset.stream.workers == 3
    resumed.finish(after)  # 12.5 s at first, 1.06 s after the interruption
    assert resumed.cost() == read_json(tmp_path / "cost.json") == {"train_seconds": 13.6}

    clock(monkeypatch, 0.0)
    after.best.unlink()
    monkeypatch.setenv("RANK", "1")
    second = trainer_of(tmp_path)
    Epochs(checkpoint, BOXES).begin(second)
    assert not after.best.exists()  # the first process alone writes
    assert (second.model.weight == before.model.weight).all()
    assert capfd.readouterr().out == ""


def test_a_checkpoint_is_written_where_one_is_due_and_another_epoch_comes(tmp_path: Path) -> None:
    epochs, trainer = Epochs(tmp_path / "checkpoint.pt", BOXES), trainer_of(tmp_path)
    trainer.stop = True
    epochs.save(trainer)
    trainer.stop = False
    with trainer.checkpoints.written():
        pass
    epochs.save(trainer)
    assert list(tmp_path.iterdir()) == []
    trainer = trainer_of(tmp_path)
    epochs.save(trainer)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert not trainer.checkpoints.is_due()


def test_a_training_on_a_card_states_its_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    clock(monkeypatch, 2.04)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7)
    epochs = Epochs(tmp_path / "checkpoint.pt", BOXES)
    epochs.finish(None)
    assert epochs.cost() == {"train_seconds": 2.0, "peak_cuda_bytes": 7}


def test_of_several_processes_the_first_alone_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for rank in ("1", "0", "-1", None):
        clock(monkeypatch, 8.4, 65.6)
        monkeypatch.delenv("RANK", raising=False)
        if rank:
            monkeypatch.setenv("RANK", rank)
        trainer = trainer_of(tmp_path)
        trainer.epoch, trainer.epochs = 8, 10
        epochs = Epochs(tmp_path / "checkpoint.pt", BOXES)
        epochs.report(trainer)
        trainer.epoch, trainer.stop = 9, True
        trainer.tloss = {"box_loss": 1.236, "cls_loss": np.float32(0.5)}
        trainer.metrics = {"metrics/mAP50(B)": 0.12345}
        epochs.report(trainer)
        epochs.report(trainer)  # as Ultralytics does once more after a stop
        lines = (
            "[gate] epoch 9/10    8 s\n"
            "[gate] epoch 10/10  box 1.24 cls 0.50  val mAP50 0.123  66 s\n"
        )
        assert capfd.readouterr().out == ("" if rank == "1" else lines)


def test_an_epoch_that_was_validated_states_its_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clock(monkeypatch, 1.0)
    trainer = trainer_of(tmp_path)
    trainer.args.val = True
    Epochs(tmp_path / "checkpoint.pt", BOXES).report(trainer)
    assert capfd.readouterr().out == "[gate] epoch 3/100    val mAP50 0.000  1 s\n"


def test_a_run_at_weights_and_biases_has_the_name_of_the_gate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In place of wandb, which would ask its server."""
    told: list[Any] = []
    fake = SimpleNamespace(init=lambda **keys: told.append(keys), finish=lambda: told.append("end"))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    added: dict[str, Any] = {}
    log_to_wandb(SimpleNamespace(add_callback=added.__setitem__), "gate-2cls")
    assert list(added) == ["on_pretrain_routine_start", "teardown"]
    added["on_pretrain_routine_start"](None)
    monkeypatch.setenv("WANDB_PROJECT", "roads")
    added["on_pretrain_routine_start"](None)
    added["teardown"](None)
    assert told == [
        {"project": "dat-gate", "name": "gate-2cls"},
        {"project": "roads", "name": "gate-2cls"},
        "end",
    ]


def test_only_a_loss_that_changes_with_the_epochs_is_put_where_it_was() -> None:
    class Shifting:
        updates = 0

        def update(self) -> None:
            self.updates += 1
            self.weight = self.updates / 10

    model: Any = SimpleNamespace(init_criterion=Shifting)
    _restore_criterion(model, 3)
    assert (model.criterion.updates, model.criterion.weight) == (3, 0.3)
    model = SimpleNamespace(init_criterion=object)
    _restore_criterion(model, 3)
    assert not hasattr(model, "criterion")


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
