"""Metrics of the order within groups of rows: gAUC, avgAUC, MRR and NDCG(k=N)."""

from __future__ import annotations

import numpy as np

from fuxictr.errors import DataError
from fuxictr.metrics.rows import UndefinedMetricError, starts_run


class GroupRanking:
    """The rows of each group, sorted by falling score: one sort serves all group metrics.

    A row's position is 1, 2, ... within its group. Rows of a group with equal scores form a tie and
    share its positions; a row with its own score is a tie of one. The G groups are in rising order
    of their ids, numbers or strings. All arguments are (rows,), with labels in {0, 1}.

    Attributes:
        sizes: rows of each group, int64 (G,).
        clicks: clicks of each group, int64 (G,).

    Raises:
        DataError: no rows, not one group id per row, or one that is NaN.
    """

    def __init__(self, y_true: np.ndarray, y_pred: np.ndarray, group_ids: np.ndarray) -> None:
        labels = np.asarray(y_true).reshape(-1) > 0.5
        scores = np.asarray(y_pred, dtype=np.float64).reshape(-1)
        groups = np.asarray(group_ids).reshape(-1)
        if groups.size != labels.size or groups.size == 0:
            raise DataError(
                f"group metrics need one group id per row: found {groups.size} group ids "
                f"and {labels.size} rows"
            )
        if groups.dtype.kind == "f" and np.isnan(groups).any():
            row = int(np.isnan(groups).argmax())
            raise DataError(f"the group id of row {row + 1} is nan")
        order = np.lexsort((-scores, groups))
        starts_group = starts_run(groups[order])
        starts_tie = starts_group | starts_run(scores[order])
        first_rows = np.flatnonzero(starts_group)
        self.sizes = np.diff(np.append(first_rows, groups.size))
        self._row_index = np.arange(groups.size) - np.repeat(first_rows, self.sizes)
        self._tie_starts = np.flatnonzero(starts_tie)
        self._tie_sizes = np.diff(np.append(self._tie_starts, groups.size))
        self._tie_clicks = np.add.reduceat(labels[order], self._tie_starts, dtype=np.int64)
        self._first_ties = np.flatnonzero(starts_group[self._tie_starts])
        self.clicks = np.add.reduceat(self._tie_clicks, self._first_ties)

    def aucs(self) -> np.ndarray:
        """Returns the AUC of each group, (G,); NaN without both a click and a non-click.

        AUC = 1 - (R - P (P + 1) / 2) / (P N), with R the sum of the mean positions of P clicks.
        """
        mean_positions = self._row_index[self._tie_starts] + (self._tie_sizes + 1) / 2
        position_sums = np.add.reduceat(self._tie_clicks * mean_positions, self._first_ties)
        pairs = self.clicks * (self.sizes - self.clicks)
        lost = position_sums - self.clicks * (self.clicks + 1) / 2
        return np.divide(pairs - lost, pairs, where=pairs > 0, out=np.full(pairs.size, np.nan))

    def click_sums(self, weights: np.ndarray) -> np.ndarray:
        """Returns each group's sum over its clicks of the weight of the click's position, (G,).

        Each click of a tie counts the mean weight of the tie's positions: this is the mean of the
        sum over all orders of the tied rows. ``weights`` are those of positions 1, 2, ..., as many
        as the largest group has rows.
        """
        tie_sums = np.add.reduceat(weights[self._row_index], self._tie_starts)
        return np.add.reduceat(self._tie_clicks * (tie_sums / self._tie_sizes), self._first_ties)


def gauc(ranking: GroupRanking) -> float:
    """Returns gAUC = sum_g n_g AUC_g / sum_g n_g, with n_g the number of rows of group g.

    Groups without both a click and a non-click are left out; a tied pair counts 1/2. Raises
    UndefinedMetricError if no group has both.
    """
    aucs, sizes = _defined_aucs(ranking, "gAUC")
    return float((aucs * sizes).sum() / sizes.sum())


def avg_auc(ranking: GroupRanking) -> float:
    """Returns avgAUC, the mean of AUC_g over the groups with both a click and a non-click.

    Raises UndefinedMetricError if no group has both.
    """
    return float(_defined_aucs(ranking, "avgAUC")[0].mean())


def mrr(ranking: GroupRanking) -> float:
    """Returns the mean over groups of MRR_g = (1 / P_g) sum over the P_g clicks of 1 / position.

    As in FuxiCTR it averages over all clicks, not the first one only, and a group without a click
    counts as 0. A tied row counts the mean of 1 / position over the tie's positions. Raises
    UndefinedMetricError if no group has a click.
    """
    _check_clicks(ranking, "MRR")
    sums = ranking.click_sums(1 / np.arange(1, ranking.sizes.max() + 1))
    return float((sums / np.maximum(ranking.clicks, 1)).mean())


def ndcg(ranking: GroupRanking, k: int) -> float:
    """Returns the mean over groups of NDCG_g@k = DCG_g@k / ideal DCG_g@k.

    DCG@k = sum over positions r <= k of (2^y_r - 1) / log2(r + 1); the ideal has all clicks on top.
    A group without a click counts as 0, as in FuxiCTR. With ties DCG@k is its mean over all orders
    of the tied rows, as in scikit-learn. Raises UndefinedMetricError if no group has a click.
    """
    _check_clicks(ranking, f"NDCG(k={k})")
    discounts = 1 / np.log2(np.arange(2, ranking.sizes.max() + 2))
    discounts[k:] = 0
    ideal = np.cumsum(discounts)[np.maximum(ranking.clicks, 1) - 1]
    # Two ways to add the same terms: rounding must not lift a perfect order above 1.
    return float(np.minimum(ranking.click_sums(discounts) / ideal, 1).mean())


def _defined_aucs(ranking: GroupRanking, name: str) -> tuple[np.ndarray, np.ndarray]:
    aucs = ranking.aucs()
    defined = ~np.isnan(aucs)
    if not defined.any():
        raise UndefinedMetricError(
            f"{name} needs a group with labels 0 and 1; each of the {aucs.size} groups has one only"
        )
    return aucs[defined], ranking.sizes[defined]


def _check_clicks(ranking: GroupRanking, name: str) -> None:
    if not ranking.clicks.any():
        raise UndefinedMetricError(
            f"{name} needs a group with a click; all labels of the {ranking.sizes.size} groups "
            "are 0"
        )
