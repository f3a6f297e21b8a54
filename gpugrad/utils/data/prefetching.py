"""Batches copied to a device ahead of their use, on a stream of their own."""
from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.device import device as Device


def prefetch(loader: Iterable[Any], device: Any, depth: int = 1) -> Iterator[Any]:
    """The batches of a loader, with all their tensors on a device.

    The next ``depth`` batches are copied while the program computes with this one: on a stream of
    their own, and without the host's waiting if the loader has pin_memory=True. A batch that is
    yielded can be used on the stream that is current then. On the CPU it only copies what isn't
    there yet.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise ValueError(f"prefetch: depth should be a positive integer value, but got {depth=}")
    device = Device(device)
    if device.type == "cuda":
        return _on_cuda(loader, device, depth)
    return (moved(batch, lambda t: t.to(device)) for batch in loader)


def _on_cuda(loader: Iterable[Any], device: Device, depth: int) -> Iterator[Any]:
    from gpugrad import cuda

    side = cuda.Stream(device)
    waiting: deque[tuple[Any, Any]] = deque()
    batches = iter(loader)

    def fill() -> None:
        while len(waiting) <= depth:
            batch = next(batches, waiting)
            if batch is waiting:
                return
            with cuda.stream(side):
                there = moved(batch, lambda t: t.to(device, non_blocking=True))
                waiting.append((there, side.record_event()))
    fill()
    while waiting:
        batch, event = waiting.popleft()
        current = cuda.current_stream(device)
        current.wait_event(event)

        def mark(t: Tensor, stream: Any = current) -> Tensor:
            t.record_stream(stream)
            return t
        moved(batch, mark)
        yield batch
        del batch
        fill()


def moved(data: Any, move: Callable[[Tensor], Tensor]) -> Any:
    """``data`` with ``move(t)`` for each tensor in it; containers keep their types."""
    if isinstance(data, Tensor):
        return move(data)
    if isinstance(data, str | bytes):
        return data
    if isinstance(data, Mapping):
        return _like(data, {k: moved(v, move) for k, v in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*[moved(v, move) for v in data])
    if isinstance(data, Sequence):
        return _like(data, [moved(v, move) for v in data])
    return data


def _like(model: Any, parts: Any) -> Any:
    try:
        if isinstance(parts, dict) and hasattr(model, "update"):    # it may have attributes, too
            clone = copy.copy(model)
            clone.update(parts)
            return clone
        return type(model)(parts)
    except TypeError:                   # a type that is made in another way
        return parts
