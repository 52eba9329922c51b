"""One training by several processes: who does which part, and what they agree on.

    torchrun --nproc-per-node 4 scripts/train_vit.py --data-dir dataset
    torchrun --nproc-per-node 4 --nnodes 2 --rdzv-endpoint FIRST_HOST:29500 --rdzv-backend c10d scripts/train_vit.py …

torchrun starts the processes, on one host or on several (the second command, on each of them; GLOO_SOCKET_IFNAME names
the network to use, where there are more). --batch-size is that of all processes together; each takes its share of every
batch, with its own random augmentation. Batch norm takes its statistics over all processes on GPUs (SyncBatchNorm),
over each process's own part on CPUs. The main process (rank 0) writes all files and speaks. A run that is resumed by
another number of processes follows the same curve within its noise. Without torchrun there is one process.
"""

import gc
import hashlib
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from files.command_line import InputError


@contextmanager
def group() -> Iterator[None]:
    """Joins the other processes that torchrun started, if it did. Raises ConnectionError if one of them is lost."""
    if not dist.is_torchelastic_launched():
        yield
        return
    # What still holds the group at the end keeps gloo's threads, and one that runs on while the interpreter ends aborts
    # the process. Imported once there is a group, this module of PyTorch would hold it, as a default of its functions.
    importlib.import_module("torch.distributed.nn.functional")
    try:
        store, rank, count = next(dist.rendezvous("env://"))
        # torchrun keeps its store when it starts processes again, and they would look for their predecessors there
        # (pytorch/pytorch issue 135712).
        store = dist.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=count)
        try:
            yield
            gc.collect()  # the model of several processes, which holds the group, is part of a cycle
        except SystemExit as end:
            traceback.clear_frames(end.__traceback__)
            gc.collect()
            raise
        finally:
            dist.destroy_process_group()
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        line = "another process of this training ended or cannot be reached; continue with --resume-from auto"
        raise ConnectionError(line) from None


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def say(text: str) -> None:
    """Prints a line, once for all processes."""
    if is_main():
        print(text, flush=True)


def own_rows() -> slice:
    """Which rows of a batch are this process's."""
    return slice(rank(), None, count())


def all_sum(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of the processes' tensors."""
    if count() > 1:
        dist.all_reduce(tensor := tensor.clone())
    return tensor


def all_max(*numbers: int) -> list[int]:
    """The greatest of the processes' numbers, each; of the host's memory, so that no GPU is waited for."""
    if count() == 1:
        return list(numbers)
    dist.all_reduce(tensor := torch.tensor(numbers), dist.ReduceOp.MAX)
    return tensor.tolist()


@contextmanager
def fail_together() -> Iterator[None]:
    """What fails in one process fails in all: the first of those that failed says why, the others end silently.

    The processes must not wait for each other inside, except in `from_main`.
    """
    error = None
    try:
        yield
    except (Exception, SystemExit) as caught:
        error = caught
    failed = isinstance(error, Exception)
    speaker = count() - all_max(count() - rank() if failed else 0)[0]
    if error and (speaker == rank() or not failed):
        raise error
    if speaker < count():
        sys.exit(1)


def from_main(make: Callable[[], object]):
    """What `make` returns in the main process, in all of them; where it fails there, the others end silently."""
    if count() == 1:
        return make()
    result = [None, False]
    try:
        if is_main():
            result = [make(), True]
    finally:
        dist.broadcast_object_list(result, 0, device=torch.device("cpu"))
    return result[0] if result[1] else sys.exit(1)


def must_match(content: bytes, what: str) -> None:
    """Raises InputError, in one process for all, where these bytes are not the same in all."""
    number = int.from_bytes(hashlib.sha256(content).digest()[:7])
    with fail_together():
        if all_max(number) != [-other for other in all_max(-number)]:
            raise InputError(f"the processes of this training do not have the same {what}")


def parallel(model: nn.Module) -> nn.Module:
    """A model to be called with a part of each batch, whose gradients are the mean of all processes'."""
    if count() == 1:
        return model
    if next(model.parameters()).is_cuda:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    # Gradients of quantised weights lie in another order than their weights; to copy them costs nothing here.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


def share_buffers(model: nn.Module) -> None:
    """Gives every process the main one's buffers of a model: the statistics of batch norm differ between them."""
    if count() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
