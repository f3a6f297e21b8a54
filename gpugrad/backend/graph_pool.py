"""The memory of CUDA graphs: a pool whose memory stays where it is as long as a graph uses it."""
from __future__ import annotations

import weakref
from typing import Any

pools: weakref.WeakSet[GraphPool] = weakref.WeakSet()


class GraphPool:
    """A pool of CuPy's for what is allocated in captures.

    CuPy gives free memory of a pool back to the driver when it runs short, but a graph's replays
    write to what was free at the capture's end, too. So the pool's blocks are also held here.
    """

    def __init__(self, cupy: Any) -> None:
        blocks: list[Any] = []

        def new(size: int) -> Any:                  # without self: no cycle keeps the memory
            memory = cupy.cuda.Memory(size)
            blocks.append(memory)
            return cupy.cuda.MemoryPointer(memory, 0)

        self.cupy = cupy.cuda.MemoryPool(new)
        pools.add(self)

    @property
    def malloc(self) -> Any:
        """The function that arrays' memory comes from during a capture."""
        return self.cupy.malloc
