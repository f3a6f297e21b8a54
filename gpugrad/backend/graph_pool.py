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
        self._cupy = cupy
        self._blocks: list[Any] = []
        self.cupy = cupy.cuda.MemoryPool(self._new)
        pools.add(self)

    def _new(self, size: int) -> Any:
        memory = self._cupy.cuda.Memory(size)
        self._blocks.append(memory)
        return self._cupy.cuda.MemoryPointer(memory, 0)

    @property
    def malloc(self) -> Any:
        """The function that arrays' memory comes from during a capture."""
        return self.cupy.malloc
