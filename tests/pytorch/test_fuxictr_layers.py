"""Layers of FuxiCTR's names against plain loops in float64, and their gradients."""

import itertools
import math

import pytest
import torch
from torch import nn

from fuxictr.errors import ConfigError
from fuxictr.pytorch import layers
from fuxictr.pytorch.torch_utils import get_activation

B, F, D = 3, 4, 5
PAIRS = list(itertools.combinations(range(F), 2))


def drawn(layer: nn.Module) -> nn.Module:
    """The layer in double precision, with weights that are not small."""
    torch.manual_seed(0)
    for weight in layer.double().parameters():
        nn.init.normal_(weight)
    return layer


def numbers(*shape: int) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def check(layer, expected, *inputs):
    """Compares with the plain loop, and the gradients with differences."""
    torch.testing.assert_close(layer(*inputs), expected, rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradcheck(layer, inputs)


@pytest.mark.parametrize(
    "output", ["product_sum", "bi_interaction", "inner_product", "elementwise_product"]
)
def test_inner_products(output):
    v = numbers(B, F, D)
    products = torch.stack([v[:, i] * v[:, j] for i, j in PAIRS], dim=1)
    expected = {
        "product_sum": products.sum(dim=(1, 2)).unsqueeze(1),
        "bi_interaction": products.sum(dim=1),
        "inner_product": products.sum(dim=2),
        "elementwise_product": products,
    }
    check(layers.InnerProductInteraction(F, output), expected[output], v)


def test_cross_net():
    layer, x = drawn(layers.CrossNet(D, 2)), numbers(B, D)
    expected = []
    for row in x:
        current = row
        for cross in layer.cross_net:
            current = current + (cross.weight.weight[0] @ current) * row + cross.bias
        expected.append(current)
    check(layer, torch.stack(expected), x)


def test_cross_net_v2():
    layer, x = drawn(layers.CrossNetV2(D, 2)), numbers(B, D)
    expected = []
    for row in x:
        current = row
        for cross in layer.cross_layers:
            current = current + row * (cross.weight @ current + cross.bias)
        expected.append(current)
    check(layer, torch.stack(expected), x)


@pytest.mark.parametrize("batch_size", [1, B])
def test_cross_net_mix(batch_size):
    layer, x = drawn(layers.CrossNetMix(D, 2, low_rank=3, num_experts=2)), numbers(batch_size, D)
    expected = []
    for row in x:
        current = row
        for number in range(2):
            u, v, c = layer.U_list[number], layer.V_list[number], layer.C_list[number]
            gates = torch.stack([gate.weight[0] @ current for gate in layer.gating]).softmax(0)
            experts = [
                row * (u[e] @ (c[e] @ (v[e].T @ current).tanh()).tanh() + layer.bias[number][:, 0])
                for e in range(2)
            ]
            current = current + sum(g * out for g, out in zip(gates, experts, strict=True))
        expected.append(current)
    check(layer, torch.stack(expected), x)


def test_compressed_interaction_net():
    layer = drawn(layers.CompressedInteractionNet(F, [3, 2], output_dim=2))
    v = numbers(B, F, D)
    sums, current = [], v
    for conv in layer.cin_layer.values():
        maps = []
        for k in range(conv.out_channels):
            weight = conv.weight[k, :, 0].view(F, -1)
            total = conv.bias[k]
            for h, m in itertools.product(range(F), range(current.shape[1])):
                total = total + weight[h, m] * v[:, h] * current[:, m]
            maps.append(total)
        current = torch.stack(maps, dim=1)
        sums.append(current.sum(dim=2))
    check(layer, layer.fc(torch.cat(sums, dim=1)), v)


@pytest.mark.parametrize("kind", ["field_all", "field_each", "field_interaction"])
def test_bilinear(kind):
    layer, v = drawn(layers.BilinearInteraction(F, D, kind)), numbers(B, F, D)
    matrices = {
        "field_all": lambda pair, i: layer.bilinear_W,
        "field_each": lambda pair, i: layer.bilinear_W[i],
        "field_interaction": lambda pair, i: layer.bilinear_W[pair],
    }
    expected = [(v[:, i] @ matrices[kind](p, i)) * v[:, j] for p, (i, j) in enumerate(PAIRS)]
    check(layer, torch.stack(expected, dim=1), v)


@pytest.mark.parametrize("kind", ["circular_convolution", "circular_correlation"])
def test_holographic(kind):
    v, sign = numbers(B, F, D), -1 if kind == "circular_convolution" else 1

    def product(a, b):
        rows = [
            sum(a[:, m] * b[:, (k + sign * m if sign > 0 else k - m) % D] for m in range(D))
            for k in range(D)
        ]
        return torch.stack(rows, dim=1)

    expected = torch.stack([product(v[:, i], v[:, j]) for i, j in PAIRS], dim=1)
    check(layers.HolographicInteraction(F, kind), expected, v)


def test_holographic_by_hand():
    v = torch.tensor([[[1.0, 2, 3], [4, 5, 6]]])
    found = [
        layers.HolographicInteraction(2, f"circular_{kind}")(v).flatten().tolist()
        for kind in ("convolution", "correlation")
    ]
    assert found == [pytest.approx([31, 31, 28]), pytest.approx([32, 29, 29])]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_interaction_machine(order):
    layer, v = drawn(layers.InteractionMachine(D, order)), numbers(B, F, D)
    sums = []
    for k in range(1, order + 1):
        total = torch.zeros(B, D, dtype=torch.float64)
        for chosen in itertools.combinations(range(F), k):
            total = total + math.prod(v[:, i] for i in chosen)
        sums.append(total)
    check(layer, layer.fc(torch.cat(sums, dim=1)), v)


def test_squeeze_excitation():
    layer, v = drawn(layers.SqueezeExcitation(F, 2, "Sigmoid")), numbers(B, F, D)
    first, second = layer.excitation[0].weight, layer.excitation[2].weight
    gates = [torch.sigmoid(second @ (first @ row.mean(dim=1)).relu()) for row in v]
    check(layer, torch.stack([r * g[:, None] for r, g in zip(v, gates, strict=True)]), v)


def test_attention():
    q, k, v = (numbers(B, n, D) * s for n, s in ((2, 1), (F, 0.5), (F, 2)))
    mask = torch.ones(B, 2, F)
    mask[1, :, 2:] = 0
    output, weights = layers.ScaledDotProductAttention()(q, k, v, scale=2.0, mask=mask)
    for b, i in itertools.product(range(B), range(2)):
        seen = [j for j in range(F) if mask[b, i, j]]
        scores = torch.stack([q[b, i] @ k[b, j] / 2 for j in seen]).softmax(0)
        expected = sum(s * v[b, j] for s, j in zip(scores, seen, strict=True))
        torch.testing.assert_close(output[b, i], expected)
        torch.testing.assert_close(weights[b, i, seen], scores)


@pytest.mark.parametrize("use_softmax", [False, True])
def test_din_attention(use_softmax):
    layer = drawn(layers.DIN_Attention(D, [4], "Tanh", use_softmax=use_softmax))
    target, history = numbers(B, D), numbers(B, F, D) * 2
    mask = torch.ones(B, F)
    mask[0, 1:] = 0
    for b in range(B):
        seen = [j for j in range(F) if mask[b, j]]
        t = target[b]
        scores = [layer.attention_layer(torch.cat([t, h, t - h, t * h])) for h in history[b, seen]]
        weights = torch.cat(scores)
        weights = weights.softmax(0) if use_softmax else weights
        found = layer(target, history, mask)[b]
        torch.testing.assert_close(found, weights @ history[b, seen])


@pytest.mark.parametrize("keys", [{}, {"use_scale": False}, {"use_qkvo": False}])
def test_target_attention(keys):
    heads, width = (1, D) if keys.get("use_qkvo") is False else (2, 6)
    layer = drawn(layers.MultiHeadTargetAttention(D, 6, heads, **keys))
    target, history = numbers(B, D), numbers(B, F, D) * 2
    mask = torch.ones(B, F)
    mask[2, 1:] = 0
    size = width // heads
    for b in range(B):
        seen = [j for j in range(F) if mask[b, j]]
        maps = (layer.W_q, layer.W_k, layer.W_v) if layer.use_qkvo else [nn.Identity()] * 3
        q, k, v = (m(x) for m, x in zip(maps, (target[b], *[history[b, seen]] * 2), strict=True))
        parts = []
        for h in range(heads):
            cut = slice(h * size, (h + 1) * size)
            scores = k[:, cut] @ q[cut] / (size**0.5 if keys.get("use_scale", True) else 1)
            parts.append(scores.softmax(0) @ v[:, cut])
        expected = torch.cat(parts)
        expected = layer.W_o(expected) if layer.use_qkvo else expected
        torch.testing.assert_close(layer(target, history, mask)[b], expected)


def test_dice():
    layer, x = drawn(layers.Dice(D)), numbers(B, D)
    p = torch.sigmoid((x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-9).sqrt())
    torch.testing.assert_close(layer(x), p * x + layer.alpha * (1 - p) * x)


def test_k_max_pooling_keeps_the_order():
    found = layers.KMaxPooling(2, dim=1)(torch.tensor([[3.0, 1, 5, 4]]))
    assert found.tolist() == [[5, 4]]


def test_average_pooling_with_a_mask():
    x = torch.tensor([[[2.0, 4], [4, 8], [0, 0]], [[0, 0], [0, 0], [0, 0]]])
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    assert layers.MaskedAveragePooling()(x, mask).tolist() == [[3, 6], [0, 0]]


def test_factorization_machine_is_its_two_parts():
    from tests.pytorch.tiny import tiny_data, tiny_map

    feature_map = tiny_map()
    layer = drawn(layers.FactorizationMachine(feature_map))
    batch = {"a": tiny_data(feature_map).ids[:B, 0], "x": torch.ones(B, dtype=torch.float64)}
    v = numbers(B, 2, D)
    expected = layer.lr_layer(batch) + (v[:, 0] * v[:, 1]).sum(dim=1, keepdim=True)
    torch.testing.assert_close(layer(batch, v), expected)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: layers.InnerProductInteraction(F, "sum"), "output: found 'sum', allowed: prod"),
        (lambda: layers.BilinearInteraction(F, D, "all"), "bilinear_type: found 'all', allowed"),
        (lambda: layers.HolographicInteraction(F, "x"), "interaction_type: found 'x', allowed"),
        (lambda: layers.InteractionMachine(D, 6), "order: found 6, allowed: 1 to 5"),
        (lambda: layers.SqueezeExcitation(F, 2, "tanh"), "found 'tanh', allowed: ReLU, Sigmoid"),
        (lambda: layers.MultiHeadTargetAttention(D, 7, 2), "found 2, allowed: a divisor of the"),
    ],
)
def test_wrong_arguments(make, error):
    with pytest.raises((ValueError, NotImplementedError), match=error):
        make()


def test_activations_by_name():
    assert get_activation(None) is None
    module = nn.Tanh()
    assert get_activation(module) is module
    assert get_activation("SOFTMAX").dim == -1
    assert get_activation("prelu", 3).weight.tolist() == pytest.approx([0.1] * 3)
    assert isinstance(get_activation("Dice", 3), layers.Dice)
    assert isinstance(get_activation("Hardswish"), nn.Hardswish)
    found = get_activation(["ReLU", "dice"], [3, 4])
    assert [type(f).__name__ for f in found] == ["ReLU", "Dice"]
    for wrong in ("dice", "Linear", "Reluu", "__doc__"):
        if wrong == "Linear":
            assert isinstance(get_activation(wrong), nn.Identity)
            continue
        with pytest.raises(ConfigError, match=f"activation '{wrong}'"):
            get_activation(wrong)


def test_a_block_with_a_module_and_one_norm():
    module = nn.Sigmoid()
    block = layers.MLP_Block(
        D, [4, 3], None, 1, output_activation=module, batch_norm=True, bn_only_once=True
    )
    kinds = [type(layer).__name__ for layer in block.mlp]
    assert kinds == ["BatchNorm1d", "Linear", "Linear", "Linear", "Sigmoid"]
    assert block.mlp[-1] is module
    assert layers.MLP_Block(D).mlp(torch.ones(2, D)).shape == (2, D)
    mine = nn.ReLU()
    layers.MLP_Block(D, [4], mine)
    assert not mine.inplace
