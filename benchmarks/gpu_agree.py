"""Whether a GPU trains every backbone as the CPU does: losses, gradients, weights, metrics.

On a CPU a training is compared with one that has the rows of each batch in reverse: the same
numbers but for rounding, as on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gpu_setup

# Largest differences that rounding may make. The first step's gradients and the first losses tell
# a formula that is wrong by a percent. Later, where rounding moves a number across a kink (ReLU,
# the sign of a weight), two right trainings part. On a CPU another order of the rows changes the
# losses of 50 steps by 2e-5 at most, and the weights by 1 %.
LIMITS = {"gradient": 1e-4, "first_losses": 1e-5, "loss": 2e-4, "weights": 0.05, "metrics": 1e-3}
BF16_LIMITS = {"loss": 0.05, "gradient": 0.2}
_FIRST = 5  # steps
_WEIGHTS = 0.1  # deviation of the weights at the start, so that every term of a model counts


def agree(model: str, device: str, num_steps: int, batch_size: int) -> dict[str, Any]:
    """Trains a backbone, DIS and GEN, on the CPU and on the device; returns what differs.

    Both have the same weights and batches, and fields of all types. In float32 losses, the first
    step's gradients, the last weights, and metrics are compared. In bfloat16 they are compared with
    float32, and within wide limits.
    """
    sizes = (num_steps, batch_size)
    found: dict[str, Any] = {"ok": True}
    for side in gpu_setup.SIDES:
        reference = trajectory(model, side, "cpu", *sizes)
        for amp, limits in (("none", LIMITS), ("bf16", BF16_LIMITS)):
            other = trajectory(model, side, device, *sizes, amp=amp, is_reversed=device == "cpu")
            errors = differences(reference, other)
            checked = {name: errors[name] for name in limits}
            found[f"{side}_{amp}"] = errors
            found["ok"] &= all(error <= limits[name] for name, error in checked.items())
        losses = reference["losses"]
        found[f"{side}_losses"] = [losses[0], losses[-1]]
    return found


def trajectory(
    model: str,
    side: str,
    device: str,
    num_steps: int,
    batch_size: int,
    amp: str = "none",
    is_reversed: bool = False,
    change: Callable[[Any], None] = lambda network: None,
) -> dict[str, Any]:
    """Trains a small backbone for some steps; returns losses, gradients, weights and metrics.

    Args:
        model: the backbone.
        side: dis or gen.
        device: where.
        num_steps: of Adam.
        batch_size: rows of a step.
        amp: none or bf16.
        is_reversed: whether each batch has its rows in reverse.
        change: called with the network before it is trained.
    """
    import torch

    from fuxictr.pytorch.dataloaders import BatchIterator
    from fuxictr.pytorch.training.trainer import Trainer

    feature_map, data = gpu_setup.mixed_rows(num_steps * batch_size)
    network = gpu_setup.make_model(model, side, feature_map, True, **gpu_setup.PENALTIES)
    generator = torch.Generator().manual_seed(gpu_setup.SEED)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(std=_WEIGHTS, generator=generator)
    change(network)
    before = _on_host(network.named_parameters())
    config = gpu_setup.train_config(batch_size=batch_size, learning_rate=1e-3, amp=amp)
    trainer = Trainer(network, config, device, verbose=0)
    network.train()
    losses, gradients = [], {}
    for start in range(0, len(data.ids), batch_size):
        rows = torch.arange(start, start + batch_size)
        batch = data.rows(rows.flip(0) if is_reversed else rows).to(trainer.device)
        losses.append(trainer.train_step(batch))
        if not gradients:
            trained = ((n, w) for n, w in network.named_parameters() if w.requires_grad)
            gradients = _on_host((name, weight.grad) for name, weight in trained)
    return {
        "losses": torch.stack(losses).tolist(),
        "gradients": gradients,
        "movement": {n: w - before[n] for n, w in _on_host(network.named_parameters()).items()},
        "metrics": trainer.evaluate(BatchIterator(data, 1000, device=device)),
    }


def differences(one: dict[str, Any], two: dict[str, Any]) -> dict[str, float]:
    """Returns the largest differences of two trajectories.

    Losses and metrics differ by numbers. Gradients and movements of weights differ, tensor by
    tensor, by a share of the norm of the first; at least a thousandth of the largest norm.
    """
    losses = [abs(a - b) for a, b in zip(one["losses"], two["losses"], strict=True)]
    return {
        "loss": max(losses),
        "first_losses": max(losses[:_FIRST]),
        "gradient": _largest_share(one["gradients"], two["gradients"]),
        "weights": _largest_share(one["movement"], two["movement"]),
        "metrics": max(abs(v - two["metrics"][name]) for name, v in one["metrics"].items()),
    }


def _largest_share(one: dict[str, Any], two: dict[str, Any]) -> float:
    norms = {name: float(tensor.norm()) for name, tensor in one.items()}
    least = max(norms.values()) / 1000
    return max(float((two[n] - one[n]).norm()) / max(norms[n], least) for n in one)


def _on_host(named: Any) -> dict[str, Any]:
    return {name: tensor.detach().double().cpu().clone() for name, tensor in named}
