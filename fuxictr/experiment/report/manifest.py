"""report.json: what a report was made from and which files it drew, for scripts that copy them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fuxictr.config import TrainConfig, list_expids
from fuxictr.experiment.report.evidence import Evidence
from fuxictr.experiment.tables.seed_runs import SeedRuns
from fuxictr.experiment.zoo.ablations import GROUPS, ablated_backbones
from fuxictr.experiment.zoo.models import ROOT, backbones, select_expids
from fuxictr.experiment.zoo.selection import parse_seeds

TABLES = "python -m fuxictr tables"


def describe(
    evidence: Evidence, drawn: Mapping[str, Path], summaries: Iterable[Path], command: str
) -> dict[str, Any]:
    """Returns the content of report.json.

    ``drawn`` is name -> path without suffix of the figures, ``summaries`` the csv files of the
    recordings' numbers, ``command`` what the user typed.
    """
    ablations = [
        {
            "backbone": a.backbone,
            "group": a.group,
            "expids": [result.side.expid for result in a.results],
            "seeds": list(a.results[0].side.seeds),
        }
        for a in evidence.ablations
    ]
    compared = [
        {
            "backbone": c.backbone,
            "expids": [c.dis.expid, c.gen.expid],
            "seeds": list(c.dis.seeds),
        }
        for c in evidence.comparisons
    ]
    sides = [*evidence.sides, *(r.side for a in evidence.ablations for r in a.results)]
    rows = [row for side in sides for row in side.runs.values()]
    return {
        "command": command,
        "train_commands": train_commands(evidence.dataset, compared, ablations),
        "dataset_id": evidence.dataset_id,
        "backbones": compared,
        "ablations": ablations,
        "figures": sorted(_relative(stem.with_name(f"{stem.name}.png")) for stem in drawn.values()),
        "summaries": [_relative(path) for path in summaries],
        "sizes": distinct(row.rows for row in rows),
        "devices": sorted({name for side in sides for name in side.devices}),
        "versions": distinct(row.versions for row in rows),
        "code_versions": distinct(row.code_version for row in rows),
        "code_hashes": distinct(row.code_hash for row in rows),
        "runs": _runs(sides),
    }


def train_commands(
    dataset: str, compared: Sequence[Mapping[str, Any]], ablations: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Returns the commands that make the runs and their tables, from the entries of report.json."""
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for entry in compared:
        by_seeds.setdefault(tuple(entry["seeds"]), []).append(entry["backbone"])
    commands = []
    for seeds, names in by_seeds.items():
        is_paper = set(names) == set(backbones(dataset))
        chosen = "--paper" if is_paper else f"--model {','.join(names)}"
        commands.append(_command(chosen, dataset, names, seeds))
    if len(commands) > 1:  # each writes the table of its own backbones
        models = ",".join(entry["backbone"] for entry in compared)
        commands.append(f"{TABLES} --dataset {dataset} --model {models}")
    groups: dict[tuple[int, ...], dict[str, list[str]]] = {}
    for entry in ablations:
        found = groups.setdefault(tuple(entry["seeds"]), {})
        found.setdefault(entry["backbone"], []).append(entry["group"])
    there_are = {(n, group) for group in GROUPS for n in ablated_backbones(dataset, group)}
    for seeds, by_backbone in groups.items():
        if {(name, group) for name, some in by_backbone.items() for group in some} == there_are:
            commands.append(_command("--ablation all", dataset, list(by_backbone), seeds))
            continue
        for name, some in by_backbone.items():
            chosen = f"--ablation {','.join(some)} --model {name}"
            commands.append(_command(chosen, dataset, [name], seeds))
    return commands


def _command(chosen: str, dataset: str, names: Sequence[str], seeds: Sequence[int]) -> str:
    """Returns the command, with a count in place of seeds that start at the configs' own seed."""
    text = seed_option(seeds)
    if all(parse_seeds(str(len(seeds)), _own_seed(name, dataset)) == list(seeds) for name in names):
        text = str(len(seeds))
    return f"bash 2.reproduce.sh {chosen} --dataset {dataset} --seeds {text}"


def seed_option(seeds: Sequence[int]) -> str:
    """Returns the seeds as --seeds takes them; a comma tells a single seed from a count."""
    return ",".join(map(str, seeds)) + "," * (len(seeds) == 1)


def _own_seed(backbone: str, dataset: str) -> int:
    (choice,) = select_expids(backbone, dataset, ["dis"])
    return list_expids(choice.folder / "config")[choice.expid].get("seed", TrainConfig.seed)


def _runs(sides: Iterable[SeedRuns]) -> list[dict[str, Any]]:
    """Returns what identifies the runs that were used, each once."""
    keys = ("run_id", "time", "config_hash", "data_hash", "code_hash", "checkpoint_sha256")
    found = {(side.expid, seed): row for side in sides for seed, row in side.runs.items()}
    return [
        {"expid": expid, "seed": seed, **{key: getattr(row, key) for key in keys}}
        for (expid, seed), row in found.items()
    ]


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def distinct(values: Iterable[Any]) -> list[Any]:
    """Returns each value once, without empty ones."""
    found: list[Any] = []
    for value in values:
        if value and value not in found:
            found.append(value)
    return found
