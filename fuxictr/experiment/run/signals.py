"""Ctrl-C and SIGTERM as a request: the run finishes its step and saves its state, then ends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """The ``signal`` that asked this process to end; None = none came."""

    signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def name(self) -> str:
        """The signal in words, empty if none came."""
        if self.signal is None:
            return ""
        return "Ctrl-C" if self.signal == signal.SIGINT else self.signal.name


@contextlib.contextmanager
def stop_requests(is_launched: bool = False, is_first: bool = True) -> Iterator[StopRequest]:
    """Context in which the first SIGINT or SIGTERM is noted; the second one ends the process.

    A signal that the process ignores, as a background job ignores SIGINT, stays ignored. Outside
    the main thread, where Python delivers no signals, nothing changes. ``is_first`` says whether
    this process prints that it received the signal.

    Under torchrun (``is_launched``) a second signal changes nothing, because Ctrl-C may come twice.
    torchrun also sends SIGTERM if another process has ended, and kills all 30 seconds later.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        if request:
            if not is_launched:
                raise KeyboardInterrupt
            return
        request.signal = signal.Signals(number)
        if is_first:
            # Unlike print and logging, os.write may be called in the middle of print and logging.
            again = "" if is_launched else "; again to end at once"
            text = f"\n{request.name}: finishing the step and saving the state{again}\n"
            with contextlib.suppress(OSError):
                os.write(2, text.encode())

    handled = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in handled}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
