"""Many runs as one sweep, which goes on where it was cut off."""

from fuxictr.experiment.sweep.plan import (
    PlannedRun,
    plan_ablations,
    plan_backbones,
    unique_runs,
    with_seed,
)
from fuxictr.experiment.sweep.runner import Sweep, unfinished

__all__ = [
    "PlannedRun",
    "Sweep",
    "plan_ablations",
    "plan_backbones",
    "unfinished",
    "unique_runs",
    "with_seed",
]
