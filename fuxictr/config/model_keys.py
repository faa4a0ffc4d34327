"""Bounds of the models' own keys, by the names that FuxiCTR gives them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fuxictr.config.coercion import WrongValue

# Pattern of a key -> what holds for its values, and in words.
_BOUNDS: dict[str, tuple[Callable[[float], bool], str]] = {
    r"embedding_dim|(.*_)?hidden_units": (lambda x: 1 <= x <= 1_000_000, "1 to 1000000"),
    r".*dropout.*|.*_drop": (lambda x: 0 <= x < 1, ">= 0 and < 1"),
    r"num_(.*_)?layers": (lambda x: 0 <= x <= 10_000, "0 to 10000"),
}


def check_model_value(name: str, value: Any) -> Any:
    """Returns the value, one or one per layer, of a model's own key; WrongValue if impossible."""
    for pattern, (is_allowed, words) in _BOUNDS.items():
        if not re.fullmatch(pattern, name):
            continue
        for number in value if isinstance(value, list) else [value]:
            is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
            if is_number and not is_allowed(number):
                raise WrongValue(f"allowed: {words}")
    return value
