"""What all tests share."""

from __future__ import annotations

import os

# Tests open no window; this must come before anything imports matplotlib.
os.environ.setdefault("MPLBACKEND", "Agg")
