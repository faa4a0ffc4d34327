"""Keys of an expid that are accepted but have no effect; one warning names them.

They may come from ``Base``, from FuxiCTR or from the paper's code, so they are not errors. Those of
columns are errors, see column_keys.py.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fuxictr.config.experiment import ExperimentConfig

logger = logging.getLogger(__name__)


def warn_of_idle_keys(config: ExperimentConfig, of_model: Mapping[str, str]) -> None:
    """Names the given keys without an effect, in one warning per expid.

    ``of_model`` maps the model's own such keys to a reason, whether given or not.
    """
    params, reasons = config.params(), {}
    for rule in _RULES:
        if rule.key in config.origins and rule.is_idle(params):
            reasons[rule.key] = rule.reason
    reasons |= {key: why for key, why in of_model.items() if key in config.origins}
    idle = [
        f"{key}: {params[key]!r:.100} ({why}; {config.origins[key]})"
        for key, why in reasons.items()
        if params.get(key) not in (None, False, [])
    ]
    if idle:
        _warn_once(f"expid '{config.expid}': keys without an effect: {'; '.join(idle)}")


class _Rule(NamedTuple):
    key: str
    is_idle: Callable[[Mapping[str, Any]], bool]
    reason: str


def _is_encoded(params: Mapping[str, Any]) -> bool:
    has_columns = params["data_format"] == "csv" or params["feature_cols"]
    return not (params["rebuild_dataset"] and has_columns)


_OF_RAW_ROWS = ("valid_size", "test_size", "min_categr_count", "processor")
_OF_CSV = ("separator", "quote_char", "header")
_RULES = (
    *(_Rule(key, _is_encoded, "the rows are already encoded") for key in (*_OF_RAW_ROWS, *_OF_CSV)),
    *(_Rule(key, lambda p: p["data_format"] != "csv", "the files are no csv") for key in _OF_CSV),
    _Rule("encoder_init", lambda p: p["source"] is None, "nothing is generated"),
    _Rule("shuffle_window", lambda p: not p["streaming"], "streaming is false"),
    _Rule("shuffle_window", lambda p: not p["shuffle"], "shuffle is false"),
    _Rule("save_steps", lambda p: not p["save_state"], "save_state is false"),
    _Rule("save_minutes", lambda p: not p["save_state"], "save_state is false"),
    _Rule(
        "regularizer",
        lambda p: None not in (p["embedding_regularizer"], p["net_regularizer"]),
        "embedding_regularizer and net_regularizer are set",
    ),
    _Rule(
        "num_source", lambda p: p["source"] not in ("high", "low"), "source is neither high nor low"
    ),
    _Rule("num_target", lambda p: p["target"] == "all", "target is all"),
    _Rule(
        "symmetric",
        lambda p: p["source"] is None and p["emb_activation"] == "linear" and p["gamma"] == 1,
        "nothing is generated",
    ),
    _Rule(
        "split_type",
        lambda p: p["split_type"] == "random" and not (p["valid_size"] or p["test_size"]),
        "neither valid_size nor test_size is set",
    ),
    _Rule(
        "split_seed",
        lambda p: p["split_type"] != "random" or not (p["valid_size"] or p["test_size"]),
        "no split is drawn",
    ),
)


@functools.cache
def _warn_once(text: str) -> None:
    logger.warning("%s", text)
