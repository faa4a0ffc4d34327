"""The value that early stopping follows, and the direction in which it is better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from fuxictr.errors import ConfigError
from fuxictr.metrics.evaluate import Metric, find_metric, split_label


class Monitor:
    """The value that early stopping follows: a metric, or a weighted sum of metrics.

    ``monitor`` is a metric's name or {name: weight}, as {AUC: 1, logloss: -1}. ``mode``, ``max``
    or ``min``, is checked against the metrics; None = follows from them. ``<label>_AUC`` is the
    metric of one of several labels.

    Raises:
        ConfigError: an unknown metric, a weight that is zero or not finite, metrics that work
            against each other, or a mode that would keep the worst value; names the keys.
    """

    def __init__(self, monitor: str | Mapping[str, float], mode: str | None = None) -> None:
        weights = {monitor: 1.0} if isinstance(monitor, str) else monitor
        if not weights:
            raise ConfigError("key 'monitor': found no metric, allowed: a metric, {metric: weight}")
        self.weights: dict[str, float] = {}
        modes: dict[str, str] = {}
        for written, weight in weights.items():
            try:
                label, base = split_label(written)
            except ConfigError as error:
                raise ConfigError(f"key 'monitor': {error}") from None
            name = f"{label}_{base}" if label else base
            if name in self.weights:
                raise ConfigError(f"key 'monitor': metric '{name}' is named twice")
            self.weights[name] = weight
            modes[name] = _mode_of(find_metric(base), weight)
        self.mode = next(iter(modes.values()))
        self._check_modes(monitor, modes, mode)

    def get_metrics(self) -> list[str]:
        """Returns the names of the monitored metrics."""
        return list(self.weights)

    def check_labels(self, labels: Iterable[str]) -> None:
        """Raises ConfigError if a metric of one label is monitored, and not of these labels."""
        known = list(labels)
        for name in self.weights:
            label, metric = split_label(name)
            if label and label not in known:
                allowed = ", ".join([metric, *(f"{other}_{metric}" for other in known)])
                raise ConfigError(f"key 'monitor': found {name}, allowed: {allowed}")

    def check_metrics(self, metrics: Iterable[str]) -> None:
        """Raises ConfigError if a monitored metric, of whatever label, is not computed."""
        self._check_among({name: split_label(name)[1] for name in self.weights}, metrics)

    def check_evaluated(self, metrics: Iterable[str]) -> None:
        """Raises ConfigError if a monitored metric is not among the given ones."""
        self._check_among({name: name for name in self.weights}, metrics)

    def _check_among(self, wanted: Mapping[str, str], metrics: Iterable[str]) -> None:
        names = list(metrics)
        for name, metric in wanted.items():
            if metric not in names:
                raise ConfigError(
                    f"key 'monitor': {name} is not among the metrics {names}; add it to key "
                    "'metrics'"
                )

    def get_value(self, results: Mapping[str, float]) -> float:
        """Returns the weighted sum of the results; ConfigError if a metric was not evaluated."""
        self.check_evaluated(results)
        return sum(weight * results[name] for name, weight in self.weights.items())

    def _check_modes(
        self, monitor: str | Mapping[str, float], modes: Mapping[str, str], mode: str | None
    ) -> None:
        shown = monitor if isinstance(monitor, str) else dict(monitor)
        against = next((name for name in modes if modes[name] != self.mode), None)
        if against is not None:
            raise ConfigError(
                f"key 'monitor': found {shown}, in which {against} works against "
                f"{next(iter(modes))}; AUC and group metrics are better the higher, logloss and "
                "errors the lower; allowed: weights that fit that, as {AUC: 1, logloss: -1}"
            )
        if mode not in (None, "max", "min"):
            raise ConfigError(f"key 'monitor_mode': found {mode!r}, allowed: max, min, null")
        if mode not in (None, self.mode):
            better = "higher" if self.mode == "max" else "lower"
            raise ConfigError(
                f"key 'monitor_mode': found {mode}, key 'monitor': found {shown}, which is better "
                f"the {better}; allowed: {self.mode}, or null"
            )


def _mode_of(metric: Metric, weight: float) -> str:
    """Returns the direction in which a weighted metric is better."""
    is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    if not is_number or not math.isfinite(weight) or weight == 0:
        raise ConfigError(
            f"key 'monitor': metric '{metric.name}' has the weight {weight!r}, allowed: a number "
            "that is not 0; leave out a metric that is not to count"
        )
    return metric.mode if weight > 0 else {"max": "min", "min": "max"}[metric.mode]
