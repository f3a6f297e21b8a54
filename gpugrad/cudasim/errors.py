"""What can go wrong in a simulated kernel: one exception for each kind of fault."""
from __future__ import annotations


class SimulatorError(RuntimeError):
    """A fault of a kernel or of its launch.

    kernel: its name. file, line: where in the source. block, thread: who did it, as (x, y, z). Each
    is None if it isn't known or there is none. Of a race these are the second of the two accesses.
    """

    kernel: str | None = None
    file: str | None = None
    line: int | None = None
    block: tuple[int, int, int] | None = None
    thread: tuple[int, int, int] | None = None


class NoCompilerError(SimulatorError):
    """There is no g++ to compile kernels with."""


class CompileError(SimulatorError):
    """The source can't be compiled; the message is the compiler's."""


class LaunchError(SimulatorError):
    """The grid, the block or the shared memory is larger than a device allows, or empty."""


class ArgumentError(SimulatorError, TypeError):
    """The arguments aren't those that the kernel declares."""


class OutOfBoundsError(SimulatorError):
    """An access outside the memory of the device, or of an array's dimension."""


class MisalignedError(SimulatorError):
    """An access to an address that isn't a multiple of what the type needs."""


class RaceError(SimulatorError):
    """Two threads use the same memory, one writes it, and nothing orders them."""


class BarrierError(SimulatorError):
    """Threads meet at different barriers, or misuse an operation of a warp."""


class DeadlockError(BarrierError):
    """Threads wait for others that never come."""


class KernelArithmeticError(SimulatorError, ArithmeticError):
    """Overflow or division by zero of integers, or a shift by too much."""


class TrapError(SimulatorError):
    """__trap(), or an assertion that doesn't hold."""


class CrashError(SimulatorError):
    """The kernel crashed, or used too much local memory, or never ends."""


# By number, as runtime/device.h counts them.
KINDS: tuple[type[SimulatorError], ...] = (
    SimulatorError, OutOfBoundsError, MisalignedError, RaceError, BarrierError, DeadlockError,
    KernelArithmeticError, TrapError, BarrierError, CrashError, LaunchError, SimulatorError,
    CrashError)
