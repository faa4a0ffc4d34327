"""Background threads that read ahead, in an order that does not depend on them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Queue
from typing import TypeVar

Key = TypeVar("Key")
Item = TypeVar("Item")


@dataclass(frozen=True)
class _End:
    """What a thread puts behind the last item of a key: the error that ended it, if any."""

    error: BaseException | None = None


def read_ahead(
    read: Callable[[Key], Iterator[Item]], keys: Sequence[Key], num_threads: int, depth: int
) -> Generator[Item, None, None]:
    """Yields ``read(key)``'s items for one key after another, read ahead by threads.

    Thread t reads the keys t, t + num_threads, ..., and keeps at most ``depth`` items ready. With 0
    threads the caller reads. The threads end when the iteration is exhausted, fails or is closed.
    An error of ``read`` is raised where its item would have come.
    """
    num_threads = min(num_threads, len(keys))
    if num_threads == 0:
        for key in keys:
            yield from read(key)
        return
    stop = threading.Event()
    queues: list[Queue] = [Queue(maxsize=depth) for _ in range(num_threads)]
    threads = [
        threading.Thread(
            target=_work,
            args=(read, keys[index::num_threads], queue, stop),
            name=f"read-ahead-{index}",
            daemon=True,
        )
        for index, queue in enumerate(queues)
    ]
    for thread in threads:
        thread.start()
    try:
        for index in range(len(keys)):
            yield from _drain(queues[index % num_threads])
    finally:
        stop.set()
        for thread, queue in zip(threads, queues, strict=True):
            # A thread checks ``stop`` after each item, so it puts one more at most, which fits now.
            _empty(queue)
            thread.join()


def _work(
    read: Callable[[Key], Iterator[Item]], keys: Sequence[Key], queue: Queue, stop: threading.Event
) -> None:
    try:
        for key in keys:
            for item in read(key):
                queue.put(item)
                if stop.is_set():
                    return
            queue.put(_End())
            if stop.is_set():
                return
    except BaseException as error:
        queue.put(_End(error))


def _drain(queue: Queue) -> Iterator:
    # Yields the items of one key.
    while not isinstance(item := queue.get(), _End):
        yield item
    if item.error is not None:
        raise item.error


def _empty(queue: Queue) -> None:
    with suppress(Empty):
        while True:
            queue.get_nowait()
