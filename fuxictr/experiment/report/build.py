"""``bash 3.analyze.sh --report``: records, draws and writes the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fuxictr.analysis.sample import Sample
from fuxictr.datasets import registry
from fuxictr.experiment.report.evidence import Evidence, Rows, gather, record
from fuxictr.experiment.report.figures import draw_figures
from fuxictr.experiment.report.manifest import describe
from fuxictr.experiment.report.page import Page, to_html, to_markdown
from fuxictr.experiment.report.sections import all_sections
from fuxictr.experiment.tables import find_ceiling
from fuxictr.experiment.zoo.models import ROOT
from fuxictr.files import write_atomically
from fuxictr.plotting.summary import write_summary


def make_report(
    rows: Rows,
    dataset: str,
    models: Sequence[str],
    seeds: str | None,
    gpu: int | str,
    sample: Sample,
    again: bool,
    command: str,
) -> list[Path]:
    """Writes ``results/<dataset_id>/report.{html,md,json}``; returns their paths.

    report.json says what the report was made from and which files it drew. ``models``, ``seeds``
    and ``gpu`` are as the options; ``again`` repeats recordings that are up to date.

    Raises:
        DataError: there is no run to report.
    """
    evidence = gather(rows, dataset, models, seeds)
    record(evidence, gpu, sample, again)
    drawn, problems = draw_figures(evidence)
    ceiling = find_ceiling(dataset, evidence.comparisons)
    sections = all_sections(evidence, drawn, problems, ceiling, command)
    page = Page(
        f"Supervised feature generation on {evidence.dataset_id}",
        "What the runs of this dataset say of the generative variant (GEN) of each backbone beside "
        "its discriminative one (DIS). Every number, sentence and figure is made from the results "
        "and the checkpoints; none is typed in.",
        sections,
    )
    folder = ROOT / "results" / registry.dataset_id_of(dataset)
    about = describe(evidence, drawn, _write_summaries(evidence), command)
    contents = {
        "report.html": to_html(page),
        "report.md": to_markdown(page, folder),
        "report.json": json.dumps(about, indent=1) + "\n",
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents]


def _write_summaries(evidence: Evidence) -> list[Path]:
    """Writes the numbers of all recorded seeds of DIS and GEN, one csv per backbone."""
    paths = []
    for c in evidence.comparisons:
        keys = [(side.expid, seed) for side in (c.dis, c.gen) for seed in side.seeds]
        found = [evidence.numbers[key] for key in keys if key in evidence.numbers]
        if found:
            paths.append(write_summary(ROOT, evidence.dataset_id, c.backbone, found))
    return paths
