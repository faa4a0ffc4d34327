"""The sections of the report that say what was run and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from fuxictr.experiment.report import sentences as say
from fuxictr.experiment.report.evidence import Evidence
from fuxictr.experiment.report.manifest import distinct, seed_option
from fuxictr.experiment.report.page import Block, Commands, Items, Section
from fuxictr.experiment.tables.ablations import arm_notes
from fuxictr.text_tables import TextTable


def runs_section(evidence: Evidence) -> Section:
    """Says what was run, on which data and device, and with which code."""
    sides = evidence.sides
    runs = [run for side in sides for run in side.runs.values()]
    sizes = distinct(
        ", ".join(f"{count:,} {split}" for split, count in (run.rows or {}).items()) for run in runs
    )
    versions = distinct(
        ", ".join(f"{name} {version}" for name, version in (run.versions or {}).items())
        for run in runs
    )
    dates = sorted(run.time[:16].replace("T", " ") for run in runs if run.time)
    recorded = "nothing is recorded"
    if evidence.numbers:
        num_rows = max(numbers.num_rows for numbers in evidence.numbers.values())
        recorded = f"{num_rows:,} validation rows, sample seed {evidence.sample.seed}, eval mode"
    table = {
        "data": evidence.dataset_id,
        "rows": "; ".join(sizes) or "not in the results",
        "backbones": ", ".join(c.backbone for c in evidence.comparisons),
        "seeds": ", ".join(str(seed) for seed in sorted({s for side in sides for s in side.seeds})),
        "finished runs": f"{len(runs)} of {sum(len(side.seeds) for side in sides)}",
        "device": "; ".join(distinct(name for side in sides for name in side.devices)),
        "versions": "; ".join(versions),
        "code": ", ".join(distinct(run.code_version for run in runs)),
        "code hashes": ", ".join(distinct(run.code_hash for run in runs)),
        "data hash": ", ".join(distinct(run.data_hash for run in runs)),
        "run": f"{dates[0]} to {dates[-1]} UTC" if dates else "",
        "recorded sample": recorded,
    }
    complete = sum(c.is_complete for c in evidence.comparisons)
    total = len(evidence.comparisons) + len(evidence.untrained)
    sentence = f"{complete} of {say.count_text(total, 'backbone')} have every run of DIS "
    sentence += "and GEN; the last section names what is missing and the command that makes it."
    rows = [[name, value] for name, value in table.items() if value]
    return Section("What was run", [sentence, TextTable("Runs", ("", ""), rows, num_left=2)])


def missing_section(evidence: Evidence, problems: Sequence[str], command: str) -> Section:
    """Names what is missing, and the commands that make it and this report."""
    notes = [f"{name}: not trained" for name in evidence.untrained]
    notes += [note for c in evidence.comparisons for note in c.notes]
    for ablation in evidence.ablations:
        what = f"{ablation.backbone}, {ablation.group}"
        gen = ablation.results[-1].side
        notes += [f"{what}, {note}" for r in ablation.results for note in arm_notes(r, gen)]
    unrecorded = [
        f"{expid}, seed {seed}: not recorded: {reason}"
        for (expid, seed), reason in evidence.unrecorded.items()
    ]
    blocks: list[Block] = []
    listed = [*notes, *unrecorded, *(f"not drawn: {problem}" for problem in problems)]
    if listed:
        blocks.append(Items(tuple(listed)))
    commands = _train_commands(evidence)
    if commands:
        blocks += ["To make what is missing:", Commands(tuple(commands))]
    if not blocks:
        blocks.append(
            "Nothing: every run, recording and figure that this report asks for is there."
        )
    return Section("What is missing", [*blocks, "To make this report again:", Commands((command,))])


def _train_commands(evidence: Evidence) -> list[str]:
    """Returns the commands that make the missing runs; finished ones are not repeated."""
    commands = []
    lacking = [c for c in evidence.comparisons if not c.is_complete]
    names = [*evidence.untrained, *(c.backbone for c in lacking)]
    if names:
        seeds = sorted({s for c in evidence.comparisons for s in c.dis.seeds})
        commands.append(
            f"bash 2.reproduce.sh --model {','.join(names)} --dataset {evidence.dataset} "
            f"--seeds {seed_option(seeds)}"
        )
    for a in evidence.ablations:
        if not all(result.side.is_complete for result in a.results):
            commands.append(
                f"bash 2.reproduce.sh --ablation {a.group} --model {a.backbone} "
                f"--dataset {evidence.dataset} --seeds {seed_option(a.results[0].side.seeds)}"
            )
    return commands
