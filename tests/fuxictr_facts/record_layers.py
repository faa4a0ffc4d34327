"""Inputs, weights and outputs of FuxiCTR's layers, as facts that ours are compared with.

    PEER/bin/python tests/fuxictr_facts/record_layers.py tests/fuxictr_facts/layers.npz

Weights are drawn here and given by their names, so that both sides have the same ones.
"""

import sys

import numpy as np
import torch

B, F, D, L = 3, 4, 5, 6
PAIRS = F * (F - 1) // 2


def cases():
    """Returns name -> (layer, its inputs as a list of shapes); of double precision."""
    from fuxictr.pytorch import layers

    fields, flat = (B, F, D), (B, F * D)
    found = {
        "cross_interaction": (layers.CrossInteraction(F * D), [flat, flat]),
        "cross_net": (layers.CrossNet(F * D, 2), [flat]),
        "cross_net_v2": (layers.CrossNetV2(F * D, 2), [flat]),
        "cross_net_mix": (layers.CrossNetMix(F * D, 2, 3, 2), [flat]),
        "cin": (layers.CompressedInteractionNet(F, [3, 2], output_dim=2), [fields]),
        "interaction_machine": (layers.InteractionMachine(D, order=4, batch_norm=True), [fields]),
        "senet": (layers.SqueezeExcitation(F, 0.7, "Sigmoid"), [fields]),
        "senet_relu": (layers.SqueezeExcitation(F, 2, "ReLU"), [fields]),
        "attention": (layers.ScaledDotProductAttention(), [(B, L, D)] * 3),
        "din": (layers.DIN_Attention(D, [4], "Sigmoid"), [(B, D), (B, L, D)]),
        "din_dice": (layers.DIN_Attention(D, [4], "Dice", use_softmax=True), [(B, D), (B, L, D)]),
        "target": (layers.MultiHeadTargetAttention(D, 8, 2), [(B, D), (B, L, D)]),
        "target_bare": (
            layers.MultiHeadTargetAttention(D, num_heads=1, use_scale=False, use_qkvo=False),
            [(B, D), (B, L, D)],
        ),
        "dice": (layers.Dice(D), [(B, D)]),
        "k_max": (layers.KMaxPooling(2, dim=1), [(B, L, D)]),
        "average": (layers.MaskedAveragePooling(), [(B, L, D)]),
        "sum": (layers.MaskedSumPooling(), [(B, L, D)]),
        "mlp": (
            layers.MLP_Block(
                D, [4, 3], ["PReLU", "Tanh"], 2, "Sigmoid", batch_norm=True, use_bias=False
            ),
            [(B, D)],
        ),
        "mlp_norm_once": (
            layers.MLP_Block(D, [4], None, 1, batch_norm=True, bn_only_once=True),
            [(B, D)],
        ),
        "mlp_empty": (layers.MLP_Block(D), [(B, D)]),
    }
    for output in ("product_sum", "bi_interaction", "inner_product", "elementwise_product"):
        found[f"inner_{output}"] = (layers.InnerProductInteraction(F, output), [fields])
    for kind in ("hadamard_product", "circular_convolution", "circular_correlation"):
        found[f"holographic_{kind}"] = (layers.HolographicInteraction(F, kind), [fields])
    for kind in ("field_all", "field_each", "field_interaction"):
        for name in ("BilinearInteraction", "BilinearInteractionV2"):
            found[f"{name}_{kind}"] = (getattr(layers, name)(F, D, kind), [fields])
    return found


def extra_arguments(name):
    """Returns keyword arguments of the call: masks that hide the last positions, and a scale."""
    mask = (torch.arange(L) < torch.tensor([[L], [2], [1]])).to(torch.float64)
    if name in ("din", "din_dice", "target", "target_bare", "average"):
        return {"mask": mask}
    if name == "attention":
        return {"scale": D**0.5, "mask": mask.unsqueeze(1).expand(B, L, L).contiguous()}
    return {}


def main(path):
    """Writes <case>/<what> arrays."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, (layer, shapes) in cases().items():
        layer = layer.double().train()
        if hasattr(layer, "bilinear_W") and isinstance(layer.bilinear_W, torch.Tensor):
            torch.nn.init.normal_(layer.bilinear_W)
        for key, value in layer.named_parameters():
            if value.requires_grad:
                drawn = rng.normal(size=tuple(value.shape))
                value.data = torch.tensor(drawn)
                arrays[f"{name}/weight/{key}"] = drawn
        inputs = [rng.normal(size=shape) for shape in shapes]
        output = layer(*map(torch.tensor, inputs), **extra_arguments(name))
        output = output[0] if isinstance(output, tuple) else output
        arrays |= {f"{name}/input/{i}": array for i, array in enumerate(inputs)}
        arrays[f"{name}/output"] = output.detach().numpy()
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
