"""What all tests share."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# Tests open no window; this must come before anything imports matplotlib.
os.environ.setdefault("MPLBACKEND", "Agg")

# A shell lets its background jobs ignore Ctrl-C, and their children inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine must not turn a slow example into a failure.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
