"""The methods and operators of Tensor: one table, attached when gpugrad is imported."""
from __future__ import annotations

from typing import Any

from gpugrad import backend, creation, dtypes, sampling
from gpugrad._tensor import Tensor
from gpugrad.autograd import engine, node
from gpugrad.autograd.entry import NUMBERS
from gpugrad.autograd.rules import tensors as T
from gpugrad.autograd.transfer import to_backend
from gpugrad.device import device as Device
from gpugrad.functions import indexing, matmul, pointwise, reduction, shape, softmax
from gpugrad.functions.arguments import cast, number_of, public
from gpugrad.layouts import contiguous_format, preserve_format, strided


def backward(self: Tensor, gradient: Tensor | None = None, retain_graph: bool | None = None,
             create_graph: bool = False, inputs: Any = None) -> None:
    """Add the gradients of this tensor to the .grad of the leaves it was computed from."""
    engine.backward(self, gradient, retain_graph, create_graph, inputs=inputs)


# Devices and dtypes ------------------------------------------------------------------------------


def parse_to(*args: Any, device: Any = None, dtype: Any = None, non_blocking: bool = False,
             copy: bool = False,
             memory_format: Any = preserve_format) -> tuple[Any, Any, bool, bool, Any]:
    """The arguments of Tensor.to and Module.to: a device, a dtype, both, or a tensor with them."""
    rest = list(args)
    if rest and isinstance(rest[0], Tensor):
        other = rest.pop(0)
        device, dtype = other.device, other.dtype
    elif rest and (rest[0] is None or isinstance(rest[0], str | Device) or type(rest[0]) is int):
        device = rest.pop(0)
        if rest and (rest[0] is None or isinstance(rest[0], dtypes.dtype)):
            dtype = rest.pop(0)
    elif rest:
        dtype = rest.pop(0)
        if not isinstance(dtype, dtypes.dtype):
            raise TypeError("to() received an invalid combination of arguments - got "
                            f"({type(dtype).__name__}), but expected a device, a dtype or a tensor")
    if rest:
        non_blocking = rest.pop(0)
    if rest:
        copy = rest.pop(0)
    be = None if device is None else backend.get(device)
    return be, dtype, non_blocking, copy, memory_format


def to(self: Tensor, *args: Any, **kw: Any) -> Tensor:
    """This tensor on another device or in another dtype; itself if it is so already."""
    be, dtype, _, copy, memory_format = parse_to(*args, **kw)
    out = self
    if dtype is not None:
        out = cast(out, dtype.np)
    if be is not None:
        out = to_backend(out, be)
    if out is self and copy:
        out = T.clone(out)
    return out if memory_format is preserve_format else shape.contiguous(out, memory_format)


def cpu(self: Tensor, memory_format: Any = preserve_format) -> Tensor:
    return to_backend(self, backend.cpu)


def cuda(self: Tensor, device: Any = None, non_blocking: bool = False,
         memory_format: Any = preserve_format) -> Tensor:
    return to_backend(self, backend.get("cuda" if device is None else device))


def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The name of the tensor's type, or the tensor in another dtype."""
    if dtype is None:
        return f"{self._be.prefix}{dtypes.type_name(self._a.dtype)}Tensor"
    if isinstance(dtype, str):
        kind = dtype.rpartition(".")[2].removesuffix("Tensor")
        found = [d for d in dtypes.ALL if d._legacy == kind]
        if not found:
            raise ValueError(f"invalid type: '{dtype}'")
        return to(self, "cuda" if ".cuda." in dtype else "cpu", found[0])
    return to(self, dtype)


def type_as(self: Tensor, other: Tensor) -> Tensor:
    return to(self, other)


def converter(dtype: dtypes.dtype) -> Any:
    def convert(self: Tensor, memory_format: Any = preserve_format) -> Tensor:
        return cast(self, dtype.np)
    convert.__doc__ = f"This tensor as {dtype}."
    return convert


def pin_memory(self: Tensor, device: Any = None) -> Tensor:
    """Itself: copies to the GPU go through CuPy's own pinned buffers."""
    return self


# In-place, and Python's protocols ----------------------------------------------------------------


def fill_(self: Tensor, value: Any) -> Tensor:
    """Every element set to a number."""
    if isinstance(value, Tensor):
        if value._a.ndim:
            raise RuntimeError("fill_ only supports 0-dimension value tensor but got tensor with "
                               f"{value._a.ndim} dimensions.")
        return indexing.copy_(self, value)
    return T.fill_(self, value=number_of(value, self._a.dtype))


def zero_(self: Tensor) -> Tensor:
    """Every element set to 0."""
    return T.fill_(self, value=0)


def record_stream(self: Tensor, stream: Any) -> None:
    """Nothing to do on the CPU; on CUDA hold the tensor until the other stream is done with it."""
    if self._be.index:
        raise NotImplementedError("record_stream: keep a reference until stream.synchronize() "
                                  "instead")


def reduce_ex(self: Tensor, protocol: Any) -> tuple[Any, ...]:
    """What pickle stores."""
    from gpugrad.serialization import reduce_tensor
    return reduce_tensor(self)


def deepcopy(self: Tensor, memo: dict[Any, Any]) -> Tensor:
    """What copy.deepcopy makes of a leaf."""
    from gpugrad.serialization import deepcopy_tensor
    return deepcopy_tensor(self, memo)


def contains(self: Tensor, element: Any) -> bool:
    """``element in x``, for a number or a tensor that broadcasts."""
    if not isinstance(element, (Tensor, *NUMBERS)):
        raise RuntimeError("Tensor.__contains__ only supports Tensor or scalar, but you passed in "
                           f"a {type(element)}.")
    return bool((self == element).any())


def no_deletion(self: Tensor, key: Any) -> None:
    raise TypeError("Tensor does not support deleting items")


METHODS: dict[str, Any] = {
    # operators
    "__add__": T.add, "__radd__": T.add, "__iadd__": pointwise.add_,
    "__sub__": pointwise.minus, "__rsub__": pointwise.rsub, "__isub__": pointwise.sub_,
    "__mul__": T.mul, "__rmul__": T.mul, "__imul__": pointwise.in_place("mul"),
    "__truediv__": T.div, "__rtruediv__": pointwise.rdiv,
    "__itruediv__": pointwise.div_,
    "__floordiv__": pointwise.floor_divide, "__ifloordiv__": pointwise.floor_divide_,
    "__rfloordiv__": lambda x, y: pointwise.floor_divide(y, x),
    "__mod__": pointwise.remainder, "__imod__": pointwise.remainder_,
    "__rmod__": lambda x, y: pointwise.remainder(y, x),
    "__pow__": pointwise.power, "__rpow__": pointwise.rpow, "__ipow__": pointwise.pow_,
    "__matmul__": matmul.matmul, "__rmatmul__": lambda x, y: NotImplemented,
    "__neg__": pointwise.neg, "__pos__": pointwise.positive, "__abs__": T.abs,
    "__invert__": pointwise.invert,
    "__eq__": T.eq, "__ne__": T.ne, "__lt__": T.lt, "__le__": T.le, "__gt__": T.gt, "__ge__": T.ge,
    "__and__": T.bitwise_and, "__rand__": T.bitwise_and, "__iand__": T.bitwise_and_,
    "__or__": T.bitwise_or, "__ror__": T.bitwise_or, "__ior__": T.bitwise_or_,
    "__xor__": T.bitwise_xor, "__rxor__": T.bitwise_xor, "__ixor__": T.bitwise_xor_,
    "__lshift__": T.bitwise_left_shift, "__rlshift__": lambda x, y: T.bitwise_left_shift(y, x),
    "__rshift__": T.bitwise_right_shift, "__rrshift__": lambda x, y: T.bitwise_right_shift(y, x),
    "__ilshift__": T.bitwise_left_shift_, "__irshift__": T.bitwise_right_shift_,
    "__getitem__": indexing.getitem, "__setitem__": indexing.setitem, "__iter__": shape.iterate,
    "__contains__": contains, "__delitem__": no_deletion,
    "__reduce_ex__": reduce_ex, "__deepcopy__": deepcopy,
    # history
    "backward": backward, "register_hook": node.register_tensor_hook,
    "retain_grad": node.retain_grad,
    "register_post_accumulate_grad_hook": node.register_post_accumulate_grad_hook,
    "retains_grad": property(node.retains_grad),
    # devices and dtypes
    "to": to, "cpu": cpu, "cuda": cuda, "type": type_, "type_as": type_as, "pin_memory": pin_memory,
    "record_stream": record_stream, "layout": strided,
    "is_pinned": lambda self, device=None: False,
    "fill_": fill_, "zero_": zero_,
    "T": property(shape.reversed_dims), "mT": property(shape.matrix_transpose),
    # where the function has other arguments
    "where": pointwise.where_method, "split": shape.split_method,
}
METHODS.update({name: converter(d) for name, d in (
    ("float", dtypes.float32), ("double", dtypes.float64), ("half", dtypes.float16),
    ("bfloat16", dtypes.bfloat16), ("int", dtypes.int32), ("long", dtypes.int64),
    ("short", dtypes.int16), ("char", dtypes.int8), ("byte", dtypes.uint8),
    ("bool", dtypes.bool))})
METHODS.update({
    name: getattr(module, name) for module, names in (
        (T, "exp_ expm1_ log_ log1p_ log2_ log10_ sqrt_ rsqrt_ abs_ sign_ floor_ ceil_ round_ "
            "trunc_ sin_ cos_ tanh_ sigmoid_ relu_ reciprocal_ erf_ logical_not_ bitwise_not_"),
        (pointwise, "add_ sub_ div_ floor_divide_ remainder_ fmod_ pow_ square_ neg_ clamp_ lerp_ "
                    "addcmul_ addcdiv_ masked_fill_"),
        (indexing, "copy_ index_put_ scatter_ scatter_add_"),
        (shape, "view view_as reshape_as expand expand_as repeat contiguous"),
        (creation, "new_tensor new_zeros new_ones new_empty new_full new_empty_strided"),
        (sampling, "uniform_ normal_ exponential_ bernoulli_ random_ bernoulli multinomial"),
    ) for name in names.split()})
METHODS.update({name + "_": pointwise.in_place(name) for name in (
    "mul logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor bitwise_left_shift "
    "bitwise_right_shift").split()})
METHODS["clip_"] = pointwise.clamp_

# Functions of the torch namespace that are methods too, under the same name.
FUNCTIONS: dict[str, Any] = {
    name: getattr(module, name) for module, names in (
        (T, "abs sign floor ceil trunc exp expm1 log log1p log2 log10 sin cos tanh erf reciprocal "
            "sqrt rsqrt relu sigmoid eq ne lt le gt ge logical_and logical_or logical_xor "
            "logical_not bitwise_and bitwise_or bitwise_xor bitwise_left_shift "
            "bitwise_right_shift isnan isinf isfinite maximum minimum"),
        (pointwise, "add sub mul div true_divide floor_divide remainder fmod pow square addcmul "
                    "addcdiv lerp neg positive round clamp clamp_min clamp_max where masked_fill "
                    "bitwise_not isclose allclose equal"),
        (reduction, "sum mean var std prod max min amax amin aminmax argmax argmin all any "
                    "logsumexp cumsum norm count_nonzero numel"),
        (softmax, "softmax log_softmax"),
        (matmul, "matmul mm bmm mv dot addmm outer"),
        (shape, "reshape flatten unflatten ravel permute transpose t movedim squeeze unsqueeze "
                "select narrow diagonal unbind split chunk tile flip triu tril clone broadcast_to"),
        (indexing, "gather scatter scatter_add index_select nonzero masked_select take index_put"),
    ) for name in names.split()}

FUNCTIONS.update({
    "negative": pointwise.neg, "absolute": T.abs, "multiply": pointwise.mul,
    "subtract": pointwise.sub, "divide": pointwise.div, "clip": pointwise.clamp,
    "swapaxes": shape.transpose, "swapdims": shape.transpose, "moveaxis": shape.movedim,
    "greater": T.gt, "greater_equal": T.ge, "less": T.lt, "less_equal": T.le, "not_equal": T.ne,
})


# Functions alone.
TORCH_ONLY: dict[str, Any] = {
    "cat": shape.cat, "concat": shape.cat, "concatenate": shape.cat, "stack": shape.stack,
    "broadcast_tensors": shape.broadcast_tensors, "var_mean": reduction.var_mean,
    "std_mean": reduction.std_mean, "rsub": pointwise.rsub,
}

# Methods with tensors among their arguments, or dims that may have NumPy's names. The others are
# attached without checks, since their only tensor is self.
CHECKED = frozenset(
    "sum mean var std prod max min amax amin aminmax argmax argmin all any logsumexp cumsum "
    "softmax log_softmax count_nonzero squeeze unsqueeze unbind eq ne lt le gt ge maximum minimum "
    "logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor bitwise_left_shift "
    "bitwise_right_shift pow addcmul addcdiv lerp clamp where masked_fill isclose allclose equal "
    "matmul mm bmm mv dot addmm outer gather scatter scatter_add index_select masked_select take "
    "index_put addcmul_ addcdiv_ lerp_ clamp_ masked_fill_ index_put_ scatter_ scatter_add_ "
    "view_as reshape_as expand_as".split())


def attach() -> None:
    """Give Tensor its methods, and the functions their checks."""
    for name, fn in {**FUNCTIONS, **METHODS}.items():
        setattr(Tensor, name, public(fn) if name in CHECKED else fn)
    for table in (FUNCTIONS, TORCH_ONLY):
        for name, fn in table.items():
            if name in CHECKED or fn.__module__.startswith("gpugrad.functions"):
                table[name] = public(fn)


attach()
__all__ = ["FUNCTIONS", "METHODS", "TORCH_ONLY", "contiguous_format"]
