"""torch.cuda: devices, memory, random states, streams, graphs. Importing it imports no CuPy."""
from __future__ import annotations

from typing import Any

from gpugrad.cuda import nvtx as nvtx
from gpugrad.cuda import sim as sim
from gpugrad.cuda.devices import can_device_access_peer as can_device_access_peer
from gpugrad.cuda.devices import current_device as current_device
from gpugrad.cuda.devices import device as device
from gpugrad.cuda.devices import device_count as device_count
from gpugrad.cuda.devices import device_of as device_of
from gpugrad.cuda.devices import get_arch_list as get_arch_list
from gpugrad.cuda.devices import get_device_capability as get_device_capability
from gpugrad.cuda.devices import get_device_name as get_device_name
from gpugrad.cuda.devices import get_device_properties as get_device_properties
from gpugrad.cuda.devices import init as init
from gpugrad.cuda.devices import is_available as is_available
from gpugrad.cuda.devices import is_bf16_supported as is_bf16_supported
from gpugrad.cuda.devices import is_initialized as is_initialized
from gpugrad.cuda.devices import set_device as set_device
from gpugrad.cuda.devices import synchronize as synchronize
from gpugrad.cuda.devices import unavailable_reason as unavailable_reason
from gpugrad.cuda.graphed import make_graphed_callables as make_graphed_callables
from gpugrad.cuda.graphs import CUDAGraph as CUDAGraph
from gpugrad.cuda.graphs import graph as graph
from gpugrad.cuda.graphs import graph_pool_handle as graph_pool_handle
from gpugrad.cuda.graphs import is_current_stream_capturing as is_current_stream_capturing
from gpugrad.cuda.memory import empty_cache as empty_cache
from gpugrad.cuda.memory import get_per_process_memory_fraction as get_per_process_memory_fraction
from gpugrad.cuda.memory import ipc_collect as ipc_collect
from gpugrad.cuda.memory import max_memory_allocated as max_memory_allocated
from gpugrad.cuda.memory import max_memory_reserved as max_memory_reserved
from gpugrad.cuda.memory import mem_get_info as mem_get_info
from gpugrad.cuda.memory import memory_allocated as memory_allocated
from gpugrad.cuda.memory import memory_reserved as memory_reserved
from gpugrad.cuda.memory import memory_stats as memory_stats
from gpugrad.cuda.memory import memory_stats_as_nested_dict as memory_stats_as_nested_dict
from gpugrad.cuda.memory import memory_summary as memory_summary
from gpugrad.cuda.memory import reset_max_memory_allocated as reset_max_memory_allocated
from gpugrad.cuda.memory import reset_peak_memory_stats as reset_peak_memory_stats
from gpugrad.cuda.memory import set_per_process_memory_fraction as set_per_process_memory_fraction
from gpugrad.cuda.random import get_rng_state as get_rng_state
from gpugrad.cuda.random import get_rng_state_all as get_rng_state_all
from gpugrad.cuda.random import initial_seed as initial_seed
from gpugrad.cuda.random import manual_seed as manual_seed
from gpugrad.cuda.random import manual_seed_all as manual_seed_all
from gpugrad.cuda.random import seed as seed
from gpugrad.cuda.random import seed_all as seed_all
from gpugrad.cuda.random import set_rng_state as set_rng_state
from gpugrad.cuda.random import set_rng_state_all as set_rng_state_all
from gpugrad.cuda.sim import simulate as simulate
from gpugrad.cuda.streams import Event as Event
from gpugrad.cuda.streams import ExternalStream as ExternalStream
from gpugrad.cuda.streams import Stream as Stream
from gpugrad.cuda.streams import StreamContext as StreamContext
from gpugrad.cuda.streams import current_stream as current_stream
from gpugrad.cuda.streams import default_stream as default_stream
from gpugrad.cuda.streams import set_stream as set_stream
from gpugrad.cuda.streams import stream as stream


def __getattr__(name: str) -> Any:
    if name == "OutOfMemoryError":
        from gpugrad.cuda.memory import out_of_memory_error

        return out_of_memory_error()
    if name == "amp":
        from importlib import import_module

        return import_module("gpugrad.cuda.amp")
    if name.endswith("Tensor"):
        from gpugrad.tensor_types import CUDA_TYPES

        if name in CUDA_TYPES:
            return CUDA_TYPES[name]
    raise AttributeError(f"module 'gpugrad.cuda' has no attribute '{name}'")
