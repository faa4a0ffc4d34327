"""The sections of the report that come from recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fuxictr.analysis.rank_correlation import spearman
from fuxictr.analysis.spectrum import describe_condition
from fuxictr.analysis.summary import RunSummary
from fuxictr.experiment.report import sentences as say
from fuxictr.experiment.report.evidence import Evidence, named_sides
from fuxictr.experiment.report.figures import run_points
from fuxictr.experiment.report.page import Block, Picture, Section, find_pictures, gallery
from fuxictr.experiment.report.sentences import Pair, join_sentences
from fuxictr.experiment.tables.comparisons import Comparison
from fuxictr.experiment.tables.statistics import mean, paired_t_test, sample_std
from fuxictr.plotting.redundancy import RunPoint
from fuxictr.text_tables import TextTable


def spectra_section(evidence: Evidence, drawn: Mapping[str, Path]) -> Section:
    """Shows the spectra of the interacting embeddings and the numbers computed from them."""
    spectra: list[Picture] = []
    layers: list[Picture] = []
    for c in evidence.comparisons:
        name = c.backbone
        dis, gen = (evidence.shown_numbers(side.expid) for _, side in named_sides(c))
        text = f"{name}. {say.spectrum_sentence(dis, gen)}"
        alt = f"Singular value spectra of the embeddings of {name}, DIS and GEN"
        spectra += find_pictures(drawn, f"{name}_collapse", alt, text)
        alt = f"Spectra of the layers of {name}"
        layers += find_pictures(drawn, f"{name}_layers", alt, f"{name}, layer by layer.")
    blocks: list[Block] = [
        "The spectrum is of the covariance of what interacts, the raw embeddings of DIS and the "
        "generated ones of GEN: a curve that falls off early belongs to embeddings that collapsed "
        f"into few dimensions. {_shown_seeds(evidence)}",
        _compare(evidence, "RankMe", "rankme", 2, higher_is_better=True),
        *_collapse_table(evidence),
        *gallery(spectra),
        *gallery(layers),
    ]
    return Section("Spectra", blocks)


def correlation_section(evidence: Evidence, drawn: Mapping[str, Path]) -> Section:
    """Shows the correlations between the two interacting sides."""
    pictures = []
    for c in evidence.comparisons:
        for variant, side in named_sides(c):
            numbers = evidence.shown_numbers(side.expid)
            if numbers is not None:
                value = f"{numbers.mean_absolute_correlation:.4f}"
                caption = f"{c.backbone} {variant}: mean absolute correlation {value}."
                name = f"{c.backbone}_{variant.lower()}_correlation"
                alt = "Correlations between the interacting sides of "
                alt += f"{c.backbone} {variant.lower()}"
                pictures += find_pictures(drawn, name, alt, caption)
    first = (
        "Each map holds the Pearson correlations between the dimensions of the two sides that "
        "interact; redundancy is the mean of their absolute values. Where both sides are the raw "
        f"embeddings, as in most of DIS, the diagonal is one. {_shown_seeds(evidence)}"
    )
    name = "mean_absolute_correlation"
    sentence = _compare(evidence, name.replace("_", " "), name, 4, higher_is_better=False)
    return Section("Correlations", [first, sentence, *gallery(pictures)])


def fields_section(evidence: Evidence, drawn: Mapping[str, Path]) -> Section:
    """Shows the fields one by one, and against their cardinalities."""
    by_field: list[Picture] = []
    by_cardinality: list[Picture] = []
    pairs = []
    for c in evidence.comparisons:
        dis, gen = (
            {summary.field: summary.rankme for summary in evidence.fields.get(side.expid, ())}
            for _, side in named_sides(c)
        )
        text = f"{c.backbone}. {say.fields_sentence(dis, gen)}"
        alt = f"Spectrum of each field of {c.backbone}"
        by_field += find_pictures(drawn, f"{c.backbone}_fields", alt, text)
        text = f"{c.backbone}. {_cardinality(evidence, c)}"
        alt = f"RankMe of the fields of {c.backbone} against their cardinalities"
        by_cardinality += find_pictures(drawn, f"{c.backbone}_cardinality", alt, text)
        if dis and gen:
            pairs.append(Pair(c.backbone, mean([*dis.values()]), mean([*gen.values()])))
    sentence = say.winners_sentence("mean RankMe of a field", pairs, 2)
    sentence = join_sentences(sentence, _shown_seeds(evidence))
    return Section("Field by field", [sentence, *gallery(by_field), *gallery(by_cardinality)])


def redundancy_section(evidence: Evidence, drawn: Mapping[str, Path]) -> Section:
    """Shows AUC against redundancy, one point per run."""
    points = run_points(evidence)
    value = spearman([p.redundancy for p in points], [p.auc for p in points])
    sentences = [
        say.redundancy_sentence(*(_point_pairs(points, name) for name in ("redundancy", "auc"))),
        say.correlation_sentence("test AUC", "redundancy", {"": value}, len(points), "run"),
    ]
    alt = "Test AUC of each run against the redundancy of its interacting sides"
    pictures = find_pictures(drawn, "redundancy", alt, "One marker per run.")
    return Section("AUC and redundancy", [join_sentences(*sentences), *gallery(pictures)])


def _cardinality(evidence: Evidence, comparison: Comparison) -> str:
    values: dict[str, float | None] = {}
    num_points = 0
    for variant, side in named_sides(comparison):
        known = [f for f in evidence.fields.get(side.expid, ()) if f.cardinality]
        if known:
            num_points = len(known)
            values[variant] = spearman([f.cardinality for f in known], [f.rankme for f in known])
    names = ("a field's RankMe", "its cardinality")
    return say.correlation_sentence(*names, values, num_points, "categorical field")


def _compare(
    evidence: Evidence, what: str, attribute: str, digits: int, higher_is_better: bool
) -> str:
    """Says how DIS and GEN compare in a number of their recordings, over the seeds of both."""
    pairs = []
    for c in evidence.comparisons:
        dis, gen = (
            [getattr(run, attribute) for run in runs] for runs in evidence.paired_numbers(c)
        )
        if dis:
            p = paired_t_test(dis, gen)
            pairs.append(Pair(c.backbone, mean(dis), mean(gen), p, len(dis)))
    return join_sentences(
        say.winners_sentence(what, pairs, digits),
        say.noise_sentence(pairs, higher_is_better, "DIS", "GEN"),
    )


def _collapse_table(evidence: Evidence) -> list[TextTable]:
    """Returns the numbers of the recordings, over the seeds that both sides have."""
    rows = [
        [c.backbone, variant, str(len(runs)), *(text(runs) for text in _COLUMNS.values())]
        for c in evidence.comparisons
        for variant, runs in zip(("DIS", "GEN"), evidence.paired_numbers(c), strict=True)
        if runs
    ]
    head = ["backbone", "variant", "seeds", *_COLUMNS]
    title = "Collapse and redundancy, mean ± sample standard deviation over the seeds of both"
    return [TextTable(title, head, rows, 2)] if rows else []


def summary_table(summaries: Sequence[RunSummary]) -> TextTable:
    """Returns collapse and redundancy of each run."""
    rows = [
        [run.model, run.variant.upper(), run.expid, *(text([run]) for text in _COLUMNS.values())]
        for run in summaries
    ]
    head = ["model", "variant", "expid", *_COLUMNS]
    return TextTable("Collapse and redundancy", head, rows, num_left=3)


def _mean(name: str, digits: int) -> Callable[[Sequence[RunSummary]], str]:
    """Returns a function that writes the mean of a number and its deviation over some runs."""

    def text(runs: Sequence[RunSummary]) -> str:
        values = [getattr(run, name) for run in runs]
        deviation = sample_std(values) if digits else None
        shown = f"{mean(values):.{digits}f}"
        return shown if deviation is None else f"{shown} ± {deviation:.{digits}f}"

    return text


def _effective(runs: Sequence[RunSummary]) -> str:
    return f"{_mean('effective_dimensions', 0)(runs)} of {runs[0].num_dimensions}"


def _condition(runs: Sequence[RunSummary]) -> str:
    """Returns the least and the largest; a mean over several magnitudes is just the largest."""
    values = [run.condition_number for run in runs]
    return " to ".join(dict.fromkeys(map(describe_condition, (min(values), max(values)))))


# Head of a column -> the text of its number over some recordings.
_COLUMNS: dict[str, Callable[[Sequence[RunSummary]], str]] = {
    "RankMe": _mean("rankme", 2),
    "information abundance": _mean("information_abundance", 2),
    "dimensions > 1e-6": _effective,
    "at most": _mean("rank_bound", 0),
    "mean |correlation|": _mean("mean_absolute_correlation", 4),
    "dimensions for 98 %": _mean("dimensions_of_98_percent", 0),
    "condition number": _condition,
    "uniformity": _mean("uniformity", 4),
}


def _shown_seeds(evidence: Evidence) -> str:
    """Says which seeds the figures show; only recorded runs have figures."""
    expids = [s.expid for s in evidence.sides if evidence.shown_numbers(s.expid) is not None]
    seeds = sorted({evidence.shown[expid] for expid in expids})
    names = say.list_names([str(seed) for seed in seeds])
    return f"The figures show seed{'s' * (len(seeds) > 1)} {names}." * bool(seeds)


def _point_pairs(points: Sequence[RunPoint], name: str) -> list[Pair]:
    """Returns the means of a number of the points, over the seeds that both sides have."""
    values = {(p.backbone, p.variant, p.seed): getattr(p, name) for p in points}
    pairs = []
    for backbone in dict.fromkeys(p.backbone for p in points):
        seeds = [s for b, v, s in values if (b, v) == (backbone, "dis")]
        both = [seed for seed in seeds if (backbone, "gen", seed) in values]
        if both:
            dis, gen = (mean([values[backbone, v, s] for s in both]) for v in ("dis", "gen"))
            pairs.append(Pair(backbone, dis, gen, num_seeds=len(both)))
    return pairs
