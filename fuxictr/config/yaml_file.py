"""YAML as ``yaml.safe_load`` reads it, except for names, within limits, and with clear errors.

Of the tags of Python objects only ``!!python/tuple`` is read, which configs of FuxiCTR have; of a
key that is given twice in a block the last value counts, and a warning names both lines.

Keys of mappings, and the values of the keys in NAMES, are the text in the file: YAML reads 2024,
001, on and null as numbers, truth values and None, and 001 could not be told from 1.

A malicious file costs seconds at most: aliases of aliases ("billion laughs"), circles, deep nesting
and numbers of a million digits are refused while they are read.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Hashable
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.reader import ReaderError
from yaml.scanner import ScannerError

from fuxictr.errors import ConfigError

logger = logging.getLogger(__name__)

MAX_BYTES = 1 << 20  # a hundred times the largest shipped config, and a few seconds of reading
MAX_VALUES = 100_000  # keys and values of a text, those of an alias at each use
MAX_DEPTH = 50  # mappings and lists within one another; a config needs about six
MAX_DIGITS = 400  # characters of a number, date or truth value

_TAG = "tag:yaml.org,2002:"

# Keys whose values are names: of blocks, columns, files.
NAMES = {
    *("dataset_id", "model_id", "group_id", "name", "use_features", "share_embedding", "source"),
    *("train_data", "valid_data", "test_data", "data_root", "model_root"),
    *("processor", "pretrained_emb"),
}
# For these, null is a name too, not a missing value.
_NEEDED_NAMES = {"dataset_id", "name"}
_KINDS = {_TAG + kind for kind in ("int", "float", "bool", "null", "timestamp", "value")}


def read_yaml_file(path: Path) -> Any:
    """Returns the content of a YAML file, at most MAX_BYTES; ConfigError as ``parse_yaml``."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path.resolve()}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: not readable ({error.strerror})") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: more than {MAX_BYTES} bytes, which no config needs")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error})") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str, key: str | None = None) -> Any:
    """Returns the result of ``yaml.safe_load``, with names as they are written.

    ``where`` begins messages. With ``key``, the text is that key's value. Raises ConfigError, with
    the line, for wrong YAML, a block given twice, a value that does not exist (month 13), or a
    limit of this module that is exceeded.
    """
    return deepcopy(_parse_once(text, where, key))


@functools.lru_cache(maxsize=32)  # all expids of a model stand in one file
def _parse_once(text: str, where: str, key: str | None) -> Any:
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{where}: more than {MAX_BYTES} characters, which no config needs")
    try:
        return _Loader(text, where).get_data_of(key)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"a text holds no character {error.character!r}"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = error.problem or str(error)
    raise ConfigError(f"{where}, line {line}: not valid YAML: {problem:.300}")


class _Extent(NamedTuple):
    """The number of keys and values of a node, aliases followed, and the depth of their nesting."""

    size: int
    depth: int


class _Loader(yaml.SafeLoader):
    """A SafeLoader with limits; it merges mappings while it reads, so that they count."""

    def __init__(self, text: str, where: str) -> None:
        super().__init__(text)
        self._where = where
        self._extents: dict[yaml.Node, _Extent] = {}
        self._size = 0
        self._depth = 0

    def get_data_of(self, key: str | None) -> Any:
        """Returns the document; with a key, as its value."""
        node = self.get_single_node()
        if node is None:
            return None
        return self.construct_document(self._value_of(key, node))

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event = self.peek_event()
        self._depth += 1
        self._check_limits(event)
        before = self._size
        node = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            if node not in self._extents:
                _refuse(event, f"alias '{event.anchor}' stands within what it is an alias of")
            size, depth = self._extents[node]
            self._size += size
            self._check_limits(event, depth - 1)
        else:
            self._size += 1
            self._extents[node] = _Extent(self._size - before, 1 + self._inner_depth(node))
        self._depth -= 1
        return node

    def compose_scalar_node(self, anchor: str | None) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            _refuse(node, "half a surrogate pair is no character")
        return node

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        if node.tag in (f"{_TAG}map", f"{_TAG}set"):
            node.value = [(self._as_text(k), self._value_of(k.value, v)) for k, v in node.value]
            own = [key for key, _ in node.value if key.tag != f"{_TAG}merge"]
            self.flatten_mapping(node)
            self._check_repeated(own, is_block=self._depth == 1)
        return node

    def _value_of(self, key: Any, node: yaml.Node) -> yaml.Node:
        """Returns the value of a key; the values of NAMES as texts."""
        if not isinstance(key, str) or key not in NAMES:
            return node
        if isinstance(node, yaml.SequenceNode):
            items = [self._as_text(item) for item in node.value]
            copy = yaml.SequenceNode(node.tag, items, node.start_mark, node.end_mark)
            return self._in_place_of(node, copy)
        is_open = node.tag == f"{_TAG}null" and key not in _NEEDED_NAMES
        return node if is_open else self._as_text(node)

    def _as_text(self, node: yaml.Node) -> yaml.Node:
        """Returns a scalar as the text in the file, another node as it is."""
        if not (isinstance(node, yaml.ScalarNode) and node.value and node.tag in _KINDS):
            return node
        copy = yaml.ScalarNode(f"{_TAG}str", node.value, node.start_mark, node.end_mark)
        return self._in_place_of(node, copy)

    def _in_place_of(self, node: yaml.Node, copy: yaml.Node) -> yaml.Node:
        """Returns the copy, with the node's extent; an alias may use the node elsewhere."""
        if node in self._extents:
            self._extents[copy] = self._extents[node]
        return copy

    def scan_flow_scalar_non_spaces(self, double: bool, start_mark: yaml.Mark) -> Any:
        try:
            return super().scan_flow_scalar_non_spaces(double, start_mark)
        except (ValueError, OverflowError):  # as of "\U00110000"
            problem = "there is no character of this number"
            raise ScannerError(None, None, problem, self.get_mark()) from None

    def _check_limits(self, event: yaml.Event, further: int = 0) -> None:
        if self._size > MAX_VALUES:
            _refuse(event, f"more than {MAX_VALUES} values, aliases followed")
        if self._depth + further > MAX_DEPTH:
            _refuse(event, f"nested more than {MAX_DEPTH} deep")

    def _inner_depth(self, node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            return 0
        is_mapping = isinstance(node, yaml.MappingNode)
        inner = [n for pair in node.value for n in pair] if is_mapping else node.value
        return max((self._extents[n].depth for n in inner), default=0)

    def _check_repeated(self, keys: list[yaml.Node], is_block: bool) -> None:
        """Warns of a key that is given twice, refuses a whole block that is."""
        lines: dict[Hashable, int] = {}
        for node in keys:
            if not isinstance(node, yaml.ScalarNode):
                continue  # a list or a mapping as key is another error
            key = self.construct_object(node)
            if not isinstance(key, Hashable):
                continue
            line = node.start_mark.line + 1
            if key in lines and is_block:
                _refuse(node, f"key '{node.value}' is given twice, first in line {lines[key]}")
            if key in lines:
                logger.warning(
                    "%s: key '%s' is given twice, in lines %d and %d; the last one counts",
                    self._where,
                    node.value,
                    lines[key],
                    line,
                )
            lines[key] = line


def _refuse(found: yaml.Event | yaml.Node, problem: str) -> None:
    raise ComposerError(None, None, problem, found.start_mark)


def _checked(kind: str) -> Callable[[Any, yaml.Node], Any]:
    """Returns the constructor of a type of scalars, with an error that names the line."""
    construct = SafeConstructor.yaml_constructors[_TAG + kind]

    def constructor(loader: _Loader, node: yaml.Node) -> Any:
        text = loader.construct_scalar(node)
        problem = f"{text!r:.60} is no {kind}"
        try:
            if len(text) <= MAX_DIGITS:
                return construct(loader, node)
            problem += f" of at most {MAX_DIGITS} characters"
        except (ValueError, OverflowError, LookupError, AttributeError):
            pass
        raise ConstructorError(None, None, problem, node.start_mark)

    return constructor


def _tuple(loader: _Loader, node: yaml.Node) -> tuple[Any, ...]:
    if not isinstance(node, yaml.SequenceNode):
        raise ConstructorError(None, None, "!!python/tuple needs a list", node.start_mark)
    return tuple(loader.construct_sequence(node, deep=True))


_Loader.add_constructor(f"{_TAG}python/tuple", _tuple)
for _kind in ("bool", "int", "float", "timestamp"):
    _Loader.add_constructor(_TAG + _kind, _checked(_kind))
