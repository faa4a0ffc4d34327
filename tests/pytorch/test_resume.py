"""A training that was cut off and resumed has the same bits as one that was not."""

import json
import random

import numpy as np
import pytest
import torch

from fuxictr.config import TrainConfig
from fuxictr.errors import CheckpointError
from fuxictr.pytorch.checkpoint.state_files import StateFiles
from fuxictr.pytorch.checkpoint.training_state import TrainingState, load_raw_weights, raw_weights
from fuxictr.pytorch.checkpoint.weights import note_path
from fuxictr.pytorch.dataloaders import BatchIterator, StreamingIterator, open_parquet
from fuxictr.pytorch.losses import LossMean
from fuxictr.pytorch.optim import lazy_adam
from fuxictr.pytorch.optim.dense_table import DenseTable
from fuxictr.pytorch.optim.lazy_adam import LazyAdam
from fuxictr.pytorch.optim.lazy_table import LazyTable
from fuxictr.pytorch.training.callback import Callback
from fuxictr.pytorch.training.state_saver import StateSaver
from fuxictr.pytorch.training.trainer import NotFiniteError, Trainer
from tests.pytorch.encoded_rows import write_encoded
from tests.pytorch.test_lazy_models import make_model
from tests.pytorch.tiny import TinyModel, make, tiny_data, tiny_map

CONFIG = {"learning_rate": 0.05, "epochs": 2, "early_stop_patience": 3}


class CutOff(Exception):
    """Stands for whatever ended a process."""


class Cutter(Callback):
    """Saves the state and cuts the training off, at a step or in the middle of an evaluation.

    Each step also draws from the generators of numpy and python, as a user's model may.
    """

    def __init__(self, path, at_step=None, in_evaluation=None, is_decided=False):
        self.path, self.at_step, self.in_evaluation = path, at_step, in_evaluation
        self.is_decided = is_decided
        self.num_evaluated = 0

    def is_due(self, step):
        np.random.random(), random.random()
        return step == self.at_step

    def after_step(self, epoch, step):
        self._cut()

    def after_batch(self):
        self.num_evaluated += 1
        if self.num_evaluated == self.in_evaluation:
            self._cut()

    def after_evaluation(self, entry):
        if self.is_decided:
            self._cut()

    def _cut(self):
        self.trainer.state().save(self.path)
        raise CutOff


def tiny(path):
    data = tiny_data(tiny_map())
    model = make(tiny_map(), net_regularizer=0.1)
    config = TrainConfig(**CONFIG, batch_size=90, eval_steps=5)
    return model, config, BatchIterator(data, 90, True), BatchIterator(data, 128)


def other_optimizer(path):
    model, config, *splits = tiny(path)
    return model, TrainConfig(**{**vars(config), "optimizer": "rmsprop"}), *splits


def evaluated_at_the_end(path):
    model, config, *splits = tiny(path)
    return model, TrainConfig(**{**vars(config), "eval_steps": 1000}), *splits


def streamed(path):
    model, config, _, valid = tiny(path)
    file = path.parent / "rows.parquet"
    if not file.exists():
        data = tiny_data(tiny_map())
        (x, click), (a,) = data.values.numpy().T, data.ids.numpy().T
        write_encoded(file, {"a": a, "x": x, "click": click}, row_group_size=70)
    rows = open_parquet(file, tiny_map())
    return model, config, StreamingIterator(rows, 90, True, shuffle_window=200), valid


def zoo_model(name, *overrides, penalty=None):
    """A large table, dropout, a target that is drawn anew in each step."""

    def made(path):
        model, data = make_model(name, *overrides)
        model._embedding_regularizer = penalty
        config = TrainConfig(**CONFIG, batch_size=300, eval_steps=6, max_gradient_norm=0.5)
        return model, config, BatchIterator(data, 300, True), BatchIterator(data, 1500)

    return made


class OwnStep(TinyModel):
    """With a step, an optimiser and a random number of its own, as classes of FuxiCTR may."""

    def __init__(self, feature_map, **params):
        super().__init__(feature_map, **params)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    def train_step(self, batch_data):
        self.optimizer.zero_grad()
        loss = self.compute_loss(self(batch_data), self.get_labels(batch_data))
        loss = loss * (0.5 + torch.rand(())) / self._total_steps**0.5
        loss.backward()
        self.optimizer.step()
        return loss


def own_step(path):
    _, config, *splits = tiny(path)
    return make(tiny_map(), kind=OwnStep, net_regularizer=0.1), config, *splits


CASES = {
    "plain": tiny,
    "own step": own_step,
    "rmsprop": other_optimizer,
    "one evaluation": evaluated_at_the_end,
    "streamed": streamed,
    "lazy": zoo_model("FM_demo"),
    "penalized": zoo_model("DeepFM_demo", penalty=1e-4),
    "random target": zoo_model("DCNv2_demo_gen_target_random", "num_target=2"),
}


def start(case, path, state=None, **cut):
    """Trains from the beginning or from a state; returns all that came of it."""
    np.random.seed(1)
    random.seed(1)
    torch.manual_seed(1)
    model, config, train, valid = CASES[case](path)
    if state is not None:  # what a process starts with must not matter when it resumes
        np.random.seed(7)
        random.seed(7)
        torch.manual_seed(7)
    cutter = Cutter(path, **cut)
    trainer = Trainer(
        model, config, verbose=0, callbacks=[cutter], checkpoint=path.with_name("best.model")
    )
    cutter.trainer = trainer
    result = trainer.fit(train, valid, state)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    drawn = (np.random.random(), random.random(), torch.rand(()).item())
    return (
        trainer,
        weights,
        [result.history, result.valid, result.num_steps, result.num_rows, drawn],
    )


@pytest.fixture(autouse=True)
def small_tables_are_lazy(monkeypatch):
    monkeypatch.setattr(lazy_adam, "MIN_WEIGHTS_PER_LOOKUP", 1)


@pytest.mark.parametrize("case", CASES)
def test_cut_off_anywhere_and_resumed_gives_the_same_bits(case, tmp_path):
    path = tmp_path / "run" / "state"
    path.parent.mkdir()
    trainer, weights, numbers = start(case, path)
    num_steps = numbers[2]
    kinds = {"lazy": LazyTable, "penalized": DenseTable, "random target": LazyTable}
    if case in kinds:
        assert isinstance(trainer.optimizer, LazyAdam)
        tables = trainer.optimizer._tables.values()
        assert any(isinstance(table, kinds[case]) for table in tables)
    steps = range(1, num_steps + 1) if case == "plain" else {1, num_steps // 2, num_steps - 1}
    cuts = [{"at_step": step} for step in steps]
    cuts += [{"in_evaluation": number} for number in (1, 3, 7)[: len(numbers[0]) + 1]]
    for cut in cuts:
        with pytest.raises(CutOff):
            start(case, path, **cut)
        _, found, same = start(case, path, TrainingState.load(path))
        assert same == numbers, cut
        assert all(torch.equal(found[name], weights[name]) for name in weights), cut


def test_cut_off_many_times(tmp_path):
    """Each run does one step more than the state has that it resumes from."""
    path = tmp_path / "state"
    _, weights, numbers = start("lazy", path)
    state = None
    for step in range(1, numbers[2]):
        with pytest.raises(CutOff):
            start("lazy", path, state, at_step=step)
        state = TrainingState.load(path)
    _, found, same = start("lazy", path, state)
    assert same == numbers
    assert all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.parametrize("num_evaluated", [1, 8])  # batches: in the first epoch, in the second
def test_cut_off_twice_without_a_step_between(tmp_path, num_evaluated):
    """The first run ends in an evaluation, the second one after it has caught up on it."""
    path = tmp_path / "state"
    _, weights, numbers = start("lazy", path)
    with pytest.raises(CutOff):
        start("lazy", path, in_evaluation=num_evaluated)
    with pytest.raises(CutOff):
        start("lazy", path, TrainingState.load(path), is_decided=True)
    _, found, same = start("lazy", path, TrainingState.load(path))
    assert same == numbers
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_a_state_of_another_model_is_refused(tmp_path):
    path = tmp_path / "state"
    with pytest.raises(CutOff):
        start("plain", path, at_step=2)
    state = TrainingState.load(path)
    with pytest.raises(CheckpointError, match="does not fit the model FM: weight '.*' is missing"):
        start("lazy", path, state)
    model = make(tiny_map())
    weights = raw_weights(model)
    weights["head.bias"] = torch.zeros(2)
    with pytest.raises(CheckpointError, match="weight 'head.bias' is missing, unexpected or of"):
        load_raw_weights(model, weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 0}, "version 0, this one reads 1"),
        ({"plain": "[1"}, "not the state of a training run"),
        ({"plain": json.dumps([1])}, "not the state of a training run"),
        ({"plain": json.dumps({"tensors": 1})}, "not the state of a training run"),
    ],
)
def test_other_files_are_no_states(tmp_path, change, message):
    good = {"version": 1, "plain": json.dumps({"progress": {}, "identity": {}}), "tensors": {}}
    torch.save(good, tmp_path / "a.state")
    assert TrainingState.load(tmp_path / "a.state").tensors == {}
    torch.save({**good, **change}, tmp_path / "a.state")
    with pytest.raises(CheckpointError, match=message):
        TrainingState.load(tmp_path / "a.state")
    torch.save([good], tmp_path / "a.state")
    with pytest.raises(CheckpointError, match="not the state"):
        TrainingState.load(tmp_path / "a.state")


class TestStateFiles:
    """The checkpoint and the state are two files: either may be newer."""

    @pytest.fixture
    def files(self, tmp_path):
        return StateFiles(tmp_path / "mine", tmp_path / "mine.model")

    def save(self, files, best_step):
        files.save(TrainingState({"step": best_step}, {}), best_step)

    def load(self, files):
        state = files.load()
        files.restore_best(state)
        content = files.checkpoint.read_text() if files.checkpoint.exists() else None
        return state.progress["step"], content

    def replace(self, files, content):
        """Writes the checkpoint as it is always written: a new file takes its name."""
        (files.path.parent / "new").write_text(content)
        (files.path.parent / "new").rename(files.checkpoint)

    def test_what_is_known_of_the_weights_goes_with_them(self, files):
        note = note_path(files.checkpoint)
        self.replace(files, "best of 3")
        note.write_text("of 3")
        self.save(files, 3)
        self.replace(files, "best of 6")
        note.write_text("of 6")
        assert self.load(files) == (3, "best of 3")
        assert note.read_text() == "of 3"
        self.replace(files, "of another run, of which nothing is known")
        note.unlink()
        self.load(files)
        assert note.read_text() == "of 3"
        files.remove()
        assert {path.name for path in files.path.parent.iterdir()} == {"mine.model", note.name}

    def test_nothing_there(self, files):
        assert files.load() is None
        files.remove()

    def test_a_checkpoint_newer_than_the_state_is_set_back(self, files):
        self.replace(files, "best of 3")
        self.save(files, 3)
        self.replace(files, "best of 6, whose state was never saved")
        assert self.load(files) == (3, "best of 3")

    def test_killed_between_the_weights_and_the_state(self, files, monkeypatch):
        self.replace(files, "best of 3")
        self.save(files, 3)
        self.replace(files, "best of 6")
        with monkeypatch.context() as patch, pytest.raises(CutOff):
            patch.setattr(TrainingState, "save", raise_cut_off)
            self.save(files, 6)
        assert self.load(files) == (3, "best of 3")
        self.replace(files, "best of 6, found again")
        self.save(files, 6)
        assert self.load(files)[0] == 6

    def test_killed_before_the_old_weights_are_forgotten(self, files, monkeypatch):
        self.replace(files, "best of 3")
        self.save(files, 3)
        self.replace(files, "best of 6")
        with monkeypatch.context() as patch, pytest.raises(CutOff):
            patch.setattr(StateFiles, "_forget_others", raise_cut_off)
            self.save(files, 6)
        assert self.load(files) == (6, "best of 6")
        self.save(files, 6)
        assert len(list(files.path.parent.iterdir())) == 3

    def test_no_best_weights_yet(self, files):
        self.replace(files, "another run's")
        self.save(files, None)
        assert self.load(files) == (None, "another run's")

    def test_the_weights_of_the_state_are_gone(self, files):
        self.replace(files, "best of 3")
        self.save(files, 3)
        (files.path.parent / ".mine.best_of_step_3").unlink()
        with pytest.raises(CheckpointError, match="best_of_step_3: the best weights .* are gone"):
            files.restore_best(files.load())

    @pytest.mark.parametrize("has_links", [True, False])
    def test_removed_without_a_trace(self, files, monkeypatch, has_links):
        if not has_links:
            monkeypatch.setattr("os.link", raise_os_error)
        self.replace(files, "best of 3")
        self.save(files, 3)
        assert self.load(files) == (3, "best of 3")
        files.remove()
        assert list(files.path.parent.iterdir()) == [files.checkpoint]


def raise_cut_off(*args):
    raise CutOff


def raise_os_error(*args):
    raise OSError("no links here")


def saver(tmp_path, trainer, **options):
    files = StateFiles(tmp_path / "mine", tmp_path / "mine.model")
    saving = StateSaver(trainer, files, lambda: {"what": "this"}, **options)
    trainer.callbacks.append(saving)
    return files


def test_saved_after_evaluations_and_every_n_steps_between(tmp_path, monkeypatch):
    model, config, train, valid = tiny(tmp_path)
    trainer = Trainer(model, config, checkpoint=tmp_path / "mine.model", verbose=0)
    files = saver(tmp_path, trainer, save_steps=3)
    saved = []
    monkeypatch.setattr(
        StateFiles, "save", lambda self, state, best: saved.append(state.progress["result"])
    )
    trainer.fit(train, valid)
    steps = [result["num_steps"] for result in saved]
    assert steps == [3, 5, 6, 9, 10, 12], "14 steps, evaluated after 5 and 10"
    assert [len(result["history"]) for result in saved] == [0, 1, 1, 1, 2, 2]
    assert not files.path.exists()


def test_saved_every_n_minutes(tmp_path, monkeypatch):
    minutes = iter(range(1000))
    monkeypatch.setattr(
        "fuxictr.pytorch.training.state_saver.time.monotonic", lambda: 60.0 * next(minutes)
    )
    model, config, train, _ = tiny(tmp_path)
    config = TrainConfig(**{**vars(config), "eval_steps": None, "epochs": 1})
    trainer = Trainer(model, config, checkpoint=tmp_path / "mine.model", verbose=0)
    files = saver(tmp_path, trainer, save_minutes=3)
    steps = []
    monkeypatch.setattr(
        StateFiles,
        "save",
        lambda self, state, best: steps.append(state.progress["result"]["num_steps"]),
    )
    trainer.fit(train, None)
    assert steps == [3, 6, 7], "and after the evaluation"
    assert not files.path.exists()


def test_a_training_that_ended_resumes_at_its_end(tmp_path):
    """Killed after the last evaluation: nothing is trained again, the best weights are back."""
    model, config, train, valid = tiny(tmp_path)
    changes = {"early_stop_patience": 1, "eval_steps": 2}
    config = TrainConfig(**{**vars(config), **changes})
    trainer = Trainer(model, config, checkpoint=tmp_path / "mine.model", verbose=0)
    trainer.stopping.min_delta = 1.0  # no later evaluation improves by so much
    files = saver(tmp_path, trainer)
    result = trainer.fit(train, valid)
    assert trainer.stopping.should_stop and result.num_steps < 14
    other, _, train, valid = tiny(tmp_path)
    again = Trainer(other, config, checkpoint=tmp_path / "mine.model", verbose=0)
    saver(tmp_path, again)
    steps = []
    again.train_step = steps.append
    same = again.fit(train, valid, files.load())
    assert not steps
    assert (same.history, same.valid) == (result.history, result.valid)
    found, wanted = other.state_dict(), model.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_mean_loss_of_a_gpu_is_fetched_a_hundred_at_a_time():
    losses = LossMean(torch.device("meta"))
    losses._kept = torch.zeros(100, dtype=torch.float64)  # there is no GPU to hold them
    values = torch.rand(250)
    assert [losses.add(value) for value in values] == [None] * 250
    assert losses._num_steps == 200
    halfway = LossMean(torch.device("cpu"))
    halfway.load_state(json.loads(json.dumps(losses.state())))
    for each in (losses, halfway):
        assert each.collect() is None
        total = 0.0
        for value in values.tolist():
            total += value
        assert each.mean() == total / 250
    losses.reset()
    for number in range(99):
        losses.add(torch.tensor(float("inf") if number == 40 else 1.0))
    assert losses.add(torch.tensor(1.0)) == 59


@pytest.mark.parametrize(
    ("is_gradient", "message"),
    [
        (
            False,
            "epoch 1, step 1: the training loss is (nan|inf); column 'x' of the batch: 1 of 90",
        ),
        (
            True,
            "epoch 1, step 1: the training loss is 0.*; .*the gradient of 'head.weight'.* 8 of 8",
        ),
    ],
)
def test_a_bad_step_stops_before_the_weights_are_touched(tmp_path, is_gradient, message):
    model, config, train, valid = tiny(tmp_path)
    trainer = Trainer(model, config, verbose=0)
    batches = list(train)
    trainer.train_step(batches[0])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bad = batches[1]
    if is_gradient:
        model.head.weight.register_hook(lambda gradient: gradient / 0)
    else:
        bad.values_matrix[5, 0] = torch.inf
    with pytest.raises(NotFiniteError, match=message):
        trainer.train_step(bad)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
