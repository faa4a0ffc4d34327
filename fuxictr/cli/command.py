"""How a command ends: its exit status, and one clear line where a user can mend something."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from fuxictr.errors import FuxiCTRError, Interrupted
from fuxictr.files import explain, is_explained


def run_cli(main: Callable[[], int | None], end: Callable[[Any], NoReturn] = sys.exit) -> None:
    """Runs a command's ``main`` and exits: 0 on success, 1 with one clear line on a user error.

    Only errors for the user, of the disk and of rights become a line; any other is a defect of this
    project and keeps its traceback. ``end`` ends the process with a status.
    """
    end(_status_of(main))


def _status_of(main: Callable[[], int | None]) -> Any:
    """Runs a command and says what it raised; returns its exit status, as sys.exit takes it."""
    try:
        status = main() or 0
        sys.stdout.flush()  # a full disk under it is noticed here, not by the interpreter's end
        return status
    except SystemExit as ended:
        return ended.code
    except FuxiCTRError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        print(error, file=sys.stderr)
        return 128 + error.signal
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as of `| head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if not is_explained(error):
            raise
        problem = explain(error)
        print(f"{type(problem).__name__}: {problem}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # it is the output that failed: it is not to be tried again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
