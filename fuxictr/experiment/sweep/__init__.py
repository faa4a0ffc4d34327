"""Many runs as one sweep, which resumes where it was interrupted."""

from fuxictr.experiment.sweep.plan import (
    PlannedRun,
    plan_ablations,
    plan_backbones,
    unique_runs,
    with_seed,
)
from fuxictr.experiment.sweep.progress import device_text
from fuxictr.experiment.sweep.runner import Sweep, encode_datasets, unfinished

__all__ = [
    "PlannedRun",
    "Sweep",
    "device_text",
    "encode_datasets",
    "plan_ablations",
    "plan_backbones",
    "unfinished",
    "unique_runs",
    "with_seed",
]
