"""Every backbone and variant in bfloat16 (`amp: bf16`) beside float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fuxictr.config import TrainConfig
from fuxictr.pytorch.dataloaders import BatchIterator
from fuxictr.pytorch.layers.interactions import generative_cin
from fuxictr.pytorch.training.trainer import Trainer
from tests.zoo.cases import CASES, Case, build
from tests.zoo.test_field_types import DEMO, mixed_data, mixed_map
from tests.zoo.test_field_types import build as build_mixed

NUM_STEPS = 5
# Criteo and Avazu expids differ from the demo's in widths alone, which the suite shrinks.
ON_DEMO = [case for case in CASES if "_demo" in case.expid]


def train(model, data, amp: str) -> tuple[np.ndarray, np.ndarray, torch.nn.Module]:
    """Returns what an untrained model predicts, the losses of a few steps, and the model."""
    config = TrainConfig(batch_size=5, learning_rate=0.01, amp=amp, net_regularizer=1e-3)
    trainer = Trainer(model, config, verbose=0)
    predicted = trainer.predict(BatchIterator(data, 5))
    model.train()
    torch.manual_seed(0)
    losses = [trainer.train_step(data.rows(slice(None))) for _ in range(NUM_STEPS)]
    assert {loss.dtype for loss in losses} == {torch.float32}
    return predicted, torch.stack(losses).numpy(), model


def check(build_model) -> None:
    plain, losses, _ = train(*build_model(), "none")
    predicted, found, model = train(*build_model(), "bf16")
    assert predicted.dtype == np.float32
    assert np.isfinite(found).all()
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    np.testing.assert_allclose(found, losses, atol=0.1)
    np.testing.assert_allclose(predicted, plain, atol=0.1)


@pytest.mark.parametrize("case", ON_DEMO, ids=str)
def test_bfloat16_trains_close_to_float32(case):
    def build_model():
        model, _, data = build(case, std=0.2)
        return model, data

    check(build_model)


@pytest.mark.parametrize("case", DEMO, ids=str)
def test_all_types_of_fields_train_in_bfloat16(case):
    def build_model():
        feature_map = mixed_map()
        model = build_mixed(case, feature_map)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.4)
        return model, mixed_data(feature_map)

    check(build_model)


def test_fields_of_different_widths_train_in_bfloat16():
    def build_model():
        case = Case("DCNv2", "DCNv2_demo_gen")
        model, _, data = build(case, std=0.2, widths={"b": 3, "x": 3, "c": 2})
        return model, data

    check(build_model)


@pytest.mark.parametrize("case", DEMO, ids=str)
def test_evaluation_is_a_plain_autocast_forward(case):
    model, _, data = build(case, std=0.2)
    trainer = Trainer(model, TrainConfig(amp="bf16"), verbose=0)
    found = trainer.predict(BatchIterator(data, 5))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        outputs = [model.eval()(batch) for batch in BatchIterator(data, 5)]
    assert {value.dtype for output in outputs for value in output.values()} == {torch.float32}
    assert np.array_equal(found, torch.cat([output["y_pred"][:, 0] for output in outputs]).numpy())
    if case.model != "FM" or "_gen" in case.expid:  # FM multiplies no matrices
        with torch.inference_mode():
            plain = torch.cat([model(batch)["y_pred"][:, 0] for batch in BatchIterator(data, 5)])
        assert not np.array_equal(found, plain.numpy())


def cin_layer(rows: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """Returns a CIN layer of width 2 with weights of 1, and embeddings of 1."""
    layer = generative_cin.CINLayer(3, 3, 2, torch.nn.Identity())
    torch.nn.init.ones_(layer.weight)
    return layer, torch.ones(rows, 3, 4, requires_grad=True)


def test_cin_multiplies_in_bfloat16_and_sums_weight_gradients_in_float32(monkeypatch):
    monkeypatch.setattr(generative_cin, "_CHUNK_NUMBERS", 9)
    factors = []
    plain_outer = generative_cin._outer

    def outer(z, x):
        factors.append((len(z), z.dtype, x.dtype))
        return plain_outer(z, x)

    monkeypatch.setattr(generative_cin, "_outer", outer)
    layer, embedded = cin_layer(rows=300)
    with torch.autocast("cpu", torch.bfloat16):
        maps = layer(embedded, embedded)
    maps.sum().backward()
    assert set(factors) == {(2, torch.bfloat16, torch.bfloat16)}
    assert maps.dtype == torch.float32
    assert (maps == 9).all()
    # 1,200 ones: a sum in bfloat16 stops at 256.
    assert (layer.weight.grad == 1200).all()
    assert layer.bias.grad.tolist() == [1200.0, 1200.0]
    # Each element is one of 3 in z and in x, and two maps of weight 1 read both.
    assert (embedded.grad == 2 * 3 * 2).all()


@pytest.mark.parametrize("chunk", [1 << 19, 7 * 25])
def test_cin_in_bfloat16_follows_the_plain_sums(monkeypatch, chunk):
    monkeypatch.setattr(generative_cin, "_CHUNK_NUMBERS", chunk)
    torch.manual_seed(0)
    layer = generative_cin.CINLayer(5, 4, 3, torch.nn.Identity())
    first, current = torch.randn(40, 5, 6), torch.randn(40, 4, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        maps = layer(first, current)
    maps.square().sum().backward()
    found = [maps.detach(), current.grad, layer.weight.grad]
    plain = layer.double()
    plain.zero_grad()
    inputs = current.detach().double().requires_grad_()
    expected = torch.einsum("ihj,bid,bjd->bhd", plain.weight, first.double(), inputs)
    expected.square().sum().backward()
    for one, two in zip(found, [expected.detach(), inputs.grad, plain.weight.grad], strict=True):
        error = (one.double() - two).norm() / two.norm()
        assert 1e-5 < error < 1e-2
