"""Convolution by cuDNN, through the module ``cudnn`` of nvidia-cudnn-frontend, if it is installed.

It is found by itself, and is one of the ways that torch.backends.cudnn.benchmark has tried out. A
plan is taken only after it has given what our own kernels give of the same arrays, and whatever
fails on the way there leaves cuDNN out, with one warning. There is a plan for each shape; it
repeats its bits, and its workspace is at most be.column_bytes.
"""
from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np

from gpugrad.backend.precision import convolution as settings
from gpugrad.backend.precision import here
from gpugrad.layouts import as_images
from gpugrad.ops.bias import add_bias
from gpugrad.ops.conv_direct import laid, new

DTYPES = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BFLOAT16"}
# The largest difference from our own kernels, as a share of the largest element.
UNTIL = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
TF32 = 1e-2
_plans: dict[Any, Any] = {}
_handles: dict[int, Any] = {}       # by device
_warned: list[str] = []


class Address:
    """An array as the frontend takes any library's: by where it begins."""

    def __init__(self, be: Any, array: Any) -> None:
        self.array, self._at = array, be.address(array)

    def data_ptr(self) -> int:
        return self._at


@functools.cache
def library() -> Any:
    """The module, if it has found the library and there is a GPU; else None. Looks once."""
    from gpugrad.backend import cuda

    if cuda.simulated() or cuda.usable()[0] is None:
        return None
    try:
        import cudnn

        return cudnn if cudnn.backend_version() and cudnn.pygraph else None
    except Exception:           # of an installation that isn't whole: it may be any
        return None


def takes(be: Any, kind: str, case: Any) -> bool:
    """Can cuDNN be asked for it?"""
    return bool(settings.enabled and case.groups == 1 and case.dtype.name in DTYPES
                and 0 not in case.x_shape + case.w_shape + case.y_shape and library() is not None)


def forward(be: Any, x: Any, w: Any, bias: Any, case: Any) -> Any:
    """convolution's result; bias may be None."""
    y = run(be, "conv_fprop", case, {"image": x, "weight": w}, case.y_shape)
    return y if bias is None else add_bias(be, y, bias)


def grad_input(be: Any, g: Any, w: Any, case: Any) -> Any:
    """The gradient for x."""
    return run(be, "conv_dgrad", case, {"loss": g, "filter": w}, case.x_shape)


def grad_weight(be: Any, g: Any, x: Any, case: Any) -> Any:
    """The gradient for w."""
    return run(be, "conv_wgrad", case, {"image": x, "loss": g}, case.w_shape)


def proven(be: Any, way: Any, arrays: Any, case: Any, want: Any) -> bool:
    """Does a function of these give what our own kernels gave? If not, a warning says so."""
    try:
        got = way(be, *arrays, case).astype(np.float32)
        want = want.astype(np.float32)
        size, error = (be.read(abs(a).max()) for a in (want, got - want))
    except Exception as e:
        return warn(f"{type(e).__name__}: {e}")
    until = TF32 if here.tf32 else UNTIL[case.dtype.name]
    return error <= until * size or warn(f"a result that is off by {error / (size or 1):.1e}")


def warn(what: str) -> bool:
    """Say once why cuDNN is left out; False."""
    if not _warned:
        warnings.warn(f"cuDNN is left out of a convolution, and gpugrad's own kernels are used: "
                      f"{what}", stacklevel=2)
        _warned.append(what)
    return False


# Graphs ------------------------------------------------------------------------------------------

def run(be: Any, node: str, case: Any, arrays: dict[str, Any], shape: Any) -> Any:
    """What a graph of one node makes of its arrays: images, or weights, of ``shape``."""
    lib = library()
    graph, ins, out, nbytes = plan(be, lib, node, case, {n: a.shape for n, a in arrays.items()},
                                   shape)
    y = new(be, case, shape)
    memory = {t: Address(be, laid(be, arrays[name], case)) for name, t in ins.items()}
    memory[out] = Address(be, y)
    space = Address(be, be.empty((max(nbytes, 1),), np.dtype(np.uint8)))
    handle = _handles[be.id]
    lib.set_stream(handle=handle, stream=int(be.cupy.cuda.get_current_stream(be.id).ptr))
    graph.execute(memory, space, handle=handle)
    return as_images(y) if case.last else y


def plan(be: Any, lib: Any, node: str, case: Any, shapes: dict[str, Any], shape: Any) -> Any:
    """(graph, its tensors by name, its result's, bytes of workspace), made at the first request."""
    key = be.id, node, case, bool(here.tf32)
    if key in _plans:
        return _plans[key]
    if be.capturing:
        raise RuntimeError("a convolution by cuDNN is planned for the first time while a step is "
                           "recorded: run the step once before recording it")
    if be.id not in _handles:
        _handles[be.id] = lib.create_handle()
    dtype, real = getattr(lib.data_type, DTYPES[case.dtype.name]), lib.data_type.FLOAT
    graph = lib.pygraph(io_data_type=dtype, intermediate_data_type=real, compute_data_type=real,
                        handle=_handles[be.id])
    ins = {name: graph.tensor(name=name, dim=list(s), stride=steps(s, case.last), data_type=dtype)
           for name, s in shapes.items()}
    out = getattr(graph, node)(**ins, pre_padding=list(case.padding),
                               post_padding=list(case.padding), stride=list(case.stride),
                               dilation=list(case.dilation), compute_data_type=real)
    out.set_output(True).set_data_type(dtype)
    out.set_dim(list(shape)).set_stride(steps(shape, case.last))
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([lib.heur_mode.A, lib.heur_mode.FALLBACK])
    notes = lib.numerical_note
    avoided = [notes.NONDETERMINISTIC, notes.REDUCED_PRECISION_REDUCTION]
    if case.dtype == np.float32 and not here.tf32:
        avoided += [notes.TENSOR_CORE, notes.DOWN_CONVERT_INPUTS]
    graph.deselect_numeric_notes(avoided)
    graph.deselect_workspace_greater_than(be.column_bytes)
    graph.check_support()
    graph.build_plans()
    made = _plans[key] = graph, ins, out, graph.get_workspace_size()
    return made


def steps(shape: Any, last: bool) -> list[int]:
    """Elements from one index to the next of each dim."""
    _, c, h, w = shape
    return [c * h * w, 1, c * w, c] if last else [c * h * w, h * w, w, 1]
