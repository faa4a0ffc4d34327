"""FM by RecBole 1.2.1 with one seed after another, as its documentation shows.

    python -I benchmarks/sweep_recbole.py PARAMS.json SEED...

Prints the test metrics of each seed as JSON. This file imports nothing of ours.
"""

import json
import os
import sys
import time
import warnings
from pathlib import Path

START = time.perf_counter()


def config_of(params, seed):
    """Returns the keys of its config_dict."""
    return {
        "embedding_size": params["embedding_dim"],
        "data_path": params["folder"],
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id", "label"]},
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "LABEL_FIELD": "label",
        "train_neg_sample_args": None,
        "eval_args": {
            "split": {"RS": [0.8, 0.1, 0.1]},
            "order": "RO",
            "group_by": None,
            "mode": "labeled",
        },
        "metrics": ["AUC", "LogLoss"],
        "valid_metric": "AUC",
        "metric_decimal_place": 6,
        "use_gpu": False,
        "worker": 0,
        "seed": seed,
        "epochs": params["epochs"],
        "stopping_step": params["epochs"],
        "learner": "adam",
        "learning_rate": params["learning_rate"],
        "train_batch_size": params["batch_size"],
        "eval_batch_size": params["batch_size"],
        "checkpoint_dir": params["scratch"],
        "show_progress": False,
        "state": "ERROR",
    }


def main():
    """Runs the seeds in this process and prints what came of them."""
    params, seeds = json.loads(Path(sys.argv[1]).read_text()), map(int, sys.argv[2:])
    os.chdir(params["scratch"])  # its log files
    warnings.simplefilter("ignore", FutureWarning)  # of pandas and torch, about RecBole's calls
    from recbole.quick_start import run_recbole

    imported = time.perf_counter()
    found = []
    for seed in seeds:
        # saved=False: the test is on the weights of the last epoch, and no checkpoint is written,
        # because torch no longer reads RecBole's by default.
        result = run_recbole("FM", "sweep", config_dict=config_of(params, seed), saved=False)
        test = {name: float(value) for name, value in result["test_result"].items()}
        found.append({"seed": seed, "test": test})
    end = time.perf_counter()
    text = {"runs": found, "import_seconds": imported - START, "seconds": end - imported}
    print("\n" + json.dumps(text))


if __name__ == "__main__":
    main()
