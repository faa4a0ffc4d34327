"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# Tests open no window; this must come before anything imports matplotlib.
os.environ.setdefault("MPLBACKEND", "Agg")

# A busy machine must not turn a slow example into a failure.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
