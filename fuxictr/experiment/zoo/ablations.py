"""The paper's ablations: their expids, and their names in tables and figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fuxictr.config import list_expids
from fuxictr.datasets import registry
from fuxictr.errors import ConfigError, did_you_mean
from fuxictr.experiment.zoo.models import find_folder, select_expids, zoo_models
from fuxictr.experiment.zoo.selection import split_names

# Group -> word of the config -> name of the arm. Words that are not here name themselves.
LABELS: dict[str, dict[str, str]] = {
    "source": {
        "own": "own field",
        "high": "high-cardinality fields",
        "low": "low-cardinality fields",
        "own_reference": "own field (reference)",
        "high_reference": "high-cardinality fields (reference)",
        "low_reference": "low-cardinality fields (reference)",
        "full": "all fields (GEN)",
    },
    "encoder": {
        "field_shared": "field-shared",
        "linear": "linear",
        "stacked": "stacked layers",
        "self_attention": "self-attention",
        "full": "one layer (GEN)",
    },
    "target": {
        "random": "random fields",
        "masked": "masked, one vector",
        "field_masked": "masked, one a field",
        "hard_masked": "masked with zeros",
        "full": "all fields (GEN)",
    },
    "activation": {
        "linear": "linear",
        "sigmoid": "sigmoid",
        "tanh": "tanh",
        "silu": "SiLU",
        "elu": "ELU",
        "prelu": "PReLU",
        "full": "ReLU (GEN)",
    },
}
GROUPS = tuple(LABELS)
# Words of the publications that differ from the config's. The published figures are of the arms as
# the paper's code has them; there are none of ours.
_PUBLISHED = {
    "source=own_reference": "source=own",
    "source=high_reference": "source=high_cardinality",
    "source=low_reference": "source=low_cardinality",
    "source=own": "source=own_ours",
    "source=high": "source=high_ours",
    "source=low": "source=low_ours",
}


@dataclass(frozen=True)
class Arm:
    """One expid of an ablation.

    Attributes:
        group: source, encoder, target or activation.
        word: the config's word, ``dis`` and ``full`` for the two references.
        label: its name on an axis.
        published: its variant in docs/reference/published_results.csv.
    """

    group: str
    word: str
    label: str
    expid: str
    folder: Path
    published: str

    @property
    def is_reference(self) -> bool:
        """Whether it is DIS or the full GEN."""
        return self.word in ("dis", "full")

    @property
    def variant(self) -> str:
        """``dis`` or ``gen``."""
        return "dis" if self.word == "dis" else "gen"


def find_arms(backbone: str, dataset: str, group: str) -> list[Arm]:
    """Returns DIS, the arms of the ablation in the order of the configs, and the full GEN.

    An arm is an expid ``<expid of GEN>_<group>_<word>``.

    Raises:
        ConfigError: unknown group, or no expid of the backbone on the dataset is an arm of it.
    """
    if group not in GROUPS:
        raise ConfigError(
            f"--ablation {group}: allowed: all, {', '.join(GROUPS)}{did_you_mean(group, GROUPS)}"
        )
    dis, full = select_expids(backbone, dataset, ["dis", "gen"])
    prefix = f"{full.expid}_{group}_"
    found = [e for e in list_expids(full.folder / "config") if e.startswith(prefix)]
    if not found:
        having = ", ".join(ablated_backbones(dataset, group)) or "none"
        raise ConfigError(
            f"--ablation {group}: {backbone} has no expid {prefix}* on {dataset}; "
            f"backbones that have: {having}"
        )
    arms = [Arm(group, "dis", "DIS", dis.expid, dis.folder, "DIS")]
    for expid in found:
        word = expid.removeprefix(prefix)
        variant = f"{group}={word}"
        label = LABELS[group].get(word, word)
        published = _PUBLISHED.get(variant, variant)
        arms.append(Arm(group, word, label, expid, full.folder, published))
    return [*arms, Arm(group, "full", LABELS[group]["full"], full.expid, full.folder, "GEN")]


def ablated_backbones(dataset: str, group: str) -> list[str]:
    """Returns the backbones that have arms of the group on the dataset, in the zoo's order."""
    mark = f"_{registry.alias_of(dataset)}_gen_{group}_"
    names = [
        expid.partition(mark)[0]
        for model in zoo_models()
        for expid in list_expids(find_folder(model) / "config")
        if mark in expid
    ]
    return list(dict.fromkeys(names))


def parse_groups(text: str) -> list[str]:
    """Returns the groups of ``source,target`` or ``all``; ConfigError at another word."""
    names = split_names(text.lower())
    wrong = [name for name in names if name not in (*GROUPS, "all")]
    if wrong or not names:
        hint = did_you_mean(wrong[0], GROUPS) if wrong else ""
        raise ConfigError(f"--ablation {text}: allowed: all, {', '.join(GROUPS)}{hint}")
    return [group for group in GROUPS if group in names or "all" in names]
