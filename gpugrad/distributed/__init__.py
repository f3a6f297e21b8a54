"""torch.distributed: one process alone. The questions have answers; what needs others raises."""
from __future__ import annotations

from enum import Enum
from typing import Any

from gpugrad.absent import functions


def is_available() -> bool:
    """False."""
    return False


def is_initialized() -> bool:
    """False: there is no process group."""
    return False


def is_torchelastic_launched() -> bool:
    """Was the program started by torchrun?"""
    import os

    return os.environ.get("TORCHELASTIC_RUN_ID") is not None


def is_backend_available(backend: str) -> bool:
    """False."""
    return False


is_gloo_available = is_mpi_available = is_nccl_available = is_ucc_available = is_available
is_xccl_available = is_available


class DistError(RuntimeError):
    """The base of PyTorch's errors of process groups."""


class DistBackendError(DistError):
    """Raised by backends, in PyTorch."""


class DistNetworkError(DistError):
    """Raised for networks, in PyTorch."""


class DistStoreError(DistError):
    """Raised by stores, in PyTorch."""


class Backend(str):
    """The names of backends."""

    UNDEFINED, GLOO, NCCL, UCC, MPI, XCCL = "undefined", "gloo", "nccl", "ucc", "mpi", "xccl"


class ReduceOp(Enum):
    """How the values of several processes become one."""

    SUM = 0
    AVG = 1
    PRODUCT = 2
    MIN = 3
    MAX = 4
    BAND = 5
    BOR = 6
    BXOR = 7
    PREMUL_SUM = 8


class ProcessGroup:
    """Several processes; there is none to be one of."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(f"ProcessGroup is not supported: {WHY}")


class Work:
    """A transfer under way, in PyTorch."""


class group:
    """The group of all processes, None as there is no group."""

    WORLD: Any = None


class GroupMember:
    """Marks of groups."""

    WORLD: Any = None
    NON_GROUP_MEMBER = -100


WHY = ("gpugrad runs in one process. Ask torch.distributed.is_available(), which is False, or "
       "is_initialized() before")

# As functions they can be imported, and passed on.
globals().update(functions(
    "torch.distributed",
    "init_process_group destroy_process_group new_group new_subgroups get_rank get_world_size "
    "get_backend get_group_rank get_global_rank get_process_group_ranks get_node_local_rank "
    "abort_process_group all_reduce all_gather all_gather_into_tensor all_gather_object "
    "all_gather_coalesced all_reduce_coalesced all_to_all all_to_all_single barrier "
    "batch_isend_irecv broadcast broadcast_object_list gather gather_object irecv isend "
    "monitored_barrier recv recv_object_list reduce reduce_scatter reduce_scatter_tensor "
    "scatter scatter_object_list send send_object_list TCPStore FileStore HashStore "
    "PrefixStore Store P2POp init_device_mesh DeviceMesh breakpoint get_debug_level",
    WHY))
_FOLDERS = ("nn", "fsdp", "tensor", "elastic", "rpc", "algorithms", "optim", "checkpoint",
            "pipelining", "device_mesh")


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:                        # an AttributeError, for hasattr()
        raise AttributeError(f"torch.distributed.{name} is not supported: {WHY}")
    raise AttributeError(f"module 'gpugrad.distributed' has no attribute '{name}'")
