"""docs/performance.md is what benchmarks/report.py makes of docs/performance/*.json."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_made_from_the_kept_results():
    code = "import report; print(report.page(), end='')"
    made = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "benchmarks",
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout == (ROOT / "docs" / "performance.md").read_text()
    assert "rows/s" in made.stdout
