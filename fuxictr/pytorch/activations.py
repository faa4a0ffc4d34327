"""Activations that torch has not, or has in another form."""

from __future__ import annotations

import math

import torch
from torch import nn


class Dice(nn.Module):
    """p * x + alpha * (1 - p) * x with p = sigmoid(norm(x)), (N, D) -> (N, D) (Zhou et al. 2018).

    The norm is over the batch, without weights. alpha is learnt, one per unit, and starts at 0.
    """

    def __init__(self, input_dim: int, eps: float = 1e-9) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(input_dim, affine=False, eps=eps, momentum=0.01)
        self.alpha = nn.Parameter(torch.zeros(input_dim))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Returns the activated units."""
        p = torch.sigmoid(self.bn(X))
        return p * X + self.alpha * (1 - p) * X


class GELU(nn.Module):
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) (Hendrycks and Gimpel 2016)."""

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Returns the activated units."""
        inner = math.sqrt(2 / math.pi) * (X + 0.044715 * X.pow(3))
        return 0.5 * X * (1 + torch.tanh(inner))
