"""The runs of a sweep: backbones x variants x datasets x seeds, checked before the first starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fuxictr.config import ExperimentConfig
from fuxictr.experiment.zoo.ablations import ablated_backbones, find_arms
from fuxictr.experiment.zoo.models import backbones, load_experiment, select_expids
from fuxictr.experiment.zoo.selection import parse_seeds


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep; ``config`` is checked and has the run's seed and file names.

    ``config_dir`` is a config folder elsewhere than in the model's ``folder``.
    """

    dataset: str
    backbone: str
    expid: str
    seed: int
    folder: Path
    config: ExperimentConfig
    model_class: type
    config_dir: Path | None = None


def with_seed(config: ExperimentConfig, seed: int) -> ExperimentConfig:
    """Returns the config with a seed; the files of another than its own end in ``_seed<S>``."""
    if seed == config.train.seed:
        return config
    return replace(
        config,
        train=replace(config.train, seed=seed),
        run=replace(config.run, model_id=f"{config.run.model_id}_seed{seed}"),
    )


def plan_backbones(
    models: Sequence[str], dataset: str, variants: Sequence[str], seeds: str
) -> list[PlannedRun]:
    """Returns the runs of backbones on a dataset, the first seed of all before the second of any.

    A ConfigError names an expid that is missing or cannot be used.
    """
    names = backbones(dataset) if list(models) == ["all"] else models
    found = [
        (name, choice.expid, choice.folder)
        for name in names
        for choice in select_expids(name, dataset, list(variants))
    ]
    return _plan(found, dataset, seeds)


def plan_ablations(
    models: Sequence[str], dataset: str, groups: Sequence[str], seeds: str
) -> list[PlannedRun]:
    """Returns the runs of ablations on a dataset, with DIS and the full GEN.

    ``groups`` are among ablation.GROUPS; a backbone without a group's ablation has no runs of it.

    Raises:
        ConfigError: none of the backbones has any of the ablations, or an expid cannot be used.
    """
    pairs = [
        (name, group)
        for group in groups
        for name in ablated_backbones(dataset, group)
        if name in models or list(models) == ["all"]
    ]
    # Where there is no pair, the first one raises an error that names the existing ablations.
    pairs = pairs or [(models[0], groups[0])]
    found = [
        (name, arm.expid, arm.folder)
        for name, group in pairs
        for arm in find_arms(name, dataset, group)
    ]
    return _plan(dict.fromkeys(found), dataset, seeds)


def unique_runs(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Returns the first run of each expid, dataset and seed."""
    first: dict[tuple[str, str, int], PlannedRun] = {}
    for run in runs:
        first.setdefault((run.expid, run.dataset, run.seed), run)
    return list(first.values())


def _plan(found: Iterable[tuple[str, str, Path]], dataset: str, seeds: str) -> list[PlannedRun]:
    runs = []
    for backbone, expid, folder in found:
        config, model_class = load_experiment(expid, folder)
        for place, seed in enumerate(parse_seeds(seeds, config.train.seed)):
            seeded = with_seed(config, seed)
            run = PlannedRun(dataset, backbone, expid, seed, folder, seeded, model_class)
            runs.append((place, run))
    return [run for _, run in sorted(runs, key=lambda item: item[0])]
