"""Sentences of the report; numbers that are shown with the same digits count as equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuxictr.experiment.tables.seed_runs import is_better_higher
from fuxictr.experiment.tables.text import format_p

if TYPE_CHECKING:
    from fuxictr.analysis.summary import RunSummary

LEVEL = 0.05
_TESTED = "The p-values are not corrected for the number of tests."


@dataclass(frozen=True)
class Pair:
    """The means of a number over the seeds of two sides, and the p of a paired test of them.

    ``name`` says whose numbers they are; ``p_value`` is None where the test is not defined.
    """

    name: str
    dis: float
    gen: float
    p_value: float | None = None
    num_seeds: int = 1


def p_text(value: float) -> str:
    """Returns ``p = 0.012``, or ``p < 0.001``."""
    text = format_p(value)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def list_names(names: Sequence[str]) -> str:
    """Returns ``A, B and C``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def quote_name(name: str) -> str:
    """Returns a name, in quotation marks if it has a comma."""
    return f'"{name}"' if "," in name else name


def count_text(number: int, noun: str) -> str:
    """Returns ``1 seed`` or ``3 seeds``."""
    return f"{number} {noun}" + "s" * (number != 1)


def join_sentences(*sentences: str) -> str:
    """Returns the sentences that are not empty as one paragraph."""
    return " ".join(filter(None, sentences))


def winners_sentence(what: str, pairs: Sequence[Pair], digits: int) -> str:
    """Says on which backbones GEN is higher than, lower than and equal to DIS."""
    if not pairs:
        return f"No backbone has both variants complete, so no {what} is compared."
    if len(pairs) == 1:
        return _one_pair(what, pairs[0], digits)
    names: dict[str, list[str]] = {"higher": [], "lower": [], "equal": []}
    for pair in pairs:
        names[relation(pair.dis, pair.gen, digits)].append(pair.name)
    texts = []
    for word, found in names.items():
        some = f"all {len(pairs)}"
        if len(found) < len(pairs):
            some = f"{len(found)} ({list_names(found)})"
        if found:
            texts.append(f"the {'same' if word == 'equal' else word} {what} on {some}")
    return f"Over {len(pairs)} backbones, GEN has {list_names(texts)}."


def noise_sentence(pairs: Sequence[Pair], higher_is_better: bool, first: str, second: str) -> str:
    """Says which differences between ``first`` (dis) and ``second`` (gen) exceed seed noise."""
    if not pairs:
        return ""
    least, most = (pick(pair.num_seeds for pair in pairs) for pick in (min, max))
    if most < 2:
        return "One seed: no test is possible, and any difference may be chance."
    favours: dict[str, list[str]] = {second: [], first: []}
    noise: list[str] = []
    untested: list[str] = []
    for pair in pairs:
        if pair.p_value is None:
            untested.append(pair.name)
            continue
        name = f"{pair.name} ({p_text(pair.p_value)})"
        is_second = (pair.gen > pair.dis) == higher_is_better
        side = noise if pair.p_value >= LEVEL else favours[second if is_second else first]
        side.append(name)
    found = [f"in favour of {side} on {list_names(on)}" for side, on in favours.items() if on]
    parts = []
    if found:
        parts.append(f"a paired t-test gives p < {LEVEL} {list_names(found)}")
    if noise:
        parts.append(f"the difference is within the noise of the seeds on {list_names(noise)}")
    if untested:
        reason = "one seed, or the same difference for every seed"
        parts.append(f"no test is defined on {list_names(untested)} ({reason})")
    seeds = f"{most}" if least == most else f"{least} to {most}"
    text = f"Over {seeds} seeds, {'; '.join(parts)}."
    return f"{text} {_TESTED}" if len(pairs) - len(untested) > 1 else text


def average_sentence(
    metric: str, lift: float | None, group: str, num_backbones: int, published: float | None
) -> str:
    """Says what the mean relative lift, in percent, over the complete backbones of a group is."""
    if lift is None:
        return f"No backbone ({group}) is complete, so there is no mean lift of {metric}."
    word = relation(0.0, lift, 3)
    is_better = (word == "higher") == is_better_higher(metric)
    verdict = "as good as DIS" if word == "equal" else ("better" if is_better else "worse")
    text = (
        f"Over {count_text(num_backbones, 'backbone')} ({group}) the mean relative lift of "
        f"{metric} is {lift:+.3f} %: GEN is {verdict} on average"
    )
    if published is None:
        return f"{text}."
    return f"{text}; the paper states {published:+.3f} % over Avazu and Criteo."


def published_sentence(differences: Mapping[str, float], num_unpublished: int) -> str:
    """Says how our figures compare with the published ones (name -> ours minus the published)."""
    if not differences:
        return "Nothing can be compared: not published, or ours are not complete."
    words = [relation(0.0, difference, 6) for difference in differences.values()]
    name, largest = max(differences.items(), key=lambda item: abs(item[1]))
    text = (
        f"Ours is higher than {words.count('higher')} and lower than {words.count('lower')} of "
        f"{count_text(len(differences), 'published figure')}; the largest difference is "
        f"{largest:+.6f} ({name})."
    )
    if num_unpublished:
        text += (
            f" Of ours, {count_text(num_unpublished, 'figure')} cannot be compared: see the table."
        )
    return text


def spectrum_sentence(dis: RunSummary | None, gen: RunSummary | None) -> str:
    """Says which of two runs has the flatter spectrum; None = not recorded."""
    if dis is None or gen is None:
        known = [(word, run) for word, run in (("DIS", dis), ("GEN", gen)) if run is not None]
        texts = [f"only {word} is recorded, its RankMe is {run.rankme:.2f}" for word, run in known]
        return f"{texts[0][0].upper()}{texts[0][1:]}." if texts else "Neither side is recorded."
    word = relation(dis.rankme, gen.rankme, 2)
    return (
        f"GEN has the {'same' if word == 'equal' else word} RankMe, {gen.rankme:.2f} against "
        f"{dis.rankme:.2f}; {gen.effective_dimensions} of {gen.num_dimensions} dimensions lie "
        f"above 1e-6 of the largest against {dis.effective_dimensions} of {dis.num_dimensions}. "
        f"The values of the fields in the sample allow at most {gen.rank_bound} for GEN and "
        f"{dis.rank_bound} for DIS."
    )


def fields_sentence(dis: Mapping[str, float], gen: Mapping[str, float]) -> str:
    """Says how DIS and GEN compare field by field (field -> RankMe), and which field is worst."""
    both = [name for name in dis if name in gen]
    words = [relation(dis[name], gen[name], 2) for name in both]
    texts = []
    if both:
        texts.append(
            f"Of {count_text(len(both), 'field')}, GEN has the higher RankMe on "
            f"{words.count('higher')} and the lower on {words.count('lower')}."
        )
    for variant, values in (("DIS", dis), ("GEN", gen)):
        if values:
            name = min(values, key=values.__getitem__)
            texts.append(f"The lowest of {variant} is {values[name]:.2f}, of {name}.")
    return " ".join(texts) or "Neither side is recorded."


def correlation_sentence(
    what: str, of: str, values: Mapping[str, float | None], num_points: int, noun: str
) -> str:
    """Says what Spearman's rank correlation of two numbers is in each group of points."""
    points = count_text(num_points, noun)
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return f"Whether {what} goes with {of} cannot be said from {points}."
    texts = [f"{value:+.2f} ({name})" if name else f"{value:+.2f}" for name, value in known.items()]
    return f"Spearman's rank correlation of {what} with {of} is {list_names(texts)} over {points}."


def redundancy_sentence(redundancy: Sequence[Pair], auc: Sequence[Pair]) -> str:
    """Says on how many backbones (a pair each) the less redundant variant has the higher AUC."""
    if not redundancy:
        return "No backbone has a seed of which both variants are recorded."
    words = [
        (relation(low.dis, low.gen, 4), relation(high.dis, high.gen, 6))
        for low, high in zip(redundancy, auc, strict=True)
    ]
    clear = [pair for pair in words if "equal" not in pair]
    texts = []
    if clear:
        agreeing = sum(less != more for less, more in clear)
        texts.append(
            f"Over the seeds of both, the variant with the lower redundancy has the higher mean "
            f"test AUC on {agreeing} of {count_text(len(clear), 'backbone')}."
        )
    if len(clear) < len(words):
        tied = count_text(len(words) - len(clear), "backbone")
        texts.append(f"On {tied} the two are equal in one of them.")
    return " ".join(texts)


def ablation_sentence(full: float | None, arms: Mapping[str, float], missing: Sequence[str]) -> str:
    """Says which arms of an ablation (label -> test AUC) are above and below the full GEN."""
    rest = f" Not complete: {list_names(missing)}." if missing else ""
    if full is None:
        return f"The full GEN is not complete, so no arm is compared with it.{rest}"
    texts = []
    for word in ("higher", "lower", "equal"):
        found = [
            f"{label} {value:.6f}"
            for label, value in arms.items()
            if relation(full, value, 6) == word
        ]
        texts += [f"; {word}: {', '.join(found)}"] if found else []
    return f"The full GEN has test AUC {full:.6f}{''.join(texts)}.{rest}"


def epochs_sentence(best: Mapping[str, Sequence[int]]) -> str:
    """Says in which epoch the validation AUC was best; ``best`` is variant -> epoch of each run."""
    texts = []
    for variant, epochs in best.items():
        if epochs:
            low, high = min(epochs), max(epochs)
            span = f"{low}" if low == high else f"between {low} and {high}"
            texts.append(f"{span} for {variant}")
    if not texts:
        return "The runs have no history: they were made by an earlier version."
    return f"By validation AUC the best epoch is {list_names(texts)}."


def change_sentence(changes: Mapping[str, tuple[float, float]]) -> str:
    """Says how RankMe changed from the first to the last analysis; variant -> both values."""
    verbs = {"higher": "rises", "lower": "falls", "equal": "stays"}
    texts = [
        f"of {variant} {verbs[relation(first, last, 2)]} from {first:.2f} to {last:.2f}"
        for variant, (first, last) in changes.items()
    ]
    return f"While it trains, RankMe {list_names(texts)}." if texts else ""


def cost_sentence(what: str, overheads: Mapping[str, float], mean: float | None) -> str:
    """Says how much more than DIS GEN needs, in percent (backbone -> overhead)."""
    if not overheads:
        return f"{what}: not compared, because runs are missing or do not say."
    average = f", {mean:+.1f} % on average" if mean is not None else ""
    (least, low), *others = sorted(overheads.items(), key=lambda item: item[1])
    if not others:
        return f"{what}: {low:+.1f} % ({least})."
    most, high = others[-1]
    return f"{what}: between {low:+.1f} % ({least}) and {high:+.1f} % ({most}){average}."


def relation(first: float, second: float, digits: int) -> str:
    """Returns whether the second is ``higher``, ``lower`` or ``equal``, at the digits shown."""
    shown = [round(value, digits) for value in (first, second)]
    if shown[0] == shown[1]:
        return "equal"
    return "higher" if shown[1] > shown[0] else "lower"


def _one_pair(what: str, pair: Pair, digits: int) -> str:
    word = relation(pair.dis, pair.gen, digits)
    dis, gen = f"{pair.dis:.{digits}f}", f"{pair.gen:.{digits}f}"
    if word == "equal":
        return f"On {pair.name} DIS and GEN have the same {what}, {gen}."
    return f"On {pair.name} GEN has the {word} {what}: {gen} against {dis}."
