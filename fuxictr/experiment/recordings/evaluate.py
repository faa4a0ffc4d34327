"""The metrics of a trained run's weights on the test split."""

from __future__ import annotations

from fuxictr.experiment.recordings.record import open_run
from fuxictr.experiment.recordings.trained import TrainedRun
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.training.evaluator import Evaluator


def evaluate_test(run: TrainedRun, gpu: int | str) -> dict[str, float] | None:
    """Returns the config's metrics on the test split, None where there is no such split.

    They are computed as at the end of the run. A metric that is not defined for the labels or
    groups is left out with a warning.
    """
    opened, config = open_run(run, gpu), run.config
    if "test" not in opened.encoded.paths:
        return None
    train = config.train
    rows = RankDataLoader(
        opened.feature_map,
        stage="test",
        test_data=opened.encoded.paths["test"],
        batch_size=train.batch_size,
        device=opened.device,
        streaming=train.streaming,
        shuffle_window=train.shuffle_window,
        num_workers=config.run.num_workers,
        group_id=train.group_id,
    ).make_iterator()
    evaluator = Evaluator(opened.model, train, opened.device, config.run.verbose > 0)
    return evaluator.evaluate(rows, "Test", skip_undefined=True)
