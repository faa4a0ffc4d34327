"""The base of the config's sections: keys with a type, bounds and a meaning, checked together."""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import field
from pathlib import Path
from typing import Any

from fuxictr.config.coercion import WrongValue, coerce, dataclass_annotations
from fuxictr.errors import ConfigError, did_you_mean

Regularizer = float | str | None

MAX_PROBLEMS = 20  # that an error lists
MAX_NAME = 200  # bytes of a file's name without suffixes; a file system takes 255

_REGULARIZER = re.compile(r"(l1|l2)\(([^,()]+)\)|(l1_l2)\(([^,()]+),([^,()]+)\)")


def key(default: Any, doc: str, check: Callable[[Any], Any] | None = None, **bounds: float) -> Any:
    """Declares a key and its meaning ``doc``; the bounds are ``ge``, ``gt``, ``le``, ``lt``.

    ``check`` takes a value of the key's type and returns the value to keep; raises WrongValue.
    """
    metadata = {"doc": doc, "bounds": bounds, "check": check}
    if isinstance(default, (list, dict)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


class Section:
    """Base of all sections; reports all errors at once."""

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """Returns the names of the section's keys."""
        return tuple(f.name for f in dataclasses.fields(cls))  # type: ignore[arg-type]

    @classmethod
    def from_params(cls, params: dict[str, Any], where: str = "the config") -> Any:
        """Builds the section from its keys in ``params``; a ConfigError lists all wrong values."""
        problems: list[str] = []
        checked = check_values(cls, params, problems)
        if problems:
            raise ConfigError(f"{where}: {listed(problems)}")
        return cls(**checked)


def check_values(section: type, params: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """Returns the section's keys found in ``params``, converted; appends errors to ``problems``."""
    annotations = dataclass_annotations(section)
    checked = {}
    for spec in dataclasses.fields(section):
        if spec.name not in params:
            if _is_required(spec):
                problems.append(f"key '{spec.name}' is missing")
            continue
        value = params[spec.name]
        try:
            found = _check_bounds(coerce(value, annotations[spec.name]), spec)
            check = spec.metadata.get("check")
            checked[spec.name] = check(found) if check else found
        except WrongValue as error:
            problems.append(f"key '{spec.name}': found {value!r:.200}, {error}")
    return checked


def listed(problems: list[str]) -> str:
    """Returns the first problems in one text, with the number of the others."""
    shown = "; ".join(problems[:MAX_PROBLEMS])
    left = len(problems) - MAX_PROBLEMS
    return f"{shown}; and {left} more" if left > 0 else shown


def unknown_key(name: Any, known: Iterable[str], problems: list[str]) -> str:
    """Returns the error of a key not in ``known``, with the nearest one if ``listed`` shows it."""
    hint = did_you_mean(str(name), known) if len(problems) < MAX_PROBLEMS else ""
    return f"unknown key '{name}'{hint}"


def check_name(text: str) -> str:
    """Returns the text; raises WrongValue if no file or folder can have this name."""
    if text in ("", ".", "..") or any(char in text for char in "/\\\0"):
        raise WrongValue("allowed: a name that can be a folder's or a file's, without / and \\")
    if len(text.encode()) > MAX_NAME:
        raise WrongValue(f"allowed: a name of at most {MAX_NAME} bytes")
    return text


def check_path(text: str | None) -> str | None:
    """Returns the text; raises WrongValue unless it is a possible path or glob, or None."""
    if text is None:
        return None
    if not text.strip() or "\0" in text:
        raise WrongValue("allowed: a file, a folder or a glob, or null")
    if max(len(os.fsencode(part)) for part in Path(text).parts or ("",)) > 255 or len(text) > 2000:
        raise WrongValue("allowed: a path whose parts a file system takes")
    try:
        Path(text).expanduser()
    except RuntimeError:
        raise WrongValue("allowed: ~ or a user of this machine after it") from None
    return text


def parse_regularizer(value: Regularizer) -> list[tuple[int, float]]:
    """Returns [(p, lambda), ...] of a regularizer; the loss term is (lambda / p) * ||w||_p^p.

    A number is an L2 weight; ``l1(x)``, ``l2(x)`` and ``l1_l2(x, y)`` name the norms. Raises
    WrongValue for another text, or a negative weight.
    """
    if value is None:
        return []
    if isinstance(value, (int, float)):
        terms = [(2, float(value))]
    else:
        match = _REGULARIZER.fullmatch(value.strip())
        if not match:
            raise WrongValue("allowed: a number, l1(x), l2(x), l1_l2(x, y), null")
        weights = [match[2]] if match[1] else [match[4], match[5]]
        orders = [1, 2] if match[3] else [int(match[1][1])]
        terms = [(p, coerce(w.strip(), float)) for p, w in zip(orders, weights, strict=True)]
    if any(weight < 0 for _, weight in terms):
        raise WrongValue("allowed: a weight >= 0")
    return [(p, weight) for p, weight in terms if weight > 0]


def check_regularizer(value: Regularizer) -> Regularizer:
    """Returns a valid regularizer; a number that YAML reads as a string becomes a number."""
    if isinstance(value, str):
        with contextlib.suppress(WrongValue):
            value = coerce(value, float)
    parse_regularizer(value)
    return value


def _is_required(spec: dataclasses.Field) -> bool:
    return spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING


_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def _check_bounds(value: Any, spec: dataclasses.Field) -> Any:
    if isinstance(value, (int, float)):
        for name, bound in spec.metadata["bounds"].items():
            if not getattr(operator, name)(value, bound):
                raise WrongValue(f"allowed: {_SIGNS[name]} {bound}")
    return value
