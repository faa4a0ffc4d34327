"""feature_map.json: read within limits, and checked completely before it is used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

from fuxictr.features.specs import MAX_ROWS, check_spec, width

MAX_BYTES = 1 << 25  # a feature map of a hundred thousand fields
MAX_DEPTH = 50  # objects and lists within one another; a feature map has four


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file.

    Raises ValueError if it is unreadable, larger than MAX_BYTES, no JSON in UTF-8, nested too deep,
    or has a repeated key or a number that is not finite.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(error.strerror) from error
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    try:
        content = json.loads(
            data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse
        )
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    _check_depth(content)
    # Refuses half a surrogate pair and 1e999.
    json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8")
    return content


def find(content: Any, key: str, kind: type[Any]) -> Any:
    """Returns the value of a key; raises ValueError if it is missing or of another type."""
    if not isinstance(content, dict) or key not in content:
        raise ValueError(f"key '{key}' is missing")
    if not isinstance(content[key], kind):
        raise ValueError(f"{key} {content[key]!r:.100}, allowed: {kind.__name__}")
    return content[key]


def list_features(content: Any) -> dict[str, dict[str, Any]]:
    """Returns feature -> spec, in order; raises ValueError for a wrong or repeated one."""
    features: dict[str, dict[str, Any]] = {}
    for entry in find(content, "features", list):
        if not isinstance(entry, dict):
            raise ValueError(f"features: found {entry!r:.100}, allowed: {{name: spec}}")
        for name, spec in entry.items():
            if name in features:
                raise ValueError(f"feature '{name}' is listed twice")
            check_spec(name, spec)
            # FuxiCTR leaves the key out where there is no pooling.
            pooled = {"feature_encoder": None} if spec["type"] == "sequence" else {}
            features[name] = {**pooled, **spec}
    return features


def list_labels(content: Any, fields: Collection[str]) -> list[str]:
    """Returns the names of the labels; raises ValueError unless all differ, also from fields."""
    labels = find(content, "labels", list)
    names = {label for label in labels if isinstance(label, str)}
    if len(names) < len(labels) or not names.isdisjoint(fields):
        raise ValueError(f"labels {labels!r:.100}, allowed: names, each once, that are no field's")
    return list(labels)


def check_counts(content: dict[str, Any], counted: dict[str, Any]) -> None:
    """Raises ValueError if the counts of a file contradict those of its features, ``counted``.

    Counts may be missing, or larger in files of other versions of FuxiCTR, but never smaller.
    """
    if not counted["num_fields"]:
        raise ValueError("features: none is a field, allowed: one at least")
    if counted["total_features"] > MAX_ROWS:
        rows = counted["total_features"]
        raise ValueError(f"its tables have {rows} rows, allowed: {MAX_ROWS} at most")
    widest = max(width(spec) for entry in counted["features"] for spec in entry.values())
    least = {"total_features": counted["total_features"], "input_length": widest}
    for key, number in {**least, "num_fields": counted["num_fields"]}.items():
        found = content.get(key, number)
        is_int = isinstance(found, int) and not isinstance(found, bool)
        if not is_int or found < number or (key == "num_fields" and found != number):
            raise ValueError(f"{key} {found!r:.100}, but the listed features have {number}")


def _check_depth(content: Any) -> None:
    level = [content]
    for _ in range(MAX_DEPTH):
        nested = [v for v in level if isinstance(v, (dict, list))]
        level = [i for v in nested for i in (v.values() if isinstance(v, dict) else v)]
    if level:
        raise ValueError("it is nested too deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"key '{repeated}' is given twice in one object")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
