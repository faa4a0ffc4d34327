"""Bounds of the keys of models' own, which are known by the names that FuxiCTR gives them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fuxictr.config.coercion import WrongValue

_BOUNDS: list[tuple[re.Pattern[str], Callable[[float], bool], str]] = [
    (
        re.compile(r"embedding_dim|(.*_)?hidden_units"),
        lambda x: 1 <= x <= 1_000_000,
        "1 to 1000000",
    ),
    (re.compile(r".*dropout.*|.*_drop"), lambda x: 0 <= x < 1, ">= 0 and < 1"),
    (re.compile(r"num_(.*_)?layers"), lambda x: 0 <= x <= 10_000, "0 to 10000"),
]


def check_model_value(name: str, value: Any) -> Any:
    """Returns the value of a key of a model's own; a list holds one value a layer.

    Raises:
        WrongValue: a width, rate or count is none, so that no model could be built of it.
    """
    for pattern, is_allowed, words in _BOUNDS:
        if not pattern.fullmatch(name):
            continue
        for number in value if isinstance(value, list) else [value]:
            is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
            if is_number and not is_allowed(number):
                raise WrongValue(f"allowed: {words}")
    return value
