"""The methods and operators of Tensor: one table, attached when gpugrad is imported."""
from __future__ import annotations

from typing import Any

from gpugrad import backend, creation, dtypes, fills, pinned, sampling
from gpugrad._tensor import Tensor
from gpugrad.autograd import engine, node
from gpugrad.autograd.entry import NUMBERS
from gpugrad.autograd.rules import tensors as T
from gpugrad.autograd.transfer import to_backend
from gpugrad.device import device as Device
from gpugrad.functions import (
    amp,
    distances,
    einsum,
    indexing,
    joining,
    linalg_older,
    lowrank,
    mathematics,
    matmul,
    network,
    pointwise,
    protocol,
    rearranging,
    reduction,
    running,
    scatter,
    searching,
    shape,
    softmax,
    sorting,
    statistics,
    types,
    views,
)
from gpugrad.functions import complex as complex_numbers
from gpugrad.functions import stft as short_time
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
    be, dtype, non_blocking, copy, memory_format = parse_to(*args, **kw)
    out = self
    if dtype is not None:
        out = cast(out, dtype.np)
    if be is not None:
        out = to_backend(out, be, non_blocking)
    if memory_format is not preserve_format:
        out = shape.contiguous(out, memory_format)
    if out is self and copy:
        out = T.clone(out)
    if (copy or memory_format is not preserve_format) and out is not self \
            and type(out.grad_fn).__name__ == "CloneBackward0":
        views.rename(out.grad_fn, "ToCopyBackward0")
    return out


def cpu(self: Tensor, memory_format: Any = preserve_format) -> Tensor:
    return to_backend(self, backend.cpu)


def cuda(self: Tensor, device: Any = None, non_blocking: bool = False,
         memory_format: Any = preserve_format) -> Tensor:
    return to_backend(self, backend.get("cuda" if device is None else device), non_blocking)


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
    if hasattr(dtype, "convert"):                # torch.FloatTensor and its kin
        return dtype.convert(self)
    return to(self, dtype)


def type_as(self: Tensor, other: Tensor) -> Tensor:
    return to(self, other)


def converter(dtype: dtypes.dtype) -> Any:
    def convert(self: Tensor, memory_format: Any = preserve_format) -> Tensor:
        return cast(self, dtype.np)
    convert.__doc__ = f"This tensor as {dtype}."
    return convert


# In-place, and Python's protocols ----------------------------------------------------------------


def fill_(self: Tensor, value: Any) -> Tensor:
    """Every element set to a number."""
    if isinstance(value, Tensor):
        if value._a.ndim:
            raise RuntimeError("fill_ only supports 0-dimension value tensor but got tensor with "
                               f"{value._a.ndim} dimensions.")
        return indexing.copy_(self, value)
    return filled(self, number_of(value, self._a.dtype))


def filled(x: Tensor, value: Any) -> Tensor:
    """Every element set to a number, those that share a place (after expand) once."""
    if 0 in x._a.strides and not x._be.is_contiguous(x._a):
        part = x
        for d, (n, s) in enumerate(zip(x._a.shape, x._a.strides)):
            if s == 0 and n > 1:
                part = T.slice_(part, dim=d, start=0, stop=1)
        T.fill_(part, value=value)
        return x
    return T.fill_(x, value=value)


def zero_(self: Tensor) -> Tensor:
    """Every element set to 0."""
    return filled(self, 0)


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
    "to": to, "cpu": cpu, "cuda": cuda, "type": type_, "type_as": type_as,
    "pin_memory": pinned.pin_memory, "is_pinned": pinned.is_pinned,
    "record_stream": pinned.record_stream, "layout": strided,
    "fill_": fill_, "zero_": zero_,
    "T": property(protocol.reversed_with_warning), "mT": property(shape.matrix_transpose),
    "mH": property(views.matrix_adjoint), "H": property(views.hermitian),
    "__array_interface__": property(protocol.array_interface),
    "__cuda_array_interface__": property(protocol.cuda_array_interface),
    "__array_wrap__": protocol.array_wrap, "__reversed__": protocol.reverse,
    "__dlpack__": protocol.dlpack, "__dlpack_device__": protocol.dlpack_device,
    **protocol.REFUSED,
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
        (T, "exp_ expm1_ log_ log1p_ log2_ log10_ sqrt_ rsqrt_ abs_ sign_ floor_ ceil_ "
            "trunc_ sin_ cos_ tanh_ sigmoid_ relu_ reciprocal_ erf_ logical_not_ bitwise_not_"),
        (pointwise, "add_ sub_ div_ floor_divide_ remainder_ fmod_ pow_ square_ neg_ clamp_ lerp_ "
                    "addcmul_ addcdiv_ masked_fill_"),
        (indexing, "copy_ index_put_ index_add_"),
        (scatter, "scatter_ scatter_add_ scatter_reduce_ index_copy_ index_fill_ index_reduce_ "
                  "put_ masked_scatter_"),
        (views, "t_ transpose_ squeeze_ unsqueeze_ as_strided_ swapaxes_ swapdims_ sum_to_size "
                "unfold"),
        (rearranging, "tril_ triu_ fill_diagonal_"),
        (protocol, "untyped_storage storage storage_type is_shared share_memory_ is_set_to "
                   "dim_order resize_ resize_as_ resize resize_as set_ apply_ map_ map2_ "
                   "as_subclass new module_load is_distributed const_data_ptr to_dense sparse_dim "
                   "dense_dim"),
        (shape, "view view_as reshape_as expand expand_as repeat contiguous"),
        (creation, "new_tensor new_zeros new_ones new_empty new_full new_empty_strided"),
        (fills, "uniform_ normal_ exponential_ bernoulli_ random_ cauchy_ log_normal_ geometric_"),
        (sampling, "bernoulli multinomial"),
    ) for name in names.split()})
METHODS.update({name + "_": pointwise.in_place(name) for name in (
    "mul bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift").split()})
METHODS.update({name + "_": mathematics.logical_in_place(name)
                for name in ("logical_and", "logical_or", "logical_xor")})
METHODS["clip_"] = pointwise.clamp_
METHODS["narrow_copy"] = views.COPIES["narrow_copy"]
METHODS.update({
    name: getattr(module, name) for module, names in (
        (T, "asin_ acos_ atan_ sinh_ cosh_ tan_ asinh_ acosh_ atanh_ sinc_ deg2rad_ rad2deg_ exp2_ "
            "frac_ sgn_ erfc_ erfinv_ lgamma_ digamma_ i0_"),
        (mathematics, "atan2_ hypot_ logaddexp_ logaddexp2_ nextafter_ gcd_ lcm_ ldexp_ xlogy_ "
                      "copysign_ heaviside_ float_power_ logit_ nan_to_num_ igamma_ igammac_ "
                      "polygamma_ mvlgamma_"),
        (pointwise, "clamp_min_ clamp_max_ round_"),
        (complex_numbers, "conj_physical_ is_conj is_neg"),
        (types, "is_same_size"), (running, "cumsum_ cumprod_"),
    ) for name in names.split()})
METHODS.update({name + "_": mathematics.comparison_in_place(name)
                for name in ("eq", "ne", "lt", "le", "gt", "ge")})
METHODS.update({name: METHODS[other] for name, other in (
    ("absolute_", "abs_"), ("negative_", "neg_"), ("multiply_", "mul_"), ("divide_", "div_"),
    ("subtract_", "sub_"), ("fix_", "trunc_"), ("arcsin_", "asin_"), ("arccos_", "acos_"),
    ("arctan_", "atan_"), ("arctan2_", "atan2_"), ("arcsinh_", "asinh_"), ("arccosh_", "acosh_"),
    ("arctanh_", "atanh_"), ("greater_", "gt_"), ("greater_equal_", "ge_"), ("less_", "lt_"),
    ("less_equal_", "le_"), ("not_equal_", "ne_"))})
METHODS.update({
    "true_divide_": pointwise.true_divide_, "polygamma": mathematics.polygamma_method,
    "real": complex_numbers.real_attribute(),
    "imag": complex_numbers.imag_attribute(), "cfloat": converter(dtypes.complex64),
    "cdouble": converter(dtypes.complex128)})

# Functions of the torch namespace that are methods too, under the same name.
FUNCTIONS: dict[str, Any] = {
    name: getattr(module, name) for module, names in (
        (T, "abs sign floor ceil trunc exp expm1 log log1p log2 log10 sin cos tanh erf reciprocal "
            "sqrt rsqrt relu sigmoid eq ne lt le gt ge logical_not bitwise_and bitwise_or "
            "bitwise_xor bitwise_left_shift bitwise_right_shift isnan isinf isfinite"),
        (pointwise, "add sub mul div true_divide floor_divide remainder fmod pow square addcmul "
                    "addcdiv lerp neg positive round clamp clamp_min clamp_max where masked_fill "
                    "bitwise_not isclose allclose equal"),
        (reduction, "sum mean var std prod max min amax amin aminmax argmax argmin all any "
                    "logsumexp norm count_nonzero numel"),
        (running, "cumsum cumprod cummax cummin logcumsumexp diff"),
        (statistics, "median nanmedian mode quantile nanquantile nansum nanmean"),
        (searching, "unique unique_consecutive histc histogram bincount hash_tensor"),
        (softmax, "softmax log_softmax"),
        (sorting, "sort argsort msort topk kthvalue"),
        (matmul, "matmul mm bmm mv dot addmm outer"),
        (shape, "reshape flatten unflatten ravel permute transpose t movedim squeeze unsqueeze "
                "select narrow diagonal unbind split chunk tile flip triu tril clone broadcast_to"),
        (indexing, "gather index_select index_add index_put"),
        (scatter, "scatter scatter_add scatter_reduce index_copy index_fill index_reduce take put "
                  "masked_select masked_scatter nonzero argwhere nonzero_static"),
        (views, "as_strided as_strided_scatter select_scatter slice_scatter diagonal_scatter "
                "adjoint"),
        (joining, "tensor_split hsplit vsplit dsplit"),
        (rearranging, "roll rot90 fliplr flipud repeat_interleave diag diag_embed diagflat "
                      "take_along_dim"),
        (shape, "split_with_sizes unsafe_split unsafe_split_with_sizes unsafe_chunk"),
    ) for name in names.split()}

FUNCTIONS.update({
    "negative": pointwise.neg, "absolute": T.abs, "multiply": pointwise.mul,
    "subtract": pointwise.sub, "divide": pointwise.div, "clip": pointwise.clamp,
    "swapaxes": shape.transpose, "swapdims": shape.transpose, "moveaxis": shape.movedim,
    "greater": T.gt, "greater_equal": T.ge, "less": T.lt, "less_equal": T.le, "not_equal": T.ne,
})
FUNCTIONS.update({
    name: getattr(module, name) for module, names in (
        (T, "asin acos atan sinh cosh tan asinh acosh atanh sinc deg2rad rad2deg exp2 frac sgn "
            "signbit angle conj_physical erfc erfinv lgamma digamma i0"),
        (mathematics, "logical_and logical_or logical_xor maximum minimum atan2 hypot logaddexp "
                      "logaddexp2 nextafter gcd lcm ldexp xlogy copysign heaviside float_power "
                      "logit nan_to_num frexp fmax fmin isposinf isneginf isreal igamma igammac "
                      "polygamma mvlgamma"),
        (complex_numbers, "conj"), (types, "is_nonzero"),
    ) for name in names.split()})
FUNCTIONS.update({"resolve_conj": complex_numbers.resolve, "resolve_neg": complex_numbers.resolve})
FUNCTIONS.update({name: FUNCTIONS[other] for name, other in (
    ("arcsin", "asin"), ("arccos", "acos"), ("arctan", "atan"), ("arctan2", "atan2"),
    ("arcsinh", "asinh"), ("arccosh", "acosh"), ("arctanh", "atanh"), ("fix", "trunc"))})

FUNCTIONS.update({
    name: getattr(module, name) for module, names in (
        (matmul, "addmv addr baddbmm addbmm vdot inner kron trace"),
        (linalg_older, "det slogdet logdet inverse pinverse matrix_exp matrix_power cholesky "
                       "cholesky_solve cholesky_inverse qr svd lu_solve triangular_solve geqrf "
                       "orgqr ormqr"),
        (distances, "cross dist cov corrcoef renorm"),
    ) for name in names.split()})
FUNCTIONS.update({"ger": matmul.outer, "stft": short_time.stft, "istft": short_time.istft})
METHODS.update({
    "lu": linalg_older.lu, "renorm_": distances.renorm_,
    **{name: getattr(matmul, name) for name in "addmm_ addmv_ addr_ baddbmm_ addbmm_".split()}})


# Functions alone.
TORCH_ONLY: dict[str, Any] = {
    "cat": shape.cat, "concat": shape.cat, "concatenate": shape.cat, "stack": shape.stack,
    "broadcast_tensors": shape.broadcast_tensors, "var_mean": reduction.var_mean,
    "std_mean": reduction.std_mean, "rsub": pointwise.rsub, "embedding": indexing.embedding,
    "embedding_renorm_": indexing.embedding_renorm_,
    **views.COPIES,
    "tensordot": matmul.tensordot, "einsum": einsum.einsum, "chain_matmul": einsum.chain_matmul,
    "cdist": distances.cdist, "lu": linalg_older.lu, "lu_unpack": linalg_older.lu_unpack,
    "svd_lowrank": lowrank.svd_lowrank, "pca_lowrank": lowrank.pca_lowrank,
    **{f.__name__: f for f in (amp._amp_foreach_non_finite_check_and_unscale_,
                               amp._amp_update_scale_)},
    **{name: getattr(module, name) for module, names in (
        (joining, "atleast_1d atleast_2d atleast_3d hstack vstack row_stack dstack column_stack "
                  "block_diag meshgrid cartesian_prod combinations"),
        (rearranging, "unravel_index vander"),
        (protocol, "from_dlpack to_dlpack is_storage"),
        (complex_numbers, "complex polar real imag view_as_real view_as_complex is_conj is_neg"),
        (mathematics, "isin"),
        (running, "trapezoid trapz cumulative_trapezoid gradient"),
        (searching, "bucketize searchsorted histogramdd segment_reduce"),
        (types, "can_cast promote_types result_type is_floating_point is_complex is_same_size "
                "set_default_tensor_type typename broadcast_shapes"),
    ) for name in names.split()},
}

TORCH_ONLY.update({name: public(METHODS[name]) for name in (
    "abs_ acos_ acosh_ arccos_ arccosh_ arcsin_ arcsinh_ arctan_ arctanh_ asin_ asinh_ atan_ "
    "atanh_ ceil_ clamp_ clamp_max_ clamp_min_ clip_ conj_physical_ cos_ cosh_ deg2rad_ erf_ "
    "erfc_ exp2_ exp_ expm1_ fill_ fix_ floor_ frac_ gcd_ i0_ lcm_ ldexp_ log10_ log1p_ log2_ "
    "log_ logit_ "
    "nan_to_num_ neg_ negative_ rad2deg_ reciprocal_ relu_ round_ rsqrt_ sigmoid_ sin_ sinc_ sinh_ "
    "sqrt_ square_ tan_ tanh_ trunc_ xlogy_ zero_").split()})

TORCH_ONLY.update(network.TORCH)
METHODS.update(network.METHODS)

# Methods with tensors among their arguments, or dims that may have NumPy's names. The others are
# attached without checks, since their only tensor is self.
CHECKED = frozenset(
    "median nanmedian mode quantile nanquantile nansum nanmean cumprod cummax cummin logcumsumexp "
    "diff histc histogram bincount cumsum_ cumprod_ "
    "sum mean var std prod max min amax amin aminmax argmax argmin all any logsumexp cumsum "
    "softmax log_softmax sort argsort topk kthvalue count_nonzero squeeze unsqueeze unbind eq ne "
    "lt le gt ge maximum minimum "
    "logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor bitwise_left_shift "
    "bitwise_right_shift pow addcmul addcdiv lerp clamp where masked_fill isclose allclose equal "
    "matmul mm bmm mv dot addmm outer gather scatter scatter_add index_select masked_select take "
    "index_put index_add addcmul_ addcdiv_ lerp_ clamp_ masked_fill_ index_put_ index_add_ "
    "scatter_ scatter_add_ scatter_reduce scatter_reduce_ index_copy index_copy_ index_fill "
    "index_fill_ index_reduce index_reduce_ put put_ masked_scatter masked_scatter_ is_set_to set_ "
    "as_strided_scatter select_scatter slice_scatter diagonal_scatter take_along_dim roll "
    "repeat_interleave map_ tensor_split resize_as_ "
    "addmv addr baddbmm addbmm vdot inner ger kron cholesky_solve lu_solve triangular_solve orgqr "
    "ormqr cross dist stft istft addmm_ addmv_ addr_ baddbmm_ addbmm_ "
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
