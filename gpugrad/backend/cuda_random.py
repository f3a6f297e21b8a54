"""The CUDA generator: Philox with its state in device memory, so that graphs can draw from it."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.backend.random import DEFAULT_SEED, PhiloxGenerator

_ALL = 1 << 64
_F32 = np.dtype(np.float32)          # random.cu is compiled for it, though no float plays a part


class CudaGenerator(PhiloxGenerator):
    """The Philox generator with words from kernels/random.cu.

    Kernels that draw take the state from device memory and an offset by value (``reserve``).
    Without a graph the state is (seed, 0) and the offset counts from the stream's start. While a
    graph is captured the state is the graph's own and the offset counts from the graph's start.
    """

    def __init__(self, be: Any, seed: int = DEFAULT_SEED) -> None:
        super().__init__(be, seed)
        self._states: dict[int, Any] = {}       # (seed, 0) on the device, for each stream of CUDA
        self._graph: GraphNumbers | None = None

    def reserve(self, words: int) -> tuple[Any, np.uint64]:
        """(state, offset) for a kernel that draws so many 32-bit words; they are then used up.

        state: uint64, 2 elements. Word i of the draw is lane i % 4 of Philox4x32-10 with the key
        state[0] and the counter state[1] + offset + i // 4: see kernels/philox.cuh.
        """
        if not self.be.kernels.on and self._graph is None:
            return super().reserve(words)
        state = self._state() if self._graph is None else self._graph.state
        offset = np.uint64(self.offset)
        self.offset = (self.offset + -(-words // 4)) % _ALL
        return state, offset

    def _state(self) -> Any:
        """(seed, 0) in device memory, written on the current stream at its first use there."""
        be = self.be
        if be.capturing:
            raise RuntimeError(f"random numbers are drawn on {be.name} while a graph is captured, "
                               f"from a generator that the graph does not know: call "
                               f"graph.register_generator_state(generator) before the capture")
        stream = int(be.cupy.cuda.get_current_stream(be.id).ptr)
        state = self._states.get(stream)
        if state is None:
            state = self._states[stream] = be.empty((2,), np.uint64)
            set_state(be, state, self._seed, 0)
        return state

    def words(self, n: int) -> Any:
        be = self.be
        if not be.kernels.on:
            if be.capturing:
                raise RuntimeError("random numbers can't be drawn while a graph is captured and "
                                   "GPUGRAD_KERNELS=0 turns gpugrad's kernels off")
            return super().words(n)
        words = be.empty((n,), np.uint32)
        state, offset = self.reserve(n)
        blocks = min(-(-n // 1024), 1 << 16)    # a thread makes four words
        be.launch("random", "philox", (blocks,), (256,), (words, np.int64(n), state, offset), _F32)
        return words

    # Seed and state ------------------------------------------------------------------------------

    def manual_seed(self, seed: int) -> None:
        self._not_captured("manual_seed")
        super().manual_seed(seed)
        self._states.clear()

    def get_state(self) -> np.ndarray[Any, Any]:
        self._not_captured("get_state")
        return super().get_state()

    def set_state(self, state: np.ndarray[Any, Any]) -> None:
        self._not_captured("set_state")
        super().set_state(state)
        self._states.clear()

    def _not_captured(self, name: str) -> None:
        if self._graph is not None:
            raise RuntimeError(f"{name}: the generator of {self.be.name} is being captured into a "
                               f"graph; its seed and state can only change before or after")


class GraphNumbers:
    """Which part of a generator's stream one CUDA graph draws, at each replay the next one."""

    def __init__(self, generator: CudaGenerator) -> None:
        self.generator, self.total = generator, 0
        self.state = generator.be.empty((2,), np.uint64)
        self._held: tuple[int, int] | None = None       # the state as it is on the device
        if generator.be.kernels.on:
            # Now, because nothing can be compiled during the capture.
            set_state(generator.be, self.state, 0, 0)
            self._advance(0)

    def begin(self) -> None:
        """The capture begins: what is drawn from now on belongs to the graph."""
        g = self.generator
        if g._graph is not None:
            raise RuntimeError(f"a graph that draws random numbers on {g.be.name} is being "
                               f"captured already")
        self._offset_before = g.offset
        g._graph, g.offset = self, 0

    def end(self, record: bool = True) -> None:
        """The capture ends; record=False if it failed and this is only to tidy up."""
        g = self.generator
        if g._graph is not self:
            return
        self.total = g.offset
        g._graph, g.offset = None, self._offset_before
        if self.total and record:
            self._advance(self.total)                   # still inside of the capture

    def before_replay(self) -> None:
        """Give the next replay, on the current stream, the numbers that eager code would get."""
        if not self.total:
            return
        g = self.generator
        if self._held != (g._seed, g.offset):
            set_state(g.be, self.state, g._seed, g.offset)
        g.offset = (g.offset + self.total) % _ALL
        self._held = g._seed, g.offset

    def _advance(self, counters: int) -> None:
        self.generator.be.launch("random", "advance", (1,), (1,),
                                 (self.state, np.uint64(counters)), _F32)


def set_state(be: Any, state: Any, seed: int, offset: int) -> None:
    """Write (seed, offset) to device memory, in the order of the current stream."""
    be.launch("random", "set_state", (1,), (1,), (state, np.uint64(seed), np.uint64(offset)), _F32)
