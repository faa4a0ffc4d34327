"""Damaged and invented configs: a ConfigError, or a checked config that holds what they say."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import types
import typing
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fuxictr.config import (
    ColumnConfig,
    DatasetConfig,
    ExperimentConfig,
    GeneratorConfig,
    RunConfig,
    TrainConfig,
    apply_overrides,
    check_config,
    list_expids,
    load_raw_config,
    loading,
)
from fuxictr.config.coercion import dataclass_annotations, signature_annotations
from fuxictr.config.old_keys import REFERENCE_KEYS, RENAMED_MODEL_KEYS
from fuxictr.config.sections import IGNORED_KEYS, RENAMED_KEYS
from fuxictr.config.yaml_file import NAMES, parse_yaml
from fuxictr.errors import ConfigError
from fuxictr.experiment.zoo.models import ZOO, load_model_class, zoo_models
from tests.fuzz.mutations import case_counts, cases, mutated, no_hang

SECTIONS = (RunConfig, TrainConfig, DatasetConfig, GeneratorConfig)
OWN = {k: v for m in zoo_models() for k, v in signature_annotations(load_model_class(m)).items()}
# Kept in another form than given: an alias sets another key, a name gets its one spelling.
REWRITTEN = {*GeneratorConfig.keys(), "metrics", "amp", "monitor_mode"}
REWRITTEN -= {"gamma", "num_source", "num_target"}
OLD_KEYS = (*RENAMED_KEYS, *IGNORED_KEYS, *REFERENCE_KEYS, *RENAMED_MODEL_KEYS, "cov_x")

DATASETS = (ZOO / "dataset_config.yaml").read_bytes()
MODELS = {m: (ZOO / m / "config" / "model_config.yaml").read_bytes() for m in ("FmFM", "PNN")}
TOKENS = (
    *(b"&a ", b"*a", b"<<: *a", b"<<:", b"!!int ", b"!!set ", b"!!binary ", b"!!timestamp "),
    *(b"? ", b"- ", b": ", b"| \n", b"> \n", b"---\n", b"...\n", b"%YAML 1.1\n", b"~", b"yes"),
    *(b"2001-02-30", b"0x_", b"1:1.5", b".nan", b".inf", b"1e3", b'"\\0"', b'"\\ud800"', b"!x "),
)


@pytest.fixture(autouse=True)
def _parse_equal_files_once(monkeypatch):
    read, known = loading.read_yaml, {}

    def cached(path):
        content = path.read_bytes()
        if content not in known:
            known[content] = read(path)
        return known[content]

    monkeypatch.setattr(loading, "read_yaml", cached)


def load(folder: Path, expid: str, *overrides: str) -> ExperimentConfig | None:
    """Returns the config, once what must hold of it was checked, or None where it is refused."""
    try:
        with no_hang():
            raw = load_raw_config(folder, expid)
            apply_overrides(raw, overrides)
            config = check_config(raw, expid, OWN)
    except ConfigError as error:
        assert 0 < len(str(error)) < 10_000
        return None
    with no_hang():
        check(config, {**merged(folder, expid), **assigned(overrides)})
    return config


def merged(folder: Path, expid: str) -> dict[Any, Any]:
    """Returns the keys of an expid as another reader merges them."""
    texts = [(folder / f"{name}_config.yaml").read_bytes() for name in ("model", "dataset")]
    models, datasets = map(safe_load, texts)
    params = {**(models.get("Base") or {}), **(models[expid] or {})}
    return {"model_id": expid, **params, **(datasets[params["dataset_id"]] or {})}


def assigned(overrides: Iterable[str]) -> dict[str, Any]:
    parts = [text.partition("=")[::2] for text in overrides]
    return {name: safe_load(value, name) for name, value in parts}


class PlainLoader(yaml.SafeLoader):
    """Another reader, which makes texts of names where it makes the mappings they are in."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        pairs = ((key.value or self.construct_object(key), value) for key, value in node.value)
        return {key: self.value_of(key, value) for key, value in pairs}

    def value_of(self, name: Any, node: yaml.Node) -> Any:
        kind = node.tag.rpartition(":")[2]
        if name in NAMES and isinstance(node, yaml.SequenceNode):
            return [self.value_of("name", item) for item in node.value]
        kinds = {"int", "float", "bool", "timestamp"}
        kinds |= {"null"} if name in ("name", "dataset_id") else set()
        is_text = (
            name in NAMES and isinstance(node, yaml.ScalarNode) and node.value and kind in kinds
        )
        return node.value if is_text else self.construct_object(node, deep=True)


@functools.cache
def safe_load(content: str | bytes, name: str | None = None) -> Any:
    loader = PlainLoader(content)
    node = loader.get_single_node()
    return None if node is None else loader.value_of(name, node)


def check(config: ExperimentConfig, given_params: dict[str, Any]) -> None:
    """Checks that a config holds the values that were given, within their bounds."""
    flat = config.params()
    for name, value in given_params.items():
        today = RENAMED_KEYS.get(name, name)
        if today != name and today in given_params:
            continue  # today's name counts
        name = today
        if name == "data_block_size" and value is not None and float(value) < 0:
            value = 0
        if name in flat and name not in REWRITTEN:
            assert same(flat[name], value), (name, value, flat[name])
        assert name in flat or name in OLD_KEYS
    columns = config.dataset.columns() if config.dataset.feature_cols else []
    for section in (config.run, config.train, config.dataset, config.generator, *columns):
        for spec in dataclasses.fields(section):
            check_bounds(getattr(section, spec.name), spec.metadata["bounds"])
    assert config.config_hash() == dataclasses.replace(config).config_hash()
    json.dumps(flat, allow_nan=False, default=lambda date: datetime.date.isoformat(date))
    assert config.checkpoint_path.parent.name == config.dataset.dataset_id
    assert config.variant in ("dis", "gen")


def check_bounds(value: Any, bounds: dict[str, float]) -> None:
    if isinstance(value, (int, float)):
        assert value >= bounds.get("ge", value) and value <= bounds.get("le", value)
        assert value > bounds.get("gt", float("-inf")) and value < bounds.get("lt", float("inf"))


def same(found: Any, given: Any) -> bool:
    """Whether a value is what YAML gave; a number may have been a text, an int a whole float."""
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        if isinstance(found, (list, tuple)):
            pairs = zip(found, given, strict=True)
            return isinstance(given, list) and all(same(f, g) for f, g in pairs)
        if isinstance(found, dict):
            return found.keys() == given.keys() and all(same(f, given[k]) for k, f in found.items())
        return type(found) is type(given) and found == given
    if isinstance(given, str):
        exact = Decimal(given.strip())
        return exact == found if isinstance(found, int) else float(exact) == found
    return not isinstance(given, bool) and (given == found or float(given) == found)


@functools.cache
def every_key() -> st.SearchStrategy[Any]:
    """Values of all types of YAML that can be keys."""
    large = st.sampled_from([2**53 + 1, 10**30, "9007199254740993", "1e3", "nan", "l2(1)"])
    numbers = [large, st.integers(), st.integers(-3, 70), st.floats()]
    texts = [large, st.text(max_size=5)]
    dates = [st.dates(), st.datetimes()]
    return st.one_of(st.none(), st.booleans(), *numbers, *texts, *dates, st.binary(max_size=3))


@functools.cache
def every_type() -> st.SearchStrategy[Any]:
    """Values of all types of YAML, nested."""
    return st.recursive(
        every_key() | st.sets(st.integers(0, 3), max_size=2),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(every_key(), inner, max_size=3),
        max_leaves=4,
    )


@functools.cache
def fitting(annotation: Any) -> st.SearchStrategy[Any]:
    """Values that an annotation takes, mostly, in all the forms that YAML may give them."""
    args = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return st.sampled_from(args)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return st.one_of(*map(fitting, args))
    if typing.get_origin(annotation) is list:
        return st.lists(fitting(args[0]), max_size=2)
    numbers = st.integers(0, 9) | st.sampled_from([2**53 + 1, 2**70, 0.5, 1e22, -1, float("nan")])
    return {
        bool: st.booleans(),
        int: numbers | numbers.map(str),
        float: numbers | numbers.map(str),
        str: st.sampled_from(["AUC", "NDCG(k=2)", "average", "2 steps", "a", "l2(1e-3)"]),
        type(None): st.none(),
    }.get(annotation, every_type())


@st.composite
def keys_of(draw: st.DrawFn, annotations: dict[str, Any], number: int) -> dict[Any, Any]:
    """Some keys of a section, of which a few have values of any type or are none of its keys."""
    found: dict[Any, Any] = {}
    for name in draw(st.lists(st.sampled_from([*annotations]), max_size=number)):
        fits = draw(st.integers(0, 9))
        found[name] = draw(fitting(annotations[name]) if fits else every_type())
    if not draw(st.integers(0, 9)):
        others = st.sampled_from(OLD_KEYS) | st.text(max_size=3) | every_key()
        found |= draw(st.dictionaries(others, every_type(), max_size=2))
    return found


@st.composite
def blocks(draw: st.DrawFn) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """An experiment's block and its dataset's, with invented keys."""
    column = {"name": ["a", "b"], **draw(keys_of(dataclass_annotations(ColumnConfig), 2))}
    dataset: dict[Any, Any] = {
        "feature_cols": [{"name": "x"}, column],
        "label_col": {"name": "click", "dtype": "float"},
    }
    experiment: dict[Any, Any] = {"model": "DCNv2", "dataset_id": "d", "embedding_dim": 4}
    for part in (RunConfig, TrainConfig, GeneratorConfig):
        experiment |= draw(keys_of(dataclass_annotations(part), 1))
    dataset |= draw(keys_of(dataclass_annotations(DatasetConfig), 1))
    return experiment | draw(keys_of(OWN, 1)), dataset


def assert_some_are_accepted(outcomes: list[ExperimentConfig | None]) -> None:
    accepted = sum(config is not None for config in outcomes)
    assert len(outcomes) / 20 < accepted < len(outcomes)


@pytest.mark.parametrize("count", case_counts)
def test_a_damaged_text_is_read_as_safe_load_reads_it(count):
    real = b"".join(MODELS["FmFM"].partition(b"FmFM_avazu")[:1])

    @cases(count)
    @given(mutated(real, TOKENS))
    def check_text(data):
        text = data.decode("utf-8", errors="replace")
        try:
            with no_hang():
                found = parse_yaml(text, "text")
        except ConfigError as error:
            assert str(error).startswith("text, line ")
            refused.append("given twice" in str(error) or "surrogate" in str(error))
            return
        expected = safe_load(text)
        assert repr(found) == repr(expected)
        read.append(found)

    read, refused = [], []
    check_text()
    assert len(read) > count / 10 and len(refused) > count / 10


@pytest.mark.parametrize("count", case_counts)
def test_damaged_config_files(tmp_path, count):
    files = {
        "model_config.yaml": st.sampled_from([*MODELS.values()]),
        # Whole where there is time: most of a case's is that of reading it.
        "dataset_config.yaml": st.just(DATASETS if count > 200 else DATASETS.split(b"\n\n")[1]),
    }

    @cases(count)
    @given(st.sampled_from([*files]), st.data())
    def check_files(damaged, data):
        real = {name: data.draw(content) for name, content in files.items()}
        expid = "FmFM_demo_gen" if b"FmFM_demo_gen" in real["model_config.yaml"] else "PNN_demo"
        real[damaged] = data.draw(mutated(real[damaged], TOKENS))
        for name, content in real.items():
            (tmp_path / name).write_bytes(content)
        try:
            list_expids(tmp_path)
        except ConfigError:
            pass
        outcomes.append(load(tmp_path, expid))

    outcomes = []
    check_files()
    assert_some_are_accepted(outcomes)


@pytest.mark.parametrize("count", case_counts)
def test_invented_keys_and_values(tmp_path, count):
    @cases(count)
    @given(blocks())
    def check_blocks(pair):
        experiment, dataset = pair
        for stem, content in (("model", {"e": experiment}), ("dataset", {"d": dataset})):
            text = yaml.safe_dump(content, allow_unicode=True)
            (tmp_path / f"{stem}_config.yaml").write_text(text, encoding="utf-8")
        outcomes.append(load(tmp_path, "e"))

    outcomes = []
    check_blocks()
    assert_some_are_accepted(outcomes)


@pytest.mark.parametrize("count", case_counts)
def test_assignments_of_the_command_line(tmp_path, count):
    (tmp_path / "model_config.yaml").write_bytes(MODELS["FmFM"].partition(b"FmFM_avazu")[0])
    (tmp_path / "dataset_config.yaml").write_bytes(DATASETS.partition(b"avazu_x4")[0])
    annotations = {k: v for s in SECTIONS for k, v in dataclass_annotations(s).items()}
    names = st.sampled_from([*annotations])
    words = st.lists(st.sampled_from([token.decode() for token in TOKENS]), max_size=3).map("".join)

    @cases(count)
    @given(names | names | names | st.text(max_size=3), st.data())
    def check_assignment(name, data):
        values = fitting(annotations.get(name)).map(lambda v: yaml.safe_dump(v, width=1000))
        text = data.draw(values | values | words | st.text(max_size=8))
        outcomes.append(load(tmp_path, "FmFM_demo", f"{name}={text}"))

    outcomes = []
    check_assignment()
    assert_some_are_accepted(outcomes)
