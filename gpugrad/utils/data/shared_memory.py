"""Batches on their way between processes: a small message, and arrays in memory that both map.

A worker writes the arrays of a batch into segments of shared memory; what goes through the pipe is
a pickle that says where they lie. The receiver's arrays are views of the same memory. Once nobody
has them any more the segment goes back to the worker, which uses it again: so neither pages nor
file descriptors are made anew for each batch.

Segments have no name anywhere (memfd, or a file that is deleted before it is used; on Windows a
mapping that goes with its last handle): whoever is killed at whatever moment leaves nothing behind.
"""
from __future__ import annotations

import errno
import io
import math
import mmap
import os
import pickle
import socket
import struct
import sys
import tempfile
import threading
import weakref
from collections import deque
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.serialization.memory import reduce_tensor

INLINE = 16 << 10        # messages up to so many bytes go through the pipe as a whole
ALIGN = 64
PAGE = mmap.PAGESIZE
HELD = 64                # so many segments the receiver may hold; of more it makes copies
SPARE = 4                # so many segments that don't fit may wait for a batch that they do fit

_WINDOWS = sys.platform == "win32"
_LENGTH = struct.Struct("<I")


def aligned(n: int) -> int:
    """n, or the next multiple of ALIGN."""
    return -(-n // ALIGN) * ALIGN


# Segments -----------------------------------------------------------------------------------------

def _create(size: int, name: str) -> tuple[mmap.mmap, int]:
    """New shared memory, and a file descriptor of it to send (-1 where it has a name instead)."""
    if _WINDOWS:
        return _tagged(size, name), -1
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("gpugrad", os.MFD_CLOEXEC)
    else:
        fd, path = tempfile.mkstemp(prefix="gpugrad-")
        os.unlink(path)
    try:
        os.ftruncate(fd, size)
        return mmap.mmap(fd, size), fd
    except BaseException:
        os.close(fd)
        raise


def _tagged(size: int, name: str) -> mmap.mmap:
    make: Any = mmap.mmap           # its third argument means something else on other systems
    return make(-1, size, name)


def _attach(size: int, name: str, channel: Any) -> mmap.mmap:
    """The memory that the process at the other end of the channel has created."""
    if _WINDOWS:
        return _tagged(size, name)
    with _socket(channel) as s:
        data, fds, _, _ = socket.recv_fds(s, 1, 1)
    if not data:
        raise EOFError
    if not fds:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE) + ": there is no file descriptor "
                      "left for a batch in shared memory (see ulimit -n)")
    try:
        return mmap.mmap(fds[0], size)
    finally:
        os.close(fds[0])


def _socket(channel: Any) -> socket.socket:
    return socket.socket(fileno=os.dup(channel.fileno()))


class _Segment:
    """A worker's side of one segment."""

    __slots__ = ("fd", "lent", "memory", "number", "root", "size")

    def __init__(self, number: int, size: int) -> None:
        self.number, self.size, self.lent = number, size, False
        self.memory, self.fd = _create(size, _name(os.getpid(), number))
        self.root: Any = None           # a weak reference to the array that has been handed out

    @property
    def free(self) -> bool:
        return not self.lent and (self.root is None or self.root() is None)


def _name(pid: int, number: int) -> str:
    return f"gpugrad-{pid}-{number}"


# The sender ---------------------------------------------------------------------------------------

class Sender:
    """Writes batches to a channel: the worker's end."""

    def __init__(self, channel: Any) -> None:
        self._channel, self._thread = channel, threading.get_ident()
        self._segments: dict[int, _Segment] = {}
        self._by_root: dict[int, _Segment] = {}
        self._count = 0
        self._new: list[_Segment] = []          # the receiver doesn't know of them yet
        self._dropped: list[int] = []
        self._table = dict(ForkingPickler(io.BytesIO()).dispatch_table)
        self._table[Tensor] = _reduce_tensor
        self._table[np.ndarray] = _reduce_array

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new array; a large one lies in shared memory, and is sent without another copy."""
        dtype = np.dtype(dtype)
        n = math.prod(shape) * dtype.itemsize
        if n <= INLINE or dtype.hasobject or threading.get_ident() != self._thread:
            return np.empty(shape, dtype)
        return self._take(n).view(dtype).reshape(shape)

    def _take(self, n: int) -> Any:
        """n bytes of a segment that nobody uses."""
        fits = [s for s in self._segments.values() if s.free and n <= s.size <= 2 * n + PAGE]
        segment = min(fits, key=lambda s: s.size) if fits else self._add(n)
        root: Any = np.frombuffer(segment.memory, np.uint8)
        if segment.root is not None:
            self._by_root = {k: s for k, s in self._by_root.items() if s is not segment}
        segment.root = weakref.ref(root)
        self._by_root[id(root)] = segment
        return root[:n]

    def _add(self, n: int) -> _Segment:
        spare = [s for s in self._segments.values() if s.free]
        if len(spare) > SPARE:
            for s in spare:
                self._forget(s)
        # Batches of varying lengths fit more often where there is an eighth to spare.
        size = -(-(n + (n >> 3)) // PAGE) * PAGE
        segment = self._segments[self._count] = _Segment(self._count, size)
        self._new.append(segment)
        self._count += 1
        return segment

    def _forget(self, s: _Segment) -> None:
        del self._segments[s.number]
        self._by_root = {k: other for k, other in self._by_root.items() if other is not s}
        if s in self._new:
            self._new.remove(s)
        else:
            self._dropped.append(s.number)
        if s.fd >= 0:
            os.close(s.fd)

    def returned(self, numbers: list[int]) -> None:
        """The receiver has no use for these segments any more; negative: it can't tell, ~number."""
        for i in numbers:
            s = self._segments[i if i >= 0 else ~i]
            s.lent = False
            if i < 0:
                self._forget(s)

    def send(self, kind: str, task: int, content: Any = None) -> None:
        """Send a message. Errors: those of pickling, after which nothing has been sent."""
        stream, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
        pickler = pickle.Pickler(stream, 5, buffer_callback=buffers.append)
        pickler.dispatch_table = self._table
        pickler.dump(content)
        # By reference what lies in shared memory already, the rest packed one after another.
        rest: list[Any] = [np.frombuffer(stream.getbuffer(), np.uint8)]
        parts: list[Any] = [None]
        end, used = aligned(rest[0].size), {}
        for b in buffers:
            a = _bytes_of(b)
            segment = self._holding(a)
            if segment is None:
                rest.append(a)
                parts.append(None)
                end += aligned(a.size)
            else:
                used[segment.number] = segment
                parts.append((segment.number, _address(a) - _address(segment.root()), a.size))
        where: int | None = None
        if end <= INLINE:
            packed = np.empty(end, np.uint8)
        else:
            packed = self._take(end)
            segment = self._by_root[id(packed.base)]
            where, used[segment.number] = segment.number, segment
        at, k = 0, 0
        for i, part in enumerate(parts):
            if part is None:
                a = rest[k]
                packed[at:at + a.size] = a
                parts[i] = (where, at, a.size)
                at, k = at + aligned(a.size), k + 1
        new = [s for s in self._new if s.number in used]
        head = pickle.dumps((kind, task, parts, [(s.number, s.size) for s in new], self._dropped),
                            pickle.HIGHEST_PROTOCOL)
        message = _LENGTH.pack(len(head)) + head
        if where is None:
            message += packed.tobytes()
        for s in used.values():
            s.lent = True
        self._new = [s for s in self._new if s.number not in used]
        self._dropped = []
        self._channel.send_bytes(message)
        for s in new:
            self._pass_on(s)

    def _holding(self, a: Any) -> _Segment | None:
        """The segment that ``a`` lies in, if it has been handed out and not been sent yet."""
        while isinstance(a.base, np.ndarray):
            a = a.base
        s = self._by_root.get(id(a))
        return s if s is not None and not s.lent and s.root() is a else None

    def _pass_on(self, s: _Segment) -> None:
        if s.fd >= 0:
            with _socket(self._channel) as out:
                socket.send_fds(out, [b"s"], [s.fd])
            if sys.platform == "linux":         # elsewhere closing it may lose it on its way
                os.close(s.fd)
                s.fd = -1


def _address(a: Any) -> int:
    return int(a.__array_interface__["data"][0])


def _bytes_of(b: pickle.PickleBuffer) -> Any:
    """The memory of a buffer as bytes; an array that lies in a segment still shows that it does."""
    held = memoryview(b).obj
    if isinstance(held, np.ndarray) and held.dtype == np.uint8 and held.ndim == 1:
        return held
    return np.frombuffer(b.raw(), np.uint8)


def _reduce_array(a: Any) -> Any:
    """An array as a buffer, with its memory order where it is dense."""
    if a.dtype.hasobject:
        return a.__reduce_ex__(4)
    axes = sorted(range(a.ndim), key=lambda i: -abs(a.strides[i]))
    dense = a.transpose(axes)
    if not dense.flags.c_contiguous:
        axes = list(range(a.ndim))
        dense = np.ascontiguousarray(a).reshape(a.shape)
    flat: Any = dense.reshape(-1).view(np.uint8) if a.size else np.empty(0, np.uint8)
    return _array, (pickle.PickleBuffer(flat), a.dtype, dense.shape, np.argsort(axes).tolist())


def _array(buffer: Any, dtype: Any, shape: tuple[int, ...], axes: list[int]) -> Any:
    a = np.frombuffer(buffer, np.uint8).view(dtype).reshape(shape)
    return a if axes == sorted(axes) else a.transpose(axes)


def _reduce_tensor(t: Tensor) -> Any:
    if t.requires_grad and not t.is_leaf:
        raise RuntimeError("Cowardly refusing to serialize non-leaf tensor which requires_grad, "
                           "since autograd does not support crossing process boundaries.  If you "
                           "just want to transfer the data, call detach() on the tensor before "
                           "serializing (e.g., putting it on the queue).")
    if not t.is_cpu or t.__dict__:
        return reduce_tensor(t)
    return _tensor, (t._a, t.requires_grad)


def _tensor(a: Any, requires_grad: bool) -> Tensor:
    t = wrap(dtypes.adopt(a))
    return t.requires_grad_() if requires_grad else t


# The receiver -------------------------------------------------------------------------------------

# How often this process has forked: memory that a child may see is not written to again.
_forks = [0]


def _forked() -> None:
    _forks[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_forked)


class Receiver:
    """Reads batches from a channel: the main process's end."""

    def __init__(self, channel: Any, pid: int, held: dict[Any, Any]) -> None:
        self._channel, self._pid = channel, pid
        self._memory: dict[int, mmap.mmap] = {}
        self._free: deque[int] = deque()
        self._held = held               # weak references to what users have, of all the workers

    def receive(self) -> Message:
        """The next message. EOFError or OSError if the sender has gone."""
        data = self._channel.recv_bytes()
        n = _LENGTH.size + _LENGTH.unpack_from(data)[0]
        kind, task, parts, new, dropped = pickle.loads(memoryview(data)[_LENGTH.size:n])
        for i, size in new:
            self._memory[i] = _attach(size, _name(self._pid, i), self._channel)
        for i in dropped:
            self._memory.pop(i, None)
        roots = {i: self._lease(i) for i in {part[0] for part in parts} if i is not None}
        if None in {part[0] for part in parts}:
            roots[None] = np.empty(len(data) - n, np.uint8)
            roots[None][:] = np.frombuffer(data, np.uint8, offset=n)
        return Message(kind, task, [roots[i][at:at + size] for i, at, size in parts])

    def _lease(self, i: int) -> Any:
        """The segment as an array; when nobody has it any more the segment goes back."""
        root: Any = np.frombuffer(self._memory[i], np.uint8)
        if len(self._held) >= HELD:
            self._free.append(i)
            return root.copy()
        forks, free, held, key = _forks[0], self._free, self._held, (self._pid, i)

        def gone(ref: Any) -> None:     # it may run in any thread, at any moment
            held.pop(key, None)
            free.append(i if forks == _forks[0] else ~i)
        held[key] = weakref.ref(root, gone)
        return root

    def returned(self) -> list[int]:
        """The segments that the sender may use again, for ``Sender.returned``."""
        numbers = []
        while self._free:
            i = self._free.popleft()
            numbers.append(i)
            if i < 0:
                self._memory.pop(~i, None)
        return numbers


class Message:
    """What has arrived: its kind, its task's number, and content that is unpickled on demand."""

    __slots__ = ("_parts", "kind", "task")

    def __init__(self, kind: str, task: int, parts: list[Any]) -> None:
        self.kind, self.task, self._parts = kind, task, parts

    def open(self) -> Any:
        """The content."""
        stream, *buffers = self._parts
        return pickle.loads(stream, buffers=buffers)
