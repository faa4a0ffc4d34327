"""A training step for a GPU, without one: nothing is left on the host, and nothing waits."""

from __future__ import annotations

import pytest
import torch

from fuxictr.config import TrainConfig
from fuxictr.pytorch.dataloaders import BatchIterator, ColumnarData
from fuxictr.pytorch.layers import FeatureEmbedding, FeatureEmbeddingDict
from fuxictr.pytorch.layers.interactions import generative_cin
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import OPTIMIZERS
from fuxictr.pytorch.training.trainer import Trainer
from tests.pytorch.pretended_cuda import CUDA, DeviceError, OnlyOnDevice, pretended_cuda
from tests.pytorch.tiny import TinyModel, make, tiny_data, tiny_map
from tests.zoo import cases
from tests.zoo.test_field_types import DEMO, MIXED, mixed_data, mixed_map
from tests.zoo.test_field_types import build as build_mixed

FM = next(case for case in DEMO if case.expid == "FM_demo_gen")
PENALTIES = ("embedding_regularizer=l1_l2(0.1, 0.2)", "net_regularizer=0.3")


def train(model: BaseModel, data: ColumnarData, **keys) -> OnlyOnDevice:
    """Trains an epoch on a pretended GPU, and scores the rows; returns what watched over it."""
    batch_size = data.num_rows // 2 - 1  # two batches, and a last one of two rows
    config = TrainConfig(batch_size=batch_size, learning_rate=0.01, eval_steps=1000, **keys)
    num_fields = model.feature_map.num_fields
    # The order of an epoch's rows is drawn on the host, and so are the fields that are predicted.
    allowed = [("_to_copy", (data.num_rows,)), ("_to_copy", (num_fields,))]
    with pretended_cuda():
        trainer = Trainer(model, config, CUDA, verbose=0)
        batches = BatchIterator(data, batch_size, True, seed=3, device=CUDA)
        scored = BatchIterator(data, batch_size + 2, device=CUDA)
        with OnlyOnDevice(frozenset(allowed)) as watch:
            trainer._train_epoch(batches, None, 1)
            scores, labels = trainer._own_scores(scored, "", True)
    assert trainer._result.num_steps == trainer._losses.num_kept == len(batches) == 3
    assert {t.device.type for t in (*model.state_dict().values(), scores, labels)} == {"meta"}
    held = [w.grad for w in model.parameters() if w.requires_grad]
    assert all(grad is None or grad.is_meta for grad in held) and any(g is not None for g in held)
    return watch


@pytest.mark.parametrize("amp", ["none", "bf16"])
@pytest.mark.parametrize("case", DEMO, ids=str)
def test_every_backbone_steps_on_the_device_alone(case, amp):
    feature_map = mixed_map()
    model = build_mixed(case._replace(overrides=(*case.overrides, *PENALTIES)), feature_map)
    assert {p for _, p, _ in model.penalized_parameters()} == {1, 2}
    watch = train(model, mixed_data(feature_map), amp=amp)
    assert watch.num_operators > 300


@pytest.mark.parametrize("case", cases.VARIANTS, ids=str)
def test_every_variant_steps_on_the_device_alone(case):
    model, _, data = cases.build(case)
    train(model, data)


@pytest.mark.parametrize("case", MIXED, ids=str)
def test_fields_of_other_widths_step_on_the_device_alone(case):
    feature_map = mixed_map()
    for name, width in {"vector": 3, "item": 2, "words": 7, "price": 1}.items():
        feature_map.features[name]["embedding_dim"] = width
    train(build_mixed(case, feature_map), mixed_data(feature_map))


@pytest.mark.parametrize("table_updates", ["auto", "dense"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_steps_on_the_device_alone(optimizer, table_updates):
    model, _, data = cases.build(FM)
    train(model, data, optimizer=optimizer, table_updates=table_updates)


@pytest.mark.parametrize("kind", [FeatureEmbedding, FeatureEmbeddingDict])
def test_chosen_fields_are_embedded_on_the_device_alone(kind):
    feature_map = mixed_map()

    class Chosen(BaseModel):
        def __init__(self):
            super().__init__(feature_map)
            self.layer = kind(feature_map, 4)

        def forward(self, inputs):
            found = self.layer(inputs, feature_type=["sequence", "numeric"])
            if kind is FeatureEmbeddingDict:
                found = self.layer.dict2tensor(found, feature_type=["numeric", "sequence"])
            return self.output(found.flatten(1).sum(dim=1, keepdim=True))

    train(Chosen(), mixed_data(feature_map))


def test_a_gpu_forms_outer_products_in_larger_pieces():
    width, rows = 1 << 10, torch.empty(1 << 17, 2)
    pieces = list(generative_cin._chunks(rows, width))
    with pretended_cuda():
        assert 128 * len(list(generative_cin._chunks(rows.to(CUDA), width))) == len(pieces)


@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_that_do_not_fit_are_pinned_and_copied_without_waiting(monkeypatch, shuffle):
    data = tiny_data(tiny_map())
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: pinned.append(t.shape) or t.clone())
    with pretended_cuda() as mode:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (data.num_bytes, 0))
        batches = BatchIterator(data, 90, shuffle, device=CUDA)
        assert batches.data.ids.device.type == "cpu"
        rows = [(batch.num_rows, batch.ids.is_cuda, batch.num_global_rows) for batch in batches]
    assert rows == [(90, True, 90)] * 6 + [(60, True, 60)]
    assert pinned == [shape for size, *_ in rows for shape in ((size, 1), (size, 2))]
    assert mode.copies == [(tuple(shape), False) for shape in pinned]


class Broken(TinyModel):
    """A model with one of the mistakes that only a GPU would show."""

    mistake = ""

    def __init__(self, feature_map, **params):
        super().__init__(feature_map, **params)
        self.scale = torch.tensor(0.5)
        self.weights = torch.ones(1, 1)
        if self.mistake == "buffer":
            self.register_buffer("known", torch.tensor([0.5]), persistent=False)

    def forward(self, inputs):
        outputs = super().forward(inputs)
        logit = outputs["logit"]
        if self.mistake == "buffer":
            return self.output(logit * self.known)
        if self.mistake == "number on the host":
            return self.output(logit * self.scale)
        if self.mistake == "tensor on the host":
            return self.output(logit * self.weights)
        if self.mistake == "copy":
            return self.output(logit * self.weights.to(logit.device, non_blocking=True))
        if self.mistake == "new tensor":
            return self.output(logit * torch.ones(1))
        if self.mistake == "list":
            return self.output(logit[:, [0]])
        if self.mistake == "numbers":
            return self.output(logit * torch.tensor([0.5], device=logit.device))
        if self.mistake == "item":
            return self.output(logit / logit.detach().abs().max().item())
        if self.mistake == "branch":
            return self.output(logit if logit.detach().max() < 100 else logit / 100)
        if self.mistake == "mask":
            return self.output(logit[logit[:, 0] == logit[:, 0]])
        if self.mistake == "backward":
            logit.register_hook(lambda gradient: gradient * self.weights)
            return outputs
        assert self.mistake == "unique"
        return self.output(logit + inputs["a"].unique().numel())


MISTAKES = {
    "number on the host": r"mul: reads a tensor of shape \(\) from the host",
    "tensor on the host": r"mul: reads a tensor of shape \(1, 1\) from the host",
    "copy": r"_to_copy: reads a tensor of shape \(1, 1\) from the host",
    "new tensor": r"mul: reads a tensor of shape \(1,\) from the host",
    "list": "__getitem__: copies numbers of the host",
    "numbers": "tensor: copies numbers of the host",
    "item": "_local_scalar_dense: the host would wait",
    "branch": "is_nonzero|_local_scalar_dense: the host would wait",
    "mask": "the host would wait",
    "backward": r"mul: reads a tensor of shape \(1, 1\) from the host",
    "unique": "_unique2: the host would wait",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_only_a_gpu_would_show_is_found(mistake, monkeypatch):
    monkeypatch.setattr(Broken, "mistake", mistake)
    feature_map = tiny_map()
    with pytest.raises(DeviceError, match=MISTAKES[mistake]):
        train(make(feature_map, kind=Broken), tiny_data(feature_map))


def test_a_buffer_moves_with_the_model(monkeypatch):
    monkeypatch.setattr(Broken, "mistake", "buffer")
    feature_map = tiny_map()
    train(make(feature_map, kind=Broken), tiny_data(feature_map))


def test_an_optimizer_that_reads_the_loss_is_found():
    class Reading(torch.optim.SGD):
        def step(self, closure=None):
            assert all(group["params"][0].grad.sum().item() < 9 for group in self.param_groups)

    feature_map = tiny_map()
    model = make(feature_map)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPTIMIZERS, "sgd", Reading)
        with pytest.raises(DeviceError, match="the host would wait"):
            train(model, tiny_data(feature_map), optimizer="sgd")
