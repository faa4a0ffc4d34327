"""What steps of Adam without a gradient do to a row, in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

_CENTRE = 8  # steps ahead, where the scale is about the middle of those that matter
_YOUNG = 100  # rows of earlier steps need more terms, since the bias corrections still change
_NUM_TERMS = {torch.float32: (5, 12), torch.float64: (10, 20)}  # of old rows, of young ones
_NEGLIGIBLE = 1e-2  # of the precision: what all later steps may add to a sum
_ARRAYS, _TENSORS = ("_sums", "_centres"), ("_old", "_young", "_powers")


class SkippedSteps:
    """Brings rows up to date whose last gradient came at step s, while Adam is at step t.

    With the state (w, m, v) of step s and no gradient since, Adam has made of it::

        w - m * sum_i a_i / (c_i x + eps),   b1^(t - s) m,   b2^(t - s) v,   i = s+1 .. t,
        x = sqrt(v),  a_i = lr_i b1^(i - s) / (1 - b1^i),  c_i = sqrt(b2^(i - s) / (1 - b2^i)).

    For a scale c of about the size of the c_i, let y = 1 / (c x + eps) and u = 1 - 2 eps y, which
    lies in [-1, 1]. Then the sum is y f_s(u) with::

        f_s(u) = sum_i a_i / (1 + (c_i / c - 1) (1 + u) / 2).

    The c_i differ little, so f_s is smooth. Its interpolant in Chebyshev's points is exact to 1e-8
    (float64: 1e-13) with 5 terms, or 12 in the first 100 steps (float64: 10 and 20). Its values at
    the points are running sums: a step adds one term to each, at its own learning rate, until the
    rest is below the precision. So a row costs the same after any gap.

    Args:
        step: steps done so far; the rows are up to date.
        betas: decays b1 and b2 of the moments; the numbers of terms are made for the default.
        like: a tensor of the rows' type and device.
    """

    def __init__(
        self, step: int, betas: tuple[float, float], eps: float, like: torch.Tensor
    ) -> None:
        self.step = step
        self._first = step
        self._eps = eps
        self._betas = betas
        # The factors as the kernels hold them; in float32 they are 1e-8 off, which adds up.
        held = torch.tensor([1 - betas[0], betas[1]], dtype=like.dtype).tolist()
        self._decays = np.array([1 - held[0], held[1]])
        self._num_few, self._num_many = _NUM_TERMS[like.dtype]
        precision = _NEGLIGIBLE * torch.finfo(like.dtype).eps
        self._window = math.ceil(math.log(precision * (1 - betas[0])) / math.log(betas[0]))
        points, self._to_series = _interpolation(self._num_many)
        self._points = (1 + points) / 2
        self._sums = np.zeros((0, self._num_many))  # f_s at the points, s in the window
        self._centres = np.zeros(0)
        # Row s - first: the scale c and f_s as a series of Chebyshev's polynomials.
        self._old = like.new_zeros(64, 1 + self._num_few)
        self._young = like.new_zeros(max(_YOUNG - step, 0), 1 + self._num_many)
        self._powers = like.new_zeros(64, 2)  # row k: b1^k and b2^k
        self._add_step()

    def advance(self, lr: float) -> None:
        """Counts one more step of Adam, at the given learning rate."""
        self.step += 1
        ages = np.arange(len(self._sums), 0, -1)
        decays = self._decays[:, None] ** ages  # (2, window)
        unbiased = 1 - np.array(self._betas) ** self.step
        weights = lr * decays[0] / unbiased[0]
        ratios = np.sqrt(decays[1] / unbiased[1]) / self._centres - 1
        self._sums += weights[:, None] / (1 + ratios[:, None] * self._points)
        self._add_step()

    def catch_up(
        self,
        weights: torch.Tensor,
        exp_avg: torch.Tensor,
        exp_avg_sq: torch.Tensor,
        last: torch.Tensor,
    ) -> None:
        """Brings w, m, v (U, D) of rows with last step ``last`` (U,) up to date, in place.

        A row with m = 0 may have any last step.
        """
        at = last.long().sub_(self._first).clamp_(min=0)
        scale = exp_avg_sq.sqrt()
        sums = self._evaluate(scale, self._old.index_select(0, at))
        if len(self._young):
            young = ((last > 0) & (last < _YOUNG)).nonzero().view(-1)
            if len(young):
                terms = self._young.index_select(0, at.index_select(0, young))
                sums.index_copy_(0, young, self._evaluate(scale.index_select(0, young), terms))
        weights.addcmul_(exp_avg, sums, value=-1)
        powers = self._powers.index_select(0, (self.step - self._first) - at)
        exp_avg.mul_(powers[:, :1])
        exp_avg_sq.mul_(powers[:, 1:])

    def state(self) -> dict[str, Any]:
        """Returns all that the steps so far have left, in tensors and a number."""
        arrays = {name: torch.from_numpy(getattr(self, name)) for name in _ARRAYS}
        return {"step": self.step, **arrays, **{name: getattr(self, name) for name in _TENSORS}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over the state of another one that began at the same step."""
        self.step = int(state["step"])
        for name in _ARRAYS:
            setattr(self, name, state[name].numpy().copy())
        for name in _TENSORS:
            setattr(self, name, state[name].to(getattr(self, name), copy=True))

    def _evaluate(self, scale: torch.Tensor, terms: torch.Tensor) -> torch.Tensor:
        """Returns the sums (U, D) by Clenshaw's recurrence; powers of u would lose digits."""
        factor = scale.mul(terms[:, :1]).add_(self._eps).reciprocal_()
        place = factor.mul(-2 * self._eps).add_(1)
        twice = place * 2
        before = terms[:, -1:]
        value = (twice * before).add_(terms[:, -2:-1])
        for number in range(terms.shape[1] - 3, 1, -1):
            before, value = value, (twice * value).sub_(before).add_(terms[:, number : number + 1])
        return place.mul_(value).sub_(before).add_(terms[:, 1:2]).mul_(factor)

    def _add_step(self) -> None:
        """Starts the sums of the step that was just done, and writes those that changed."""
        ahead = self._decays[1] ** _CENTRE / (1 - self._betas[1] ** (self.step + _CENTRE))
        self._centres = np.append(self._centres, math.sqrt(ahead))[-self._window :]
        empty = np.zeros((1, self._num_many))
        self._sums = np.concatenate([self._sums, empty])[-self._window :]
        stop = self.step - self._first + 1
        start = stop - len(self._sums)
        self._old, self._powers = _with_room(self._old, stop), _with_room(self._powers, stop)
        power = self._decays ** (stop - 1)
        # Products with smaller numbers would be denormal, which is slow.
        self._powers[stop - 1] = self._powers.new_tensor(np.where(power < 1e-30, 0, power))
        self._write(self._old, start, self._num_few)
        if start < len(self._young):
            self._write(self._young, start, self._num_many)

    def _write(self, rows: torch.Tensor, start: int, num_terms: int) -> None:
        series = self._sums @ self._to_series[:, :num_terms]
        found = np.column_stack([self._centres, series])[: len(rows) - start]
        rows[start : start + len(found)] = torch.as_tensor(found).to(rows)


def _interpolation(num_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns Chebyshev's points (n,) and the map (n, n) of values there to a series."""
    orders = np.arange(num_points)
    angles = (orders + 0.5) * np.pi / num_points
    series = np.cos(np.outer(angles, orders)) * np.where(orders == 0, 1, 2) / num_points
    return np.cos(angles), series


def _with_room(rows: torch.Tensor, num_rows: int) -> torch.Tensor:
    return rows if num_rows <= len(rows) else torch.cat([rows, torch.zeros_like(rows)])
