"""The processes of one job, as torchrun starts them, and what they tell one another.

All of it is torch.distributed: NCCL between CUDA devices, gloo between CPUs. Texts go as bytes, for
torch's own way to send objects is pickle.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist

from fuxictr.errors import FuxiCTRError
from fuxictr.pytorch.distributed.network import choose_interface, notice_silence

# A process that dies closes its connections, which gloo notices at once and NCCL may not. So what
# goes over NCCL is waited for no longer than this; work of one rank alone is waited for over gloo.
_DEVICE_TIMEOUT = timedelta(minutes=1)
_HOST_TIMEOUT = timedelta(days=1)


class RankError(FuxiCTRError, RuntimeError):
    """Another process of the job failed, or is gone."""


class Ranks:
    """The processes of a job and this one's place among them; alone unless ``join`` says otherwise.

    Everything but the attributes is collective: all ranks call it in the same order. With one
    process it costs nothing and changes nothing.

    Args:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process among those of its machine.
        device: where this process computes.
        host_group: a group for tensors on the CPU; null = torch's own group.

    Attributes:
        is_first: whether this is the one that logs and writes files.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        local_rank: int = 0,
        device: torch.device | str = "cpu",
        host_group: dist.ProcessGroup | None = None,
    ) -> None:
        self.rank, self.size, self.local_rank = rank, size, local_rank
        self.device = torch.device(device)
        self.is_first = rank == 0
        self._host_group = host_group

    def barrier(self) -> None:
        """Waits until all ranks are here."""
        self.sum(torch.zeros(1))

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Adds up the values of all ranks, in place, and returns them."""
        if self.size > 1:
            dist.all_reduce(values, group=self._group_of(values))
        return values

    def broadcast(self, values: torch.Tensor) -> torch.Tensor:
        """Replaces the values by those of the first rank, in place, and returns them."""
        if self.size > 1:
            dist.broadcast(values, src=0, group=self._group_of(values))
        return values

    def gather_rows(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Returns the rows (U_r, ...) of every rank r, on all ranks; U_r may differ."""
        if self.size == 1:
            return [rows]
        sizes = self._gather(torch.tensor([len(rows)], device=rows.device)).tolist()
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        found = self._gather(padded).view(self.size, *padded.shape)
        return [part[:size] for part, size in zip(found, sizes, strict=True)]

    def exchange_counts(self, counts: Sequence[int]) -> list[int]:
        """Returns how many rows each rank sends to this one.

        Args:
            counts: how many this one sends to each.
        """
        sent = torch.tensor(counts, device=self.device)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=self._group_of(sent))
        return received.tolist()

    def exchange_rows(
        self, rows: torch.Tensor, counts: Sequence[int], received: Sequence[int]
    ) -> torch.Tensor:
        """Sends some rows to each rank and returns what all of them send here, by rank.

        Args:
            rows: (U, ...), those for rank 0 first.
            counts: how many of them are for each rank.
            received: how many come from each rank.
        """
        found = rows.new_empty(sum(received), *rows.shape[1:])
        group = self._group_of(rows)
        dist.all_to_all_single(found, rows.contiguous(), list(received), list(counts), group=group)
        return found

    def gather_to_first(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Returns the rows (U_r, ...) of every rank r on the first one; on others an empty list.

        Args:
            rows: of a size that may differ, on the CPU.
        """
        if self.size == 1:
            return [rows]
        sizes = self._gather(torch.tensor([len(rows)])).tolist()
        if not self.is_first:
            if len(rows):
                dist.send(rows.contiguous(), dst=0, group=self._host_group)
            return []
        found = [rows]
        for rank in range(1, self.size):
            part = rows.new_empty(sizes[rank], *rows.shape[1:])
            if sizes[rank]:
                dist.recv(part, src=rank, group=self._host_group)
            found.append(part)
        return found

    def scatter_from_first(self, parts: Sequence[torch.Tensor], own: torch.Tensor) -> torch.Tensor:
        """Fills ``own`` with what the first rank has for this one, and returns it.

        Args:
            parts: on the first rank, one for each rank, on the CPU; of others nothing is read.
            own: of the shape and type of this rank's part, on the CPU.
        """
        if self.is_first:
            for rank, part in enumerate(parts):
                if rank and len(part):
                    dist.send(part.contiguous(), dst=rank, group=self._host_group)
            return own.copy_(parts[0])
        if len(own):
            dist.recv(own, src=0, group=self._host_group)
        return own

    def gather_texts(self, text: str) -> list[str]:
        """Returns the text of every rank, on all ranks."""
        if self.size == 1:
            return [text]
        data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) if text else None
        parts = self.gather_rows(torch.empty(0, dtype=torch.uint8) if data is None else data)
        return [bytes(part.tolist()).decode() for part in parts]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Context whose body each rank runs on its own, without anything collective.

        Where it fails on some rank for a reason that speaks to the user, it ends on all of them:
        the first one raises the error of the lowest rank that has one, the others exit silently.

        Raises:
            FuxiCTRError: on the first rank.
            SystemExit: on the others.
        """
        error: FuxiCTRError | None = None
        try:
            yield
        except FuxiCTRError as raised:
            error = raised
        self.raise_together(error)

    def raise_together(self, error: FuxiCTRError | None) -> None:
        """Ends as ``together`` does, where this or another rank has an error.

        Args:
            error: this rank's; null = it has none.
        """
        if self.size == 1:
            if error is not None:
                raise error
            return
        text = "" if error is None else f"{type(error).__name__}: {error}"
        texts = self.gather_texts(text)
        failed = next((rank for rank, found in enumerate(texts) if found), None)
        if failed is None:
            return
        if not self.is_first:
            raise SystemExit(1) from error
        if error is not None:
            raise error
        raise RankError(f"rank {failed}: {texts[failed]}")

    def _gather(self, values: torch.Tensor) -> torch.Tensor:
        # Values of one shape, those of rank 0 first.
        found = values.new_empty(self.size * len(values), *values.shape[1:])
        _all_gather(found, values.contiguous(), group=self._group_of(values))
        return found

    def _group_of(self, values: torch.Tensor) -> dist.ProcessGroup | None:
        return None if values.is_cuda else self._host_group


class Votes:
    """Wishes of single ranks that all of them are to follow, at the same step.

    The answer is that of the vote before, so that no step waits for one: with several processes a
    wish is heard one step later.

    Args:
        ranks: who votes.
        num_wishes: how many things may be wished for.
    """

    def __init__(self, ranks: Ranks, num_wishes: int) -> None:
        self._ranks = ranks
        self._num_wishes = num_wishes
        self._running: tuple[dist.Work, torch.Tensor] | None = None

    def cast(self, *wishes: bool) -> list[bool]:
        """Votes, and returns which things some rank wished for in the vote before.

        With one process these are its wishes of now.
        """
        if self._ranks.size == 1:
            return list(wishes)
        answer = self._collect()
        values = torch.tensor(wishes, dtype=torch.uint8)
        group = self._ranks._group_of(values)
        work = dist.all_reduce(values, op=dist.ReduceOp.MAX, group=group, async_op=True)
        self._running = work, values
        return answer

    def close(self) -> list[bool]:
        """Waits for the vote that is running and returns its answer."""
        return self._collect()

    def _collect(self) -> list[bool]:
        if self._running is None:
            return [False] * self._num_wishes
        work, values = self._running
        self._running = None
        work.wait()
        return [bool(value) for value in values.tolist()]


ALONE = Ranks()
_current = ALONE


def current_ranks() -> Ranks:
    """Returns the processes of the job that this one has joined, or itself alone."""
    return _current


def launched_ranks() -> tuple[int, int, int]:
    """Returns rank, number of ranks and local rank that torchrun gave this process, or 0, 1, 0."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not all(name in os.environ for name in names):
        return 0, 1, 0
    rank, size, local_rank = (int(os.environ[name]) for name in names)
    return rank, size, local_rank


def was_restarted() -> bool:
    """Returns whether torchrun started this process again after a failure (--max-restarts)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def joined(device: torch.device | str) -> Iterator[Ranks]:
    """Context in which this process belongs to the job that torchrun started it for.

    Without torchrun, or with one process, it is alone. torch.distributed is left as it was.

    Args:
        device: where this process computes.

    Raises:
        RankError: another process is gone.
    """
    global _current
    rank, size, local_rank = launched_ranks()
    if size == 1 or _current is not ALONE:
        yield _current
        return
    device = torch.device(device)
    backend, timeout = "gloo", None
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend, timeout = "nccl", _DEVICE_TIMEOUT
    try:
        choose_interface()
        dist.init_process_group(
            backend, store=_store_of_life(rank, size), rank=rank, world_size=size, timeout=timeout
        )
        host_group = dist.new_group(backend="gloo", timeout=_HOST_TIMEOUT)
        notice_silence()
        _current = Ranks(rank, size, local_rank, device, host_group)
        yield _current
    except RuntimeError as error:
        if isinstance(error, FuxiCTRError) or not is_lost(error):
            raise
        raise RankError(
            f"rank {rank}: another process of the job is gone, what it said tells why "
            f"({str(error).strip().splitlines()[0]:.200})"
        ) from error
    finally:
        _current = ALONE
        if dist.is_initialized():
            dist.destroy_process_group()


def _store_of_life(rank: int, size: int) -> dist.Store:
    """Returns where the processes find each other, without what those before a restart left.

    torchrun keeps its store over its restarts, with the addresses of processes that are gone.
    """
    of_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    is_server = rank == 0 and not of_torchrun
    store = dist.TCPStore(host, port, size, is_server, multi_tenant=not of_torchrun)
    count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"life_{count}_of_{size}", store)


def leave(status: int) -> NoReturn:
    """Ends a process that belonged to a job, with everything it wrote, but without a teardown.

    In Python's teardown threads of torch.distributed may still run, and now and then one of them
    ends a process that has done its work by SIGABRT, which torchrun takes for a failure.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status)


def is_lost(error: BaseException) -> bool:
    """Returns whether an error says that another process cannot be reached any more."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and "gloo/transport" in str(error)


# The first has the name since torch 2.13, the second before.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
