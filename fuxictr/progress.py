"""Progress bars with throughput and remaining time, which log lines do not break."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(
    total: int, description: str, enabled: bool = True, unit: str = "row", initial: int = 0
) -> Iterator[Callable[[int], None]]:
    """Yields ``advance(n)``, which moves a tqdm bar by n units; only a shown bar needs tqdm."""
    if not enabled:
        yield lambda count: None
        return
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    with (
        logging_redirect_tqdm(),
        tqdm(
            total=total,
            initial=initial,
            desc=description,
            unit=unit,
            unit_scale=True,
            mininterval=0.5,
            leave=False,
            dynamic_ncols=True,
        ) as bar,
    ):
        yield bar.update
