"""cupy.cuda: simulated devices."""
from __future__ import annotations

from gpugrad.cudasim.cupy.cuda import compiler as compiler
from gpugrad.cudasim.cupy.cuda import memory as memory
from gpugrad.cudasim.cupy.cuda import memory_hook as memory_hook
from gpugrad.cudasim.cupy.cuda import nvrtc as nvrtc
from gpugrad.cudasim.cupy.cuda import nvtx as nvtx
from gpugrad.cudasim.cupy.cuda import runtime as runtime
from gpugrad.cudasim.cupy.cuda._devices import Device as Device
from gpugrad.cudasim.cupy.cuda._devices import get_device_id as get_device_id
from gpugrad.cudasim.cupy.cuda._pinned import PinnedMemoryPointer as PinnedMemoryPointer
from gpugrad.cudasim.cupy.cuda._pinned import PinnedMemoryPool as PinnedMemoryPool
from gpugrad.cudasim.cupy.cuda._pinned import alloc_pinned_memory as alloc_pinned_memory
from gpugrad.cudasim.cupy.cuda._streams import Event as Event
from gpugrad.cudasim.cupy.cuda._streams import ExternalStream as ExternalStream
from gpugrad.cudasim.cupy.cuda._streams import Graph as Graph
from gpugrad.cudasim.cupy.cuda._streams import Stream as Stream
from gpugrad.cudasim.cupy.cuda._streams import get_current_stream as get_current_stream
from gpugrad.cudasim.cupy.cuda._streams import get_elapsed_time as get_elapsed_time
from gpugrad.cudasim.cupy.cuda.memory import Memory as Memory
from gpugrad.cudasim.cupy.cuda.memory import MemoryPointer as MemoryPointer
from gpugrad.cudasim.cupy.cuda.memory import MemoryPool as MemoryPool
from gpugrad.cudasim.cupy.cuda.memory import UnownedMemory as UnownedMemory
from gpugrad.cudasim.cupy.cuda.memory import alloc as alloc
from gpugrad.cudasim.cupy.cuda.memory import get_allocator as get_allocator
from gpugrad.cudasim.cupy.cuda.memory import set_allocator as set_allocator
from gpugrad.cudasim.cupy.cuda.memory import using_allocator as using_allocator
from gpugrad.cudasim.cupy.cuda.memory_hook import MemoryHook as MemoryHook


def is_available() -> bool:
    """True: there is a simulated device."""
    return True
