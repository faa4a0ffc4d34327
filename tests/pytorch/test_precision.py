"""Keys amp and matmul_precision: where they hold, and that they leave float32 as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from fuxictr.analysis.recorder import Recorder
from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError
from fuxictr.pytorch.dataloaders import BatchIterator
from fuxictr.pytorch.precision import at_least_float32, autocast_dtype, matmul_precision
from fuxictr.pytorch.training.trainer import Callback, Trainer
from tests.pytorch.tiny import TinyModel, make, tiny_data, tiny_map


def fit(config, kind=TinyModel, **options):
    feature_map = tiny_map()
    data = tiny_data(feature_map)
    trainer = Trainer(make(feature_map, kind=kind), config, verbose=0, **options)
    result = trainer.fit(BatchIterator(data, 90, True, seed=3), BatchIterator(data, 128))
    return trainer, result


def weights(trainer):
    return list(trainer.model.state_dict().values())


def test_the_defaults_change_no_bit():
    words = {"amp": "none", "matmul_precision": "highest", "compile": False}
    (plain, first), (named, second) = (
        fit(TrainConfig(batch_size=90, learning_rate=0.05, epochs=3, **keys))
        for keys in ({}, words)
    )
    assert first.history == second.history
    assert all(map(torch.equal, weights(plain), weights(named)))

    feature_map = tiny_map()
    model = make(feature_map)
    adam = torch.optim.Adam(model.parameters(), lr=0.05, fused=True)
    batches = BatchIterator(tiny_data(feature_map), 90, True, seed=3)
    for batch in (batch for _ in range(3) for batch in batches):
        adam.zero_grad()
        loss = nn.BCEWithLogitsLoss()(model(batch)["logit"], batch["click"].view(-1, 1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        adam.step()
    expected = {name: tensor for name, tensor in model.state_dict().items()}
    last, _ = fit(TrainConfig(batch_size=90, learning_rate=0.05, epochs=3, save_best_only=False))
    for name, tensor in last.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


class DtypeNotes(TinyModel):
    """Notes in which dtype its linear layer computes, and that its loss is float32."""

    dtypes: set

    def forward(self, inputs):
        outputs = super().forward(inputs)
        hidden = self.head(self.embedding_layer(inputs).flatten(1))
        self.dtypes = {*getattr(self, "dtypes", ()), (self.training, hidden.dtype)}
        return outputs


@pytest.mark.parametrize(("amp", "dtype"), [("none", torch.float32), ("bf16", torch.bfloat16)])
def test_training_evaluation_and_prediction_run_in_the_dtype_of_amp(amp, dtype):
    trainer, result = fit(TrainConfig(batch_size=90, epochs=1, amp=amp), DtypeNotes)
    assert trainer.model.dtypes == {(True, dtype), (False, dtype)}
    data = tiny_data(trainer.model.feature_map)
    trainer.model.dtypes = set()
    assert trainer.predict(BatchIterator(data, 90)).dtype == "float32"
    assert trainer.model.dtypes == {(False, dtype)}
    state = [tensor for values in trainer.optimizer.state.values() for tensor in values.values()]
    gradients = [p.grad for p in trainer.model.parameters()]
    assert {t.dtype for t in [*weights(trainer), *state, *gradients]} == {torch.float32}
    assert not torch.is_autocast_enabled("cpu")


class Looks(Callback):
    """Records embeddings after every third step."""

    def __init__(self):
        self.model, self.records = None, []

    def is_due(self, step):
        return step % 3 == 0

    def after_step(self, epoch, step):
        with torch.inference_mode(), Recorder(self.model.eval()) as recorder:
            self.model(tiny_data(self.model.feature_map).rows(slice(0, 5)))
            self.records.append(recorder.collect()["model/hidden"])


class Recording(TinyModel):
    def forward(self, inputs):
        self.record("hidden", self.head(self.embedding_layer(inputs).flatten(1)))
        return super().forward(inputs)


def test_callbacks_record_in_float32_and_change_nothing():
    config = TrainConfig(batch_size=90, epochs=2, amp="bf16", save_best_only=False)
    looks = Looks()
    feature_map = tiny_map()
    looks.model = make(feature_map, kind=Recording)
    data = tiny_data(feature_map)
    watched = Trainer(looks.model, config, verbose=0, callbacks=[looks])
    result = watched.fit(BatchIterator(data, 90, True, seed=3), BatchIterator(data, 128))
    plain, expected = fit(config, Recording)
    assert result.history == expected.history
    assert all(map(torch.equal, weights(watched), weights(plain)))
    assert len(looks.records) == 4
    rounded = torch.from_numpy(looks.records[-1]).bfloat16().float().numpy()
    assert not np.array_equal(looks.records[-1], rounded)


def test_records_under_autocast_can_be_collected():
    model = make(tiny_map(), kind=Recording)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode(), Recorder(model) as recorder:
        model(tiny_data(model.feature_map).rows(slice(0, 5)))
        assert recorder.collect()["model/hidden"].dtype == np.float32


def test_models_that_return_probabilities_train_in_bfloat16():
    class Probabilities(TinyModel):
        def forward(self, inputs):
            hidden = self.head(self.embedding_layer(inputs).flatten(1))
            return {"y_pred": self.output_activation(hidden)}

    _, result = fit(
        TrainConfig(batch_size=90, epochs=5, learning_rate=0.05, amp="bf16"), Probabilities
    )
    assert result.valid["AUC"] > 0.7


class PrecisionNotes(Callback):
    def __init__(self):
        self.found = []

    def is_due(self, step):
        return True

    def after_step(self, epoch, step):
        self.found.append(torch.get_float32_matmul_precision())


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_matmul_precision_holds_while_the_trainer_works_and_no_longer(precision):
    class Notes(TinyModel):
        def forward(self, inputs):
            if not self.training:
                evaluated.append(torch.get_float32_matmul_precision())
            return super().forward(inputs)

    evaluated, notes = [], PrecisionNotes()
    before = "high" if precision == "highest" else "highest"
    with matmul_precision(before):
        config = TrainConfig(batch_size=200, epochs=1, matmul_precision=precision)
        trainer, _ = fit(config, Notes, callbacks=[notes])
        assert torch.get_float32_matmul_precision() == before
        trainer.evaluate(BatchIterator(tiny_data(trainer.model.feature_map), 600))
        assert torch.get_float32_matmul_precision() == before
    assert set(notes.found) == set(evaluated) == {precision}


def test_matmul_precision_is_restored_after_an_exception():
    class Fails(TinyModel):
        def forward(self, inputs):
            raise ZeroDivisionError

    config = TrainConfig(matmul_precision="medium")
    with pytest.raises(ZeroDivisionError):
        fit(config, Fails)
    data = tiny_data(tiny_map())
    with pytest.raises(ZeroDivisionError):
        Trainer(make(tiny_map(), kind=Fails), config, verbose=0).predict(BatchIterator(data, 9))
    assert torch.get_float32_matmul_precision() == "highest"


def test_dtypes():
    assert at_least_float32(torch.ones(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert at_least_float32(torch.ones(1, dtype=torch.float64)).dtype == torch.float64
    plain = torch.ones(1)
    assert at_least_float32(plain) is plain
    assert autocast_dtype(plain) == autocast_dtype(plain.to("meta")) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert autocast_dtype(plain) == torch.bfloat16
        assert autocast_dtype(plain.to("meta")) == torch.float32


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("amp", "fp16", r"one of \[none, bf16\]"),
        ("amp", True, r"one of \[none, bf16\]"),
        ("matmul_precision", "tf32", "highest, high, medium"),
        ("matmul_precision", None, "highest, high, medium"),
        ("compile", "yes", r"bool | one of \[auto\]"),
        ("compile", None, r"bool | one of \[auto\]"),
    ],
)
def test_wrong_words_are_errors(key, value, allowed):
    with pytest.raises(ConfigError, match=f"key '{key}': found .*allowed: {allowed}"):
        TrainConfig.from_params({key: value})


def test_null_is_no_amp():
    assert TrainConfig.from_params({"amp": None}) == TrainConfig()
