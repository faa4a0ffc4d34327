"""A sample of the training split's tokens, for columns that keep no vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np

# Distinct tokens that are kept; with fewer in training the sample is all of them.
_SIZE = 1024


class TokenSample:
    """The tokens with the smallest hashes, and how often each was seen.

    Any rows can be compared with it: of their tokens, those whose hash is below the largest one
    kept must be in the sample if training had them. It is the same whatever the order of the rows.

    Attributes:
        hashes: those kept, uint64, rising.
        counts: how often each was seen.
        examples: the first tokens added.
    """

    def __init__(self) -> None:
        self.hashes = np.zeros(0, np.uint64)
        self.counts = np.zeros(0, np.int64)
        self.examples: list[str] = []

    def add(self, hashes: np.ndarray, counts: np.ndarray) -> None:
        """Counts the distinct tokens of some rows."""
        covered = self.covers(hashes)
        joined = np.concatenate([self.hashes, hashes[covered]])
        seen = np.concatenate([self.counts, counts[covered]])
        self.hashes, place = np.unique(joined, return_inverse=True)
        self.counts = np.zeros(len(self.hashes), np.int64)
        np.add.at(self.counts, place, seen)
        self.hashes, self.counts = self.hashes[:_SIZE], self.counts[:_SIZE]

    def covers(self, hashes: np.ndarray) -> np.ndarray:
        """Returns for which tokens the sample says whether training had them."""
        if len(self.hashes) < _SIZE:
            return np.ones(len(hashes), bool)
        return np.asarray(hashes <= self.hashes[-1])

    def knows(self, hashes: np.ndarray) -> np.ndarray:
        """Returns which tokens are in the sample."""
        return np.isin(hashes, self.hashes)

    def to_json(self) -> dict[str, Any]:
        """Returns the sample, as ``from_json`` takes it."""
        hashes, counts = self.hashes.tolist(), self.counts.tolist()
        return {"hashes": hashes, "counts": counts, "examples": self.examples}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TokenSample:
        """Returns the sample that ``to_json`` described."""
        sample = cls()
        sample.hashes = np.array(content["hashes"], np.uint64)
        sample.counts = np.array(content["counts"], np.int64)
        sample.examples = [str(token) for token in content["examples"]]
        return sample
