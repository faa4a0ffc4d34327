"""Layers of FuxiCTR's names: the same numbers and names of weights as FuxiCTR 2.3.10."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

FACTS = Path(__file__).parents[1] / "fuxictr_facts"
RECORDED = dict(np.load(FACTS / "layers.npz"))
NAMES = sorted({key.partition("/")[0] for key in RECORDED})


@pytest.fixture(scope="module")
def facts():
    sys.path.insert(0, str(FACTS))
    try:
        import record_layers

        return record_layers
    finally:
        sys.path.remove(str(FACTS))


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_gives_what_fuxictr_gives(name, facts):
    layer, shapes = facts.cases()[name]
    layer = layer.double().train()
    parameters = dict(layer.named_parameters())
    start = f"{name}/weight/"
    given = {key.removeprefix(start): v for key, v in RECORDED.items() if key.startswith(start)}
    assert parameters.keys() == given.keys()
    for key, value in given.items():
        assert parameters[key].shape == value.shape
        parameters[key].data = torch.tensor(value)
    inputs = [torch.tensor(RECORDED[f"{name}/input/{i}"]) for i in range(len(shapes))]
    output = layer(*inputs, **facts.extra_arguments(name))
    output = output[0] if isinstance(output, tuple) else output
    expected = torch.tensor(RECORDED[f"{name}/output"])
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-12)


def test_every_case_is_recorded(facts):
    assert sorted(facts.cases()) == NAMES
