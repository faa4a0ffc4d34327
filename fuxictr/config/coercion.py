"""Checks a YAML value against a type annotation and converts it.

PyYAML reads ``1e-3`` as a string and ``1`` as an int: a key that is annotated ``float`` takes both.
The config sections and the signatures of models share this rule.
"""

from __future__ import annotations

import dataclasses
import datetime
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union

from fuxictr.errors import did_you_mean


class WrongValue(ValueError):
    """A value that does not fit its key; the text says what is allowed."""


def coerce(value: Any, annotation: Any) -> Any:
    """Returns ``value`` as the annotated type; raises WrongValue if it does not fit.

    Annotations are bool, int, float, str, None, Any, Literal, list[X], dict[str, X], or a union.
    """
    origin = typing.get_origin(annotation)
    if annotation in (Any, inspect.Parameter.empty, object):
        return _plain(value)
    if origin in (Union, types.UnionType):
        return _coerce_union(value, typing.get_args(annotation), annotation)
    if origin is Literal:
        return _coerce_literal(value, typing.get_args(annotation))
    if annotation is None or annotation is type(None):
        if value is None:
            return None
        raise WrongValue("null is allowed")
    if origin is list or annotation is list:
        return _coerce_list(value, typing.get_args(annotation))
    if origin is dict or annotation is dict or origin is Mapping:
        return _coerce_dict(value, typing.get_args(annotation))
    convert = _SCALARS.get(annotation)
    return _plain(value) if convert is None else convert(value)


def describe(annotation: Any) -> str:
    """Returns the annotation in YAML's words: ``float | null``, ``one of [relu, tanh]``."""
    origin = typing.get_origin(annotation)
    args = typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return " | ".join(describe(arg) for arg in args)
    if origin is Literal:
        return f"one of [{', '.join(map(str, args))}]"
    if annotation is type(None) or annotation is None:
        return "null"
    if origin is list:
        return f"list of {describe(args[0])}"
    if origin is dict:
        return f"mapping of {describe(args[0])} to {describe(args[1])}"
    if annotation in (Any, inspect.Parameter.empty, object):
        return "any value"
    return getattr(annotation, "__name__", str(annotation))


def dataclass_annotations(section: type) -> dict[str, Any]:
    """Returns field name -> resolved annotation of a config section."""
    hints = typing.get_type_hints(section)
    return {field.name: hints[field.name] for field in dataclasses.fields(section)}


def signature_annotations(function: Any) -> dict[str, Any]:
    """Returns the named parameters of a function, or of a class's ``__init__``, with annotations.

    ``self`` and ``feature_map`` are left out, since no config gives them. Without a (resolvable)
    annotation, a parameter takes numbers if its default is one, else any value.
    """
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError:  # of a name that is only imported for type checkers
        signature = inspect.signature(function)
    found = {}
    for name, parameter in signature.parameters.items():
        is_named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if not is_named or name in ("self", "feature_map"):
            continue
        found[name] = parameter.annotation
        if parameter.annotation is inspect.Parameter.empty:
            is_number = isinstance(parameter.default, (int, float))
            is_bool = isinstance(parameter.default, bool)
            found[name] = int | float | list | None if is_number and not is_bool else Any
    return found


def _coerce_union(value: Any, choices: tuple[Any, ...], annotation: Any) -> Any:
    # An exact type match wins, so that int | float keeps 3 an int and float | str keeps "l2(1e-5)".
    for choice in choices:
        if isinstance(choice, type) and type(value) is choice:
            return coerce(value, choice)
    for choice in choices:
        try:
            return coerce(value, choice)
        except WrongValue:
            continue
    raise WrongValue(f"allowed: {describe(annotation)}")


def _coerce_literal(value: Any, allowed: tuple[Any, ...]) -> Any:
    for choice in allowed:
        if value == choice and isinstance(value, bool) == isinstance(choice, bool):
            return choice
    names = [str(choice) for choice in allowed]
    raise WrongValue(f"allowed: {', '.join(names)}{did_you_mean(str(value), names)}")


def _coerce_list(value: Any, args: tuple[Any, ...]) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise WrongValue(f"allowed: list{' of ' + describe(args[0]) if args else ''}")
    return [coerce(item, args[0] if args else Any) for item in value]


def _coerce_dict(value: Any, args: tuple[Any, ...]) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise WrongValue("allowed: a mapping")
    key_type, value_type = args or (str, Any)
    return {_coerce_key(k, key_type): coerce(v, value_type) for k, v in value.items()}


def _coerce_key(value: Any, annotation: Any) -> Any:
    try:
        return coerce(value, annotation)
    except WrongValue as error:
        raise WrongValue(f"unknown key '{value!s:.100}' in it, {error}") from None


def _plain(value: Any) -> Any:
    """Returns a value that JSON can hold, or a date; refuses sets, bytes and keys but texts."""
    if isinstance(value, float) and not math.isfinite(value):
        raise WrongValue("allowed: finite numbers")
    if value is None or isinstance(value, (bool, int, float, str, datetime.date)):
        return value
    if isinstance(value, (list, tuple)):
        items = [_plain(item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        return _coerce_dict(value, ())
    kind = type(value).__name__
    raise WrongValue(f"allowed: text, numbers, lists and mappings of them, not {kind}")


def _to_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongValue("allowed: true, false")
    return value


def _to_int(value: Any) -> int:
    number = _to_float(value, "int")
    if number != int(number):
        raise WrongValue("allowed: int")
    try:
        exact = int(value)
    except ValueError:  # a text like 1e3
        exact = int(number)
    if not -(2**63) <= exact < 2**63:
        raise WrongValue("allowed: int of 64 bits")
    return exact


def _to_float(value: Any, allowed: str = "float") -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise WrongValue(f"allowed: {allowed}")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise WrongValue(f"allowed: {allowed}") from None
    if not math.isfinite(number):
        raise WrongValue(f"allowed: a finite {allowed}")
    return number


def _to_str(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongValue("allowed: str")
    return value


_SCALARS: dict[Any, Callable[[Any], Any]] = {
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    str: _to_str,
}
