"""Watches a training of any library: its steps, its evaluations, and the time that it may take.

Runs in the environments of all peers, so it imports torch late, and nothing of ours.
"""

import math
import time


class TimeUp(Exception):
    """The training has taken its time; it ends after a whole number of batches."""


class Watch:
    """Seconds and rows of one training.

    A library calls its own functions; only the evaluation, and the steps of a torch optimiser, are
    seen on the way. Training is the time of fit without its evaluations.

    Args:
        job: what peers.py asked for; see there.
    """

    def __init__(self, job):
        self.job = job
        self.start = self.fit_seconds = 0.0
        self.evaluate_seconds = self.fit_evaluate_seconds = 0.0
        self.num_steps = self.num_evaluated_rows = 0
        self.is_stopped = False
        self.history = []

    def evaluation(self, evaluate, rows, auc_of):
        """Returns the library's function, which evaluates ``rows`` rows, timed.

        Args:
            evaluate: what the library calls after an epoch.
            rows: how many rows it evaluates.
            auc_of: what it returns -> the AUC.
        """

        def call(*args, **kwargs):
            start = time.perf_counter()
            found = evaluate(*args, **kwargs)
            self.add_evaluation(time.perf_counter() - start, rows, auc_of(found))
            return found

        return call

    def add_evaluation(self, seconds, rows, auc):
        """Notes an evaluation that has just ended."""
        self.evaluate_seconds += seconds
        self.num_evaluated_rows += rows
        self.history.append({"seconds": time.perf_counter() - self.start, "auc": float(auc)})

    def fit(self, fit, *args, **kwargs):
        """Calls the library's fit; returns whether it ended by itself.

        Raises:
            RuntimeError: it ended by itself after another number of steps than its epochs have.
        """
        from torch.optim.optimizer import register_optimizer_step_post_hook

        hook = register_optimizer_step_post_hook(self._after_step)
        self.start = time.perf_counter()
        try:
            fit(*args, **kwargs)
        except TimeUp:
            self.is_stopped = True
        finally:
            self.fit_seconds = time.perf_counter() - self.start
            self.fit_evaluate_seconds = self.evaluate_seconds
            hook.remove()
        expected = self.job["epochs"] * self._steps_per_epoch()
        if not self.is_stopped and self.num_steps != expected:
            raise RuntimeError(f"fit ended after {self.num_steps} steps, not after {expected}")
        return not self.is_stopped

    def _after_step(self, optimizer, args, kwargs):
        self.num_steps += 1
        limit = self.job["limit_seconds"]
        if limit is not None and time.perf_counter() - self.start > limit:
            raise TimeUp

    def _steps_per_epoch(self):
        return math.ceil(self.job["rows"]["train"] / self.job["batch_size"])

    def num_rows(self):
        """Returns the rows trained on, in all epochs."""
        epochs, steps = divmod(self.num_steps, self._steps_per_epoch())
        return epochs * self.job["rows"]["train"] + steps * self.job["batch_size"]

    def figures(self, test_auc, parameters):
        """Returns what the process prints.

        Args:
            test_auc: AUC of the test split.
            parameters: trainable weights of the network.
        """
        return {
            "train_seconds": self.fit_seconds - self.fit_evaluate_seconds,
            "train_rows": self.num_rows(),
            "is_stopped": self.is_stopped,
            "fit_seconds": self.fit_seconds,
            "evaluate_seconds": self.evaluate_seconds,
            "evaluate_rows": self.num_evaluated_rows,
            "history": self.history,
            "test_auc": float(test_auc),
            "parameters": parameters,
        }


def evaluate_splits(watch, valid, test):
    """Returns the test AUC; the validation AUC first, where fit was stopped before it came to one.

    Args:
        watch: of the training that ended.
        valid: evaluates the validation split, and notes it in the watch.
        test: evaluates the test split, likewise, and returns its AUC.
    """
    if watch.is_stopped:
        valid()
    known = len(watch.history)
    auc = test()
    del watch.history[known:]  # of the validation only
    return auc


def count_parameters(network):
    """Returns the number of trainable weights."""
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


def read_split(folder, split, fields, label):
    """Returns (field -> ids (N,) int64, labels (N,) float32) of one encoded split."""
    import pandas as pd

    frame = pd.read_parquet(f"{folder}/{split}.parquet", columns=[*fields, label])
    return {name: frame[name].to_numpy("int64") for name in fields}, frame[label].to_numpy(
        "float32"
    )
