"""torch.cuda: devices, memory, random states, streams. Importing it does not import CuPy."""
from __future__ import annotations

from gpugrad.cuda.devices import current_device as current_device
from gpugrad.cuda.devices import device as device
from gpugrad.cuda.devices import device_count as device_count
from gpugrad.cuda.devices import device_of as device_of
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
from gpugrad.cuda.memory import empty_cache as empty_cache
from gpugrad.cuda.memory import mem_get_info as mem_get_info
from gpugrad.cuda.memory import memory_allocated as memory_allocated
from gpugrad.cuda.memory import memory_reserved as memory_reserved
from gpugrad.cuda.random import get_rng_state as get_rng_state
from gpugrad.cuda.random import get_rng_state_all as get_rng_state_all
from gpugrad.cuda.random import initial_seed as initial_seed
from gpugrad.cuda.random import manual_seed as manual_seed
from gpugrad.cuda.random import manual_seed_all as manual_seed_all
from gpugrad.cuda.random import seed as seed
from gpugrad.cuda.random import seed_all as seed_all
from gpugrad.cuda.random import set_rng_state as set_rng_state
from gpugrad.cuda.random import set_rng_state_all as set_rng_state_all
from gpugrad.cuda.streams import Event as Event
from gpugrad.cuda.streams import Stream as Stream
from gpugrad.cuda.streams import StreamContext as StreamContext
from gpugrad.cuda.streams import current_stream as current_stream
from gpugrad.cuda.streams import default_stream as default_stream
from gpugrad.cuda.streams import set_stream as set_stream
from gpugrad.cuda.streams import stream as stream
