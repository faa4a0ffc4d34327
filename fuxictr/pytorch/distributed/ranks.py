"""The processes of one job, as torchrun starts them, and how they communicate.

NCCL connects CUDA devices, gloo CPUs. Texts are sent as bytes, since torch would pickle them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist

from fuxictr.errors import FuxiCTRError
from fuxictr.pytorch.distributed.network import choose_interface, set_tcp_timeouts

T = TypeVar("T")

# gloo notices a dead process at once, NCCL may not, so NCCL waits a minute at most. Waiting for
# long work of a single rank goes over gloo.
_DEVICE_TIMEOUT = timedelta(minutes=1)
_HOST_TIMEOUT = timedelta(days=1)


class RankError(FuxiCTRError, RuntimeError):
    """Another process of the job failed, or is gone."""


class Ranks:
    """The processes of a job and this one's place among them; alone unless ``joined`` says so.

    Every method is collective: all ranks call it in the same order. One process alone pays nothing.

    Args:
        local_rank: number of this process among those of its machine.
        host_group: a group for tensors on the CPU; None: torch's own group.

    Attributes:
        is_first: whether this is rank 0, which logs and writes files.
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
        """Replaces the values by those of rank 0, in place, and returns them."""
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
        """Returns how many rows each rank sends to this one, which sends ``counts`` to each."""
        sent = torch.tensor(counts, device=self.device)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=self._group_of(sent))
        return received.tolist()

    def exchange_rows(
        self, rows: torch.Tensor, counts: Sequence[int], received: Sequence[int]
    ) -> torch.Tensor:
        """Sends ``counts[r]`` rows (U, ...), in the order of the ranks, to each rank r.

        Returns what all ranks send here, by rank: ``received[r]`` rows from rank r.
        """
        found = rows.new_empty(sum(received), *rows.shape[1:])
        group = self._group_of(rows)
        dist.all_to_all_single(found, rows.contiguous(), list(received), list(counts), group=group)
        return found

    def gather_to_first(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Returns the CPU rows (U_r, ...) of every rank r on rank 0, an empty list on others."""
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
        """Fills ``own`` with the part that rank 0 has for this rank, and returns it.

        Only rank 0 reads ``parts``, one for each rank. All tensors are on the CPU.
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
        data = torch.tensor(list(text.encode()), dtype=torch.uint8)
        return [bytes(part.tolist()).decode() for part in self.gather_rows(data)]

    def from_rank_zero(self, make: Callable[[], T]) -> T:
        """Calls ``make`` on rank 0 only, and returns its result, which JSON can hold, on all ranks.

        ``make`` does nothing collective. Its FuxiCTRError is raised on rank 0; the other ranks then
        end silently by SystemExit.
        """
        if self.size == 1:
            return make()
        if not self.is_first:
            text = self.gather_texts("")[0]
            if not text:
                raise SystemExit(1)
            return json.loads(text)
        try:
            made = make()
        except FuxiCTRError:
            self.gather_texts("")
            raise
        self.gather_texts(json.dumps(made))
        return made

    @contextmanager
    def raise_on_any_rank(self) -> Iterator[None]:
        """Context whose body each rank runs alone; a FuxiCTRError on any rank ends all.

        Rank 0 raises its own error, or the one of the lowest rank that has one. The others end
        silently by SystemExit.
        """
        error: FuxiCTRError | None = None
        try:
            yield
        except FuxiCTRError as raised:
            error = raised
        self.raise_if_any(error)

    def raise_if_any(self, error: FuxiCTRError | None) -> None:
        """Raises on all ranks, as ``raise_on_any_rank``, if this or another rank has an error."""
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
        """Returns the values of all ranks, of one shape, one after the other."""
        found = values.new_empty(self.size * len(values), *values.shape[1:])
        _all_gather(found, values.contiguous(), group=self._group_of(values))
        return found

    def _group_of(self, values: torch.Tensor) -> dist.ProcessGroup | None:
        return None if values.is_cuda else self._host_group


class StopFlags:
    """Flags that any rank may raise, and that all ranks see at the same step.

    No step waits for the communication: with several processes, ``reduce`` is one call behind.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._pending: tuple[dist.Work, torch.Tensor] | None = None

    def reduce(self, *flags: bool) -> list[bool]:
        """Sends the flags; returns which any rank raised in the call before (if alone: in this)."""
        if self._ranks.size == 1:
            return list(flags)
        previous = [False] * len(flags)
        if self._pending is not None:
            work, values = self._pending
            work.wait()
            previous = [bool(value) for value in values.tolist()]
        values = torch.tensor(flags, dtype=torch.uint8)
        group = self._ranks._group_of(values)
        work = dist.all_reduce(values, op=dist.ReduceOp.MAX, group=group, async_op=True)
        self._pending = work, values
        return previous


ALONE = Ranks()
_current = ALONE


def current_ranks() -> Ranks:
    """Returns the processes of the job that this one has joined, or itself alone."""
    return _current


def launched_ranks() -> tuple[int, int, int]:
    """Returns rank, world size and local rank that torchrun gave this process, or 0, 1, 0."""
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
    """Context in which this process, computing on a device, is part of torchrun's job.

    Without torchrun, or with one process, it is alone. At the end torch.distributed is as before.
    Raises RankError where another process is gone.
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
        store = _rendezvous_store(rank, size)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        host_group = dist.new_group(backend="gloo", timeout=_HOST_TIMEOUT)
        set_tcp_timeouts()
        _current = Ranks(rank, size, local_rank, device, host_group)
        yield _current
    except RuntimeError as error:
        if isinstance(error, FuxiCTRError) or not is_lost(error):
            raise
        raise RankError(
            f"rank {rank}: another process of the job is gone, its own message says why "
            f"({str(error).strip().splitlines()[0]:.200})"
        ) from error
    finally:
        _current = ALONE
        if dist.is_initialized():
            dist.destroy_process_group()


def _rendezvous_store(rank: int, size: int) -> dist.Store:
    """Returns a store for this start only: torchrun's own keeps addresses of dead processes."""
    of_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    is_server = rank == 0 and not of_torchrun
    store = dist.TCPStore(host, port, size, is_server, multi_tenant=not of_torchrun)
    count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"life_{count}_of_{size}", store)


def exit_now(status: int) -> NoReturn:
    """Ends a process of a job after its output is flushed, without Python's teardown.

    In the teardown, threads of torch.distributed still run. Now and then one of them ends a
    finished process by SIGABRT, which torchrun counts as a failure.
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
