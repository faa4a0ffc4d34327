"""The scripts of the GPU benchmark, as modules."""

import importlib
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))
gpu, gpu_agree, gpu_checks, gpu_report, gpu_setup, gpu_speed, gpu_steps = map(
    importlib.import_module,
    ["gpu", "gpu_agree", "gpu_checks", "gpu_report", "gpu_setup", "gpu_speed", "gpu_steps"],
)
