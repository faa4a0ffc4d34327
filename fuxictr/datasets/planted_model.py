"""The planted model of the demo data: how values are drawn, and the true chance of a click.

Field i takes value x_i, drawn from a Zipf law over the field's values. The logit of a click is

    b + sum_i a_i[x_i] + sum_(i,j) <u_ij[x_i], u_ji[x_j]>
      + sum_(i,j,k) sum_r p_r[x_i] q_r[x_j] s_r[x_k]

over all fields, the pairs PAIRS and the triples TRIPLES below. All parameters are normal. A value
of share p keeps sqrt(p / (p + 0.001)) of its effects, since rare values teach little. Over the rows
the main effects have variance MAIN, the pairs PAIR and the triples TRIPLE; b gives 17% clicks.
Pairs, triples and scales are not tuned to any model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fuxictr.datasets import registry

CLICK_RATE = 0.17
MAIN, PAIR, TRIPLE = 0.45, 0.45, 0.25
NUM_FACTORS = 4
ZIPF_EXPONENT = 1.1
NUM_DAYS = 10

_AVAZU = registry.resolve("avazu")
# Fields of the raw log and their numbers of values, without the hour, which is drawn apart.
VOCABULARY_SIZES = {
    name: size
    for name, size in _AVAZU.num_values.items()
    if name not in ("hour", "weekday", "weekend")
}
FULL_ROWS = sum(_AVAZU.rows)
_KEPT_VALUES = 1_000
_RARE_SHARE = 0.001
# Fields whose value mostly follows from another one, as a site's domain from the site.
FOLLOWS = {
    "site_domain": ("site_id", 0.9),
    "site_category": ("site_id", 0.8),
    "app_domain": ("app_id", 0.9),
    "app_category": ("app_id", 0.8),
    "C16": ("C15", 0.9),
    "C17": ("C14", 0.8),
}
PAIRS = (
    ("hour", "site_category"),
    ("hour", "app_category"),
    ("site_id", "C14"),
    ("site_id", "C21"),
    ("app_id", "C14"),
    ("banner_pos", "C17"),
    ("banner_pos", "device_model"),
    ("device_conn_type", "C20"),
    ("device_type", "C19"),
    ("site_category", "C18"),
    ("app_domain", "C21"),
    ("C1", "C19"),
)
TRIPLES = (
    ("hour", "site_category", "C18"),
    ("banner_pos", "app_category", "C19"),
    ("C1", "C15", "C21"),
    ("device_type", "C18", "C20"),
)


Factors = dict[tuple[str, ...], tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class PlantedModel:
    """The fields' sizes and distributions of values, and the parameters of the true logit.

    Attributes:
        sizes: field -> number of values; ``cumulative``: field -> their cumulative probabilities.
        main: field -> (values,).
        pairs: (i, j) -> ((values_i, NUM_FACTORS), (values_j, NUM_FACTORS)).
        triples: (i, j, k) -> three such arrays.
    """

    sizes: dict[str, int]
    cumulative: dict[str, np.ndarray]
    main: dict[str, np.ndarray]
    pairs: Factors
    triples: Factors
    bias: float

    def logit(self, values: dict[str, np.ndarray]) -> np.ndarray:
        """Returns the true logit of rows given as field -> value index, float64 (rows,)."""
        total = np.full(len(values["hour"]), self.bias)
        for name, effects in self.main.items():
            total += effects[values[name]]
        for names, factors in (*self.pairs.items(), *self.triples.items()):
            product = factors[0][values[names[0]]]
            for name, factor in zip(names[1:], factors[1:], strict=True):
                product = product * factor[values[name]]
            total += product.sum(axis=1)
        return total


def field_sizes(rows: int) -> dict[str, int]:
    """Returns field -> number of values of a log of ``rows`` rows.

    A field keeps up to 1,000 of Avazu's values; the number beyond shrinks as the rows do.
    """
    share = min(1.0, rows / FULL_ROWS)
    sizes = {
        name: min(size, _KEPT_VALUES) + round(max(0, size - _KEPT_VALUES) * share)
        for name, size in VOCABULARY_SIZES.items()
    }
    return {"hour": 24, **sizes}


def plant_model(rows: int, seed: int) -> PlantedModel:
    """Draws the planted model of a log."""
    rng = np.random.default_rng([seed, 0])
    sizes = field_sizes(rows)
    laws = {name: _value_law(name, size) for name, size in sizes.items()}
    damping = {name: _damping(law) for name, law in laws.items()}
    main = {name: rng.normal(size=size) * damping[name] for name, size in sizes.items()}
    pairs: Factors = {names: _factors(rng, names, damping) for names in PAIRS}
    triples: Factors = {names: _factors(rng, names, damping) for names in TRIPLES}
    model = PlantedModel(sizes, laws, main, pairs, triples, 0.0)
    sample = draw_values(model, np.random.default_rng([seed, 1]), 100_000)
    _scale(main.values(), sum(effects[sample[n]] for n, effects in main.items()), MAIN)
    for groups, variance in ((pairs, PAIR), (triples, TRIPLE)):
        part = PlantedModel(sizes, laws, {}, groups, {}, 0.0).logit(sample)
        _scale((factors[0] for factors in groups.values()), part, variance)
    return PlantedModel(sizes, laws, main, pairs, triples, _bias_for_rate(model.logit(sample)))


def draw_values(model: PlantedModel, rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    """Draws rows: field -> value index (rows,), and "day" 0..9."""
    values = {}
    for name, cumulative in model.cumulative.items():
        values[name] = np.searchsorted(cumulative, rng.random(rows), side="right")
    for name, (leader, share) in FOLLOWS.items():
        follows = rng.random(rows) < share
        follower = (values[leader] * 2654435761 >> 7) % model.sizes[name]
        # A skewed fold keeps the followers' own law Zipf-like: low values are the most frequent.
        follower = (follower * (follower + 1)) // (2 * model.sizes[name])
        values[name] = np.where(follows, follower, values[name])
    values["day"] = rng.integers(0, NUM_DAYS, rows)
    return values


def _value_law(name: str, size: int) -> np.ndarray:
    """Cumulative probabilities of a field's values: Zipf, or the daily curve of the hour."""
    weights = 1.0 / np.arange(2, size + 2) ** ZIPF_EXPONENT
    if name == "hour":
        weights = 1.2 - np.cos(2 * np.pi * (np.arange(24) - 3) / 24)
    cumulative = np.cumsum(weights / weights.sum())
    cumulative[-1] = 1.0
    return cumulative


def _damping(cumulative: np.ndarray) -> np.ndarray:
    shares = np.diff(cumulative, prepend=0.0)
    return np.sqrt(shares / (shares + _RARE_SHARE))


def _factors(
    rng: np.random.Generator, names: tuple[str, ...], damping: dict[str, np.ndarray]
) -> tuple[np.ndarray, ...]:
    weights = (damping[name][:, None] for name in names)
    return tuple(rng.normal(size=(len(weight), NUM_FACTORS)) * weight for weight in weights)


def _scale(arrays: Iterable[np.ndarray], contribution: np.ndarray, variance: float) -> None:
    """Scales arrays in place so that their contribution has the given variance over the rows."""
    factor = np.sqrt(variance / contribution.var())
    for array in arrays:
        array *= factor


def _bias_for_rate(logit: np.ndarray) -> float:
    """Returns b with mean(sigmoid(b + logit)) = CLICK_RATE, by bisection."""
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        if sigmoid(logit + middle).mean() < CLICK_RATE:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Returns 1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-x))
