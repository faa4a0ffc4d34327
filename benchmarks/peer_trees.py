"""LightGBM or CatBoost on one job of peers.py: boosted trees on the ids, until their early stop.

Training rows are rows times trees. An evaluation is not timed apart while the trees grow: the
libraries do it on the way.
"""

import time

import peer_watch

MOST_TREES = 1000
PATIENCE = 50
LEARNING_RATE = 0.1


def run(job):
    """Trains and evaluates; returns figures of the form that a watch gives."""
    return (run_lightgbm if job["side"] == "lightgbm" else run_catboost)(job)


def read_frames(job):
    """Returns split -> (ids (N, F) int32 as a frame, labels (N,))."""
    import pandas as pd

    found = {}
    for split in ("train", "valid", "test"):
        ids, labels = peer_watch.read_split(job["folder"], split, job["fields"], job["label"])
        found[split] = (pd.DataFrame(ids).astype("int32"), labels.astype("int32"))
    return found


class Trees:
    """Follows the trees as they grow, and ends them when the time is over."""

    def __init__(self, job):
        self.job = job
        self.history = []
        self.is_stopped = False
        self.start = time.perf_counter()

    def add(self, auc):
        """Notes one tree and its validation AUC; returns whether another one may follow."""
        seconds = time.perf_counter() - self.start
        self.history.append({"seconds": seconds, "auc": float(auc)})
        limit = self.job["limit_seconds"]
        self.is_stopped = limit is not None and seconds > limit
        return not self.is_stopped

    def figures(self, seconds, predict, test):
        """Returns what the process prints; ``predict`` scores the test rows."""
        from sklearn.metrics import roc_auc_score

        rows, labels = test
        start = time.perf_counter()
        auc = float(roc_auc_score(labels, predict(rows)))
        return {
            "train_seconds": seconds,
            "train_rows": self.job["rows"]["train"] * len(self.history),
            "is_stopped": self.is_stopped,
            "fit_seconds": seconds,
            "evaluate_seconds": time.perf_counter() - start,
            "evaluate_rows": len(labels),
            "history": self.history,
            "trees": len(self.history),
            "test_auc": auc,
            "parameters": None,
        }


def run_lightgbm(job):
    """Trains LightGBM with every field as a categorical_feature."""
    import lightgbm

    frames = read_frames(job)
    trees = Trees(job)
    fields = list(job["fields"])
    train = lightgbm.Dataset(*frames["train"], categorical_feature=fields)
    valid = lightgbm.Dataset(*frames["valid"], categorical_feature=fields, reference=train)

    def follow(environment):
        auc = environment.evaluation_result_list[0][2]
        if not trees.add(auc):
            best = environment.iteration, environment.evaluation_result_list
            raise lightgbm.EarlyStopException(*best)

    keys = {"objective": "binary", "metric": "auc", "learning_rate": LEARNING_RATE}
    keys |= {"seed": job["seed"], "verbosity": -1}
    model = lightgbm.train(
        keys,
        train,
        num_boost_round=MOST_TREES,
        valid_sets=[valid],
        callbacks=[follow, lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    seconds = time.perf_counter() - trees.start
    return trees.figures(seconds, model.predict, frames["test"])


def run_catboost(job):
    """Trains CatBoost with every field among its cat_features."""
    from catboost import CatBoostClassifier, Pool

    frames = read_frames(job)
    trees = Trees(job)
    fields = list(job["fields"])
    train, valid = (Pool(*frames[split], cat_features=fields) for split in ("train", "valid"))

    class Follow:
        def after_iteration(self, info):
            return trees.add(info.metrics["validation"]["AUC"][-1])

    model = CatBoostClassifier(
        iterations=MOST_TREES,
        eval_metric="AUC",
        early_stopping_rounds=PATIENCE,
        random_seed=job["seed"],
        verbose=False,
        allow_writing_files=False,
    )
    model.fit(train, eval_set=valid, callbacks=[Follow()])
    seconds = time.perf_counter() - trees.start
    return trees.figures(seconds, lambda rows: model.predict_proba(rows)[:, 1], frames["test"])
