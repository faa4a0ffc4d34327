"""Every backbone, variant and type of field on a batch without rows: a rank may get none of one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fuxictr.pytorch.layers import FeatureEmbeddingDict, MaskedAveragePooling, MaskedSumPooling
from fuxictr.pytorch.layers.embeddings import FieldBlocks
from fuxictr.pytorch.losses import add_penalty_gradients
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.optim.lazy_adam import LazyAdam
from tests.zoo.cases import CASES, build
from tests.zoo.test_field_types import CASES as MIXED_CASES
from tests.zoo.test_field_types import DEMO, MIXED, mixed_data, mixed_map
from tests.zoo.test_field_types import build as build_mixed

# Criteo and Avazu expids differ from the demo's in widths alone, which the suite shrinks.
ON_DEMO = [case for case in CASES if "_demo" in case.expid]
# Widths of their own for fields of all types, which only cross networks take.
WIDTHS = {"vector": 3, "item": 2, "words": 7, "price": 1}
each_number_format = pytest.mark.parametrize("amp", [False, True], ids=["float32", "bf16"])


def backward_of_sum(model: BaseModel, batch, amp: bool = False) -> None:
    """Does what a rank does with its rows: the sum of their losses, and its gradients."""
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        outputs = model(batch)
    assert all(values.shape == (batch.num_rows, 1) for values in outputs.values())
    targets = model.get_labels(batch).to(outputs["logit"])
    F.binary_cross_entropy_with_logits(outputs["logit"], targets, reduction="sum").backward()


def check_empty(model: BaseModel, data, amp: bool = False) -> None:
    """Goes forward and backward on no rows: no gradient but zeros, and no NaN is left behind."""
    for is_training in (True, False):
        model.train(is_training)
        backward_of_sum(model, data.rows(slice(0, 0)), amp)
        for name, weight in model.named_parameters():
            assert weight.grad is None or not weight.grad.any(), name
        for name, values in model.state_dict().items():
            assert not values.is_floating_point() or values.isfinite().all(), name


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_model_takes_no_rows(case):
    model, _, data = build(case)
    check_empty(model, data)


@pytest.mark.parametrize("case", ON_DEMO, ids=str)
def test_every_model_takes_no_rows_in_bfloat16(case):
    model, _, data = build(case)
    check_empty(model, data, amp=True)


@each_number_format
@pytest.mark.parametrize("case", MIXED_CASES, ids=str)
def test_all_types_of_fields_take_no_rows(case, amp):
    """Sequences of both poolings, vectors, tables shared and given, frozen and trained ones."""
    feature_map = mixed_map()
    check_empty(build_mixed(case, feature_map), mixed_data(feature_map), amp)


@each_number_format
@pytest.mark.parametrize("case", MIXED, ids=str)
def test_fields_of_different_widths_take_no_rows(case, amp):
    feature_map = mixed_map()
    for name, width in WIDTHS.items():
        feature_map.features[name]["embedding_dim"] = width
    check_empty(build_mixed(case, feature_map), mixed_data(feature_map), amp)


class OwnPooling(BaseModel):
    """A model that pools its sequences itself, each position being a vector of its own."""

    def __init__(self, feature_map, embedding_dim=4, **params):
        super().__init__(feature_map, **params)
        self.embedding_layer = FeatureEmbeddingDict(feature_map, embedding_dim)
        self.poolings = nn.ModuleDict(
            {"clicks": MaskedAveragePooling(), "texts": MaskedSumPooling()}
        )
        self.head = nn.Linear(feature_map.sum_emb_out_dim(embedding_dim), 1)
        self.reset_parameters()

    def forward(self, inputs):
        found = self.embedding_layer(inputs)
        pooled = {name: layer(found[name]) for name, layer in self.poolings.items()}
        vectors = self.embedding_layer.dict2tensor({**found, **pooled}, flatten_emb=True)
        return self.output(self.head(vectors))


@each_number_format
def test_sequences_without_pooling_take_no_rows(amp):
    feature_map = mixed_map()
    for name in ("clicks", "texts"):
        feature_map.features[name]["feature_encoder"] = None
    data = mixed_data(feature_map)
    model = OwnPooling(feature_map)
    found = model.embedding_layer(data.rows(slice(0, 0)))
    assert found["clicks"].shape == (0, 3, 4)
    assert found["item"].shape == (0, 4)
    check_empty(model, data, amp)


@pytest.mark.parametrize("penalty", [None, 1e-3])
@pytest.mark.parametrize("case", DEMO, ids=str)
def test_a_lazy_step_on_no_rows_is_a_step_of_adam(case, penalty):
    """It moves all rows that were read before, as a gradient of zero does."""
    found = []
    for is_lazy in (True, False):
        model, _, data = build(case)
        model.double().train()
        model._embedding_regularizer = penalty
        blocks = [m for m in model.modules() if isinstance(m, FieldBlocks)] if is_lazy else []
        penalties = list(model.penalized_parameters())
        optimizer = LazyAdam(model.parameters(), 1e-3, blocks, penalties)
        torch.manual_seed(0)
        for rows in (slice(0, 6), slice(0, 0), slice(2, 9)):
            optimizer.zero_grad()
            backward_of_sum(model, data.rows(rows))
            add_penalty_gradients(penalties)
            optimizer.step()
        found.append(model.state_dict())
    for key, expected in found[1].items():
        torch.testing.assert_close(found[0][key], expected, rtol=0, atol=1e-12, msg=key)
