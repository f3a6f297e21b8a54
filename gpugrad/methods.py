"""Which function is which method of Tensor, and which name of the torch namespace.

A line of these tables is a module and its functions; ``clip=clamp`` is its function ``clamp`` under
the name ``clip``. ``module:maker`` stands for what ``maker`` returns for the name after the ``=``.
"ops" are the operations themselves, as they are declared in gpugrad/ops. A module is imported at
the first use of one of its names: a start imports none of them.
"""
from __future__ import annotations

from importlib import import_module
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd import casting
from gpugrad.autograd.rules import tensors
from gpugrad.layouts import strided

Places = dict[str, tuple[str, str]]


def places(lines: dict[str, str]) -> Places:
    """A table's lines as {name: (module, function)}."""
    found: Places = {}
    for module, words in lines.items():
        for word in words.split():
            name, _, function = word.partition("=")
            if name in found:
                raise ValueError(f"'{name}' stands twice in the table: {found[name][0]}, {module}")
            found[name] = module, function or name
    return found


PROPERTIES = places({
    "autograd.node": "retains_grad",
    "functions.protocol":
        "T=reversed_with_warning __array_interface__=array_interface "
        "__cuda_array_interface__=cuda_array_interface",
    "functions.shape": "mT=matrix_transpose",
    "functions.views": "mH=matrix_adjoint H=hermitian",
    "functions.complex": "real=real_attribute imag=imag_attribute",
})

# Methods alone, or with other arguments than the function of this name.
METHODS = places({
    "ops":
        "__add__=add __radd__=add __mul__=mul __rmul__=mul __truediv__=div __eq__=eq __ne__=ne "
        "__lt__=lt __le__=le __gt__=gt __ge__=ge __and__=bitwise_and __rand__=bitwise_and "
        "__iand__=bitwise_and_ __or__=bitwise_or __ror__=bitwise_or __ior__=bitwise_or_ "
        "__xor__=bitwise_xor __rxor__=bitwise_xor __ixor__=bitwise_xor_ "
        "__lshift__=bitwise_left_shift __rshift__=bitwise_right_shift "
        "__ilshift__=bitwise_left_shift_ __irshift__=bitwise_right_shift_ acos_ arccos_=acos_ "
        "acosh_ arccosh_=acosh_ asin_ arcsin_=asin_ asinh_ arcsinh_=asinh_ atan_ arctan_=atan_ "
        "atanh_ arctanh_=atanh_ bitwise_not_ ceil_ cos_ cosh_ deg2rad_ digamma_ erf_ erfc_ "
        "erfinv_ exp_ exp2_ expm1_ floor_ frac_ i0_ lgamma_ log_ log10_ log1p_ log2_ logical_not_ "
        "rad2deg_ reciprocal_ relu_ rsqrt_ sgn_ sigmoid_ sign_ sin_ sinc_ sinh_ sqrt_ tan_ tanh_ "
        "trunc_ fix_=trunc_",
    "functions.pointwise":
        "__abs__=absolute abs_ absolute_=abs_ __iadd__=add_ __sub__=minus __rsub__=rsub "
        "__isub__=sub_ __rtruediv__=rdiv __itruediv__=div_ __floordiv__=floor_divide "
        "__ifloordiv__=floor_divide_ __rfloordiv__=rfloor_divide __mod__=remainder "
        "__imod__=remainder_ __rmod__=rremainder __pow__=power __rpow__=rpow __ipow__=pow_ "
        "__neg__=neg __pos__=positive __invert__=invert __rlshift__=left_shift_of "
        "__rrshift__=right_shift_of add_ addcdiv_ addcmul_ div_ divide_=div_ floor_divide_ "
        "fmod_ lerp_ neg_ negative_=neg_ pow_ remainder_ round_ square_ sub_ subtract_=sub_ "
        "true_divide_",
    "functions.choices":
        "clamp_ clip_=clamp_ clamp_max_ clamp_min_ masked_fill_ where=where_method",
    "functions.pointwise:in_place":
        "__imul__=mul mul_=mul multiply_=mul bitwise_and_=bitwise_and bitwise_or_=bitwise_or "
        "bitwise_xor_=bitwise_xor bitwise_left_shift_=bitwise_left_shift "
        "bitwise_right_shift_=bitwise_right_shift",
    "functions.mathematics":
        "atan2_ arctan2_=atan2_ copysign_ float_power_ gcd_ heaviside_ hypot_ igamma_ igammac_ "
        "lcm_ ldexp_ logaddexp_ logaddexp2_ logit_ mvlgamma_ nan_to_num_ nextafter_ "
        "polygamma=polygamma_method polygamma_ xlogy_",
    "functions.mathematics:logical_in_place":
        "logical_and_=logical_and logical_or_=logical_or logical_xor_=logical_xor",
    "functions.mathematics:comparison_in_place":
        "eq_=eq ne_=ne not_equal_=ne lt_=lt less_=lt le_=le less_equal_=le gt_=gt greater_=gt "
        "ge_=ge greater_equal_=ge",
    "functions.matmul":
        "__matmul__=matmul __rmatmul__=not_matmul addmm_ addmv_ addr_ baddbmm_ addbmm_",
    "functions.indexing": "__getitem__=getitem __setitem__=setitem copy_ index_add_ index_put_",
    "functions.scatter":
        "index_copy_ index_fill_ index_reduce_ masked_scatter_ put_ scatter_ scatter_add_ "
        "scatter_reduce_",
    "functions.filling": "fill_ zero_",
    "functions.shape":
        "__iter__=iterate contiguous expand expand_as repeat reshape_as split=split_method view "
        "view_as",
    "functions.views":
        "as_strided_ squeeze_ sum_to_size swapaxes_ swapdims_ t_ transpose_ unfold unsqueeze_",
    "functions.views:copy_of": "narrow_copy=narrow",
    "functions.rearranging": "fill_diagonal_ tril_ triu_",
    "functions.running": "cumprod_ cumsum_",
    "functions.complex": "conj_physical_ is_conj is_neg",
    "functions.types": "is_same_size",
    "functions.linalg_older": "lu",
    "functions.removed:removed": "eig=eig lstsq=lstsq solve=solve symeig=symeig",
    "functions.distances": "renorm_",
    "functions.activation": "hardshrink prelu",
    "functions.conversion": "cpu cuda to type=type_ type_as",
    "functions.conversion:converter":
        "bfloat16=bfloat16 bool=bool byte=uint8 cdouble=complex128 cfloat=complex64 char=int8 "
        "double=float64 float=float32 half=float16 int=int32 long=int64 short=int16",
    "functions.protocol":
        "__array_wrap__=array_wrap __contains__=contains __deepcopy__=deepcopy "
        "__delitem__=no_deletion __dlpack__=dlpack __dlpack_device__=dlpack_device "
        "__reduce_ex__=reduce_ex __reversed__=reverse apply_ as_subclass const_data_ptr dense_dim "
        "dim_order is_distributed is_set_to is_shared map2_ map_ module_load new resize resize_ "
        "resize_as resize_as_ set_ share_memory_ sparse_dim storage storage_type to_dense "
        "untyped_storage",
    "functions.protocol:sparse_only":
        "ccol_indices coalesce col_indices crow_indices dequantize indices int_repr is_coalesced "
        "q_per_channel_axis q_per_channel_scales q_per_channel_zero_points q_scale q_zero_point "
        "qscheme resize_as_sparse_ row_indices sparse_mask sparse_resize_ "
        "sparse_resize_and_clear_ to_mkldnn to_padded_tensor to_sparse to_sparse_bsc "
        "to_sparse_bsr to_sparse_coo to_sparse_csc to_sparse_csr values",
    "functions.history": "backward",
    "autograd.node":
        "register_hook=register_tensor_hook register_post_accumulate_grad_hook retain_grad",
    "new_methods": "new_empty new_empty_strided new_full new_ones new_tensor new_zeros",
    "sampling": "bernoulli multinomial",
    "fills": "bernoulli_ cauchy_ exponential_ geometric_ log_normal_ normal_ random_ uniform_",
    "pinned": "is_pinned pin_memory record_stream",
})

# Functions of the torch namespace that are methods too, under the same name.
FUNCTIONS = places({
    "ops":
        "acos arccos=acos acosh arccosh=acosh angle asin arcsin=asin asinh arcsinh=asinh atan "
        "arctan=atan atanh arctanh=atanh bitwise_and bitwise_left_shift bitwise_or "
        "bitwise_right_shift bitwise_xor ceil cos cosh deg2rad digamma eq erf erfc erfinv exp "
        "exp2 expm1 floor frac ge greater_equal=ge gt greater=gt i0 isfinite isinf isnan le "
        "less_equal=le lgamma log log10 log1p log2 logical_not lt less=lt ne not_equal=ne rad2deg "
        "reciprocal relu rsqrt sgn sigmoid sign signbit sin sinc sinh sqrt tan tanh trunc "
        "fix=trunc",
    "functions.pointwise":
        "abs=absolute absolute add addcdiv addcmul allclose bitwise_not div divide=div equal "
        "floor_divide fmod isclose lerp mul multiply=mul neg negative=neg positive pow "
        "remainder round square sub subtract=sub true_divide",
    "functions.choices": "clamp clip=clamp clamp_max clamp_min masked_fill where",
    "functions.mathematics":
        "atan2 arctan2=atan2 copysign float_power fmax fmin frexp gcd heaviside hypot igamma "
        "igammac isneginf isposinf isreal lcm ldexp logaddexp logaddexp2 logical_and logical_or "
        "logical_xor logit maximum minimum mvlgamma nan_to_num nextafter polygamma xlogy",
    "functions.reduction":
        "all amax amin aminmax any argmax argmin count_nonzero logsumexp max mean min norm numel "
        "prod std sum var",
    "functions.running": "cummax cummin cumprod cumsum diff logcumsumexp",
    "functions.statistics": "median mode nanmean nanmedian nanquantile nansum quantile",
    "functions.searching": "bincount hash_tensor histc histogram unique unique_consecutive",
    "functions.softmax": "log_softmax softmax",
    "functions.sorting": "argsort kthvalue msort sort topk",
    "functions.matmul":
        "addbmm addmm addmv addr baddbmm bmm dot inner kron matmul mm mv outer ger=outer trace "
        "vdot",
    "functions.shape":
        "broadcast_to chunk clone diagonal flatten flip movedim moveaxis=movedim narrow permute "
        "ravel reshape select split_with_sizes squeeze t tile transpose swapaxes "
        "swapdims=transpose tril triu unbind unflatten unsafe_chunk unsafe_split "
        "unsafe_split_with_sizes unsqueeze split",
    "functions.indexing": "gather index_add index_put index_select",
    "functions.scatter":
        "argwhere index_copy index_fill index_reduce masked_scatter masked_select nonzero "
        "nonzero_static put scatter scatter_add scatter_reduce take",
    "functions.views":
        "adjoint as_strided as_strided_scatter diagonal_scatter select_scatter slice_scatter",
    "functions.joining": "dsplit hsplit tensor_split vsplit",
    "functions.rearranging":
        "diag diag_embed diagflat fliplr flipud repeat_interleave roll rot90 take_along_dim",
    "functions.complex": "conj conj_physical resolve_conj=resolve resolve_neg=resolve",
    "functions.types": "is_nonzero",
    "functions.linalg_older":
        "cholesky cholesky_inverse cholesky_solve det geqrf inverse logdet lu_solve matrix_exp "
        "matrix_power orgqr ormqr pinverse qr slogdet svd triangular_solve",
    "functions.distances": "corrcoef cov cross dist renorm",
    "functions.stft": "istft stft",
})

# Functions alone.
TORCH_ONLY = places({
    "functions.shape": "broadcast_tensors cat concat=cat concatenate=cat stack",
    "functions.reduction": "std_mean var_mean",
    "functions.pointwise": "rsub",
    "functions.weight_norm": "norm_except_dim _weight_norm",
    "functions.indexing": "embedding embedding_renorm_",
    "functions.views:copy_of":
        "alias_copy=alias as_strided_copy=as_strided detach_copy=detach diagonal_copy=diagonal "
        "expand_copy=expand narrow_copy=narrow permute_copy=permute select_copy=select "
        "slice_copy=slice split_copy=split split_with_sizes_copy=split_with_sizes "
        "squeeze_copy=squeeze t_copy=t transpose_copy=transpose unbind_copy=unbind "
        "unfold_copy=unfold unsqueeze_copy=unsqueeze view_as_complex_copy=view_as_complex "
        "view_as_real_copy=view_as_real view_copy=view",
    "functions.matmul": "tensordot",
    "functions.einsum": "chain_matmul einsum",
    "functions.distances": "cdist",
    "functions.linalg_older": "lu lu_unpack",
    "functions.removed:removed":
        "eig=eig lstsq=lstsq matrix_rank=matrix_rank solve=solve symeig=symeig",
    "functions.control": "cond while_loop",
    "settings":
        "AcceleratorError are_deterministic_algorithms_enabled compiled_with_cxx11_abi "
        "get_deterministic_debug_mode get_device_module get_num_interop_threads get_num_threads "
        "is_deterministic_algorithms_warn_only_enabled is_inference is_warn_always_enabled "
        "set_deterministic_debug_mode set_flush_denormal set_num_interop_threads set_num_threads "
        "set_warn_always thread_safe_generator use_deterministic_algorithms",
    "cuda": "Event OutOfMemoryError Stream",
    "functions.lobpcg": "lobpcg",
    "functions.lowrank": "pca_lowrank svd_lowrank",
    "functions.amp": "_amp_foreach_non_finite_check_and_unscale_ _amp_update_scale_",
    "functions.joining":
        "atleast_1d atleast_2d atleast_3d block_diag cartesian_prod column_stack combinations "
        "dstack hstack meshgrid row_stack vstack",
    "functions.rearranging": "unravel_index vander",
    "functions.protocol": "from_dlpack is_storage to_dlpack",
    "functions.complex": "complex imag is_conj is_neg polar real view_as_complex view_as_real",
    "functions.mathematics": "isin",
    "functions.running": "cumulative_trapezoid gradient trapezoid trapz",
    "functions.searching": "bucketize histogramdd searchsorted segment_reduce",
    "functions.types":
        "broadcast_shapes can_cast is_complex is_floating_point is_same_size promote_types "
        "result_type set_default_tensor_type typename",
    "functions.network": "celu rrelu selu threshold",
    "nn.functional": "dropout group_norm layer_norm rms_norm",
    "Tensor": "detach detach_ get_device is_signed",
    "functions.activation": "celu_ hardshrink prelu relu_ selu_ threshold_",
    "functions.noise": "rrelu_",
    "functions.recurrent":
        "_pack_padded_sequence _pad_packed_sequence gru gru_cell lstm lstm_cell rnn_relu "
        "rnn_relu_cell rnn_tanh rnn_tanh_cell",
    "functions.convolution":
        "conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d",
    "functions.grid": "affine_grid_generator grid_sampler",
    "functions.padding": "constant_pad_nd",
    "functions.images": "channel_shuffle native_channel_shuffle pixel_shuffle pixel_unshuffle",
    "functions.pairs": "bilinear cosine_similarity pairwise_distance pdist",
    "functions.pooling":
        "adaptive_avg_pool1d adaptive_max_pool1d=adaptive_max_pool1d_with_indices avg_pool1d "
        "max_pool1d max_pool1d_with_indices max_pool2d max_pool3d",
    "random":
        "Generator default_generator get_rng_state initial_seed manual_seed seed set_rng_state",
    "sampling":
        "_dirichlet_grad=dirichlet_grad _sample_dirichlet=sample_dirichlet "
        "_standard_gamma=rand_gamma _standard_gamma_grad=standard_gamma_grad bernoulli binomial "
        "multinomial normal poisson rand rand_like randint randint_like randn randn_like randperm",
    "signal_windows": "bartlett_window blackman_window hamming_window hann_window kaiser_window",
})
# Methods that write into their tensor, and are functions too.
TORCH_ONLY.update({name: METHODS[name] for name in (
    "abs_ acos_ acosh_ addmv_ arccos_ arccosh_ arcsin_ arcsinh_ arctan_ arctanh_ as_strided_ "
    "asin_ asinh_ atan_ atanh_ ceil_ clamp_ clamp_max_ clamp_min_ clip_ conj_physical_ cos_ cosh_ "
    "deg2rad_ erf_ erfc_ exp2_ exp_ expm1_ fill_ fix_ floor_ frac_ gcd_ i0_ index_put_ "
    "is_distributed lcm_ ldexp_ log10_ log1p_ log2_ log_ logit_ nan_to_num_ neg_ negative_ "
    "rad2deg_ reciprocal_ resize_as_ round_ rsqrt_ sigmoid_ sin_ sinc_ sinh_ sqrt_ square_ tan_ "
    "tanh_ trunc_ xlogy_ zero_").split()})

# Methods with tensors among their arguments, or dims that may have NumPy's names. The others are
# attached without checks, since their only tensor is self.
CHECKED = frozenset(
    "unique unique_consecutive nan_to_num nan_to_num_ norm logit round mvlgamma "
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


def find(place: tuple[str, str]) -> Any:
    """The function at a place of a table."""
    path, name = place
    if path == "ops":
        return getattr(tensors, name)
    if path == "Tensor":
        return getattr(Tensor, name)
    path, _, maker = path.partition(":")
    module = import_module("gpugrad." + path)
    return getattr(module, maker)(name) if maker else getattr(module, name)


_SPARSE = frozenset("ccol_indices_copy col_indices_copy crow_indices_copy hspmm indices_copy "
                    "row_indices_copy smm sspaddmm values_copy".split())


def why_not(name: str) -> str:
    """Why PyTorch's function of this name isn't here, as the end of a message; "" if nobody knows.
    """
    if "sparse" in name or name in _SPARSE:
        return ": sparse tensors are not supported, take dense ones"
    if "quanti" in name:
        return ": quantized tensors are not supported, take floating-point ones"
    return ""


def function(name: str) -> Any:
    """What torch.<name> is, with checked arguments; None if these tables don't have it."""
    place = TORCH_ONLY.get(name) or FUNCTIONS.get(name)
    if place is None:
        return None
    fn = find(place)
    if name in CHECKED or place[0].startswith("functions.") or place is METHODS.get(name):
        from gpugrad.functions.arguments import public
        return public(fn)
    return fn


class Method:
    """A method of Tensor that has not been read yet: at its first use it is found, and takes this
    one's place."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def put(self) -> Any:
        fn = find(METHODS.get(self.name) or FUNCTIONS[self.name])
        if self.name in CHECKED:
            from gpugrad.functions.arguments import public
            fn = public(fn, method=True)
        else:
            fn = casting.function(fn)
        setattr(Tensor, self.name, fn)
        return fn

    def __get__(self, x: Any, cls: Any = None) -> Any:
        fn = self.put()
        return fn.__get__(x, cls) if hasattr(fn, "__get__") else fn


class Property(Method):
    """A property of Tensor that has not been read yet."""

    __slots__ = ()

    def put(self) -> property:
        found = find(PROPERTIES[self.name])
        found = found if isinstance(found, property) else property(found)
        setattr(Tensor, self.name, found)
        return found

    def __set__(self, x: Any, value: Any) -> None:
        self.put().__set__(x, value)


for _name in (*FUNCTIONS, *METHODS):
    setattr(Tensor, _name, Method(_name))
for _name in PROPERTIES:
    setattr(Tensor, _name, Property(_name))
setattr(Tensor, "layout", strided)  # noqa: B010
