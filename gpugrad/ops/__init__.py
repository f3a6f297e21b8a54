"""Every op, one theme a file: this table says which file declares which.

A file is imported when one of its ops is first read (``T.relu``, ``o.relu``), so that a start reads
none of them. The form ``<name>_`` of an op, which writes into its first input, is in its op's file.
"""
from __future__ import annotations

from importlib import import_module

from gpugrad.autograd.op import SPECS
from gpugrad.autograd.rules import Level, Spec

THEMES = {
    "activation":
        "celu elu elu_backward gelu gelu_backward glu glu_backward halves inner_slope log_sigmoid "
        "log_sigmoid_backward mish mish_backward normal_cdf normal_pdf sigmoid sigmoid_backward "
        "silu silu_backward softplus softplus_backward",
    "attention": "attention attention_backward attention_weights heads_sum shared_heads",
    "batch_norm": "batch_norm batch_norm_backward moved_statistics",
    "bessel": "airy_ai bessel_j0 bessel_j1 bessel_y0 bessel_y1 spherical_bessel_j0",
    "bias": "bias_act",
    "compare":
        "bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor "
        "clamp clamp_between clamp_max clamp_max_tensor clamp_min clamp_min_tensor drop_where eq "
        "ge gt isfinite isinf isnan keep_where keep_within le logical_and logical_not logical_or "
        "logical_xor lt masked_fill masked_fill_with maximum minimum ne share_of_extreme where",
    "complex":
        "angle complex conj_physical imag polar real view_as_complex view_as_real "
        "without_real_part",
    "conv": "channel_sum conv_grad_input conv_grad_weight convolution",
    "convnd": "bias_gradient conv_nd_grad_input conv_nd_grad_weight conv_transpose convolution_nd",
    "cross_entropy":
        "as_lines class_shares cross_entropy cross_entropy_backward cross_entropy_images "
        "cross_entropy_rows scores smoothed_cross_entropy",
    "ctc": "ctc_loss ctc_loss_backward",
    "dropout": "fused_dropout native_dropout",
    "elementwise":
        "abs add addcdiv addcmul alias ceil clone clone_in_order copy cos div div_floor div_trunc "
        "divide_by erf exp expm1 fill floor floor_divide fmod lerp lerp_number log log10 log1p "
        "log2 mul neg new_zeros not_negative pow pow_number reciprocal remainder round "
        "round_decimals rpow_number rsqrt rsub scale shift sign sin sqrt sub sum_to tanh "
        "tanh_backward to trunc zeros_like",
    "embedding": "embedding embedding_dense_backward frequency",
    "embedding_bag": "bag_of embedding_bag embedding_bag_max rows_of_bags",
    "error": "erfc erfcx erfinv log_ndtr ndtr ndtri",
    "exponential": "entr exp2 ldexp logaddexp logaddexp2 logaddexp_complex logit xlog1py xlogy",
    "fft": "double_middle fft_c2c fft_c2r fft_r2c",
    "fold": "col2im im2col pixel_shuffle pixel_unshuffle",
    "gamma": "digamma lgamma polygamma zeta",
    "grid": "sample sample_grad_input sample_grad_weight",
    "group_norm": "group_norm group_norm_backward",
    "implicit": "dirichlet_grad sampled_dirichlet standard_gamma standard_gamma_grad",
    "incomplete_gamma": "igamma igammac",
    "indexing":
        "gather index index_add index_put index_select pad_to scatter scatter_add view_scatter",
    "linalg_factors": "cholesky eig eigh geqrf matrix_exp pinv qr svd",
    "linalg_ldl": "ldl_factor ldl_solve",
    "linalg_solve":
        "add_identity cofactors det inv lu_factor permute_rows slogdet solve solve_triangular",
    "linear_activation": "act_bias_backward act_layer_backward linear_gelu linear_relu",
    "linear_cross_entropy": "linear_cross_entropy linear_cross_entropy_backward",
    "loss": "mse_loss mse_loss_backward nll_loss nll_loss_backward nll_loss_images nll_loss_rows",
    "margin":
        "multi_margin_loss multi_margin_loss_backward multilabel_margin_loss "
        "multilabel_margin_loss_backward row_share",
    "matmul":
        "addbmm addmm addmv addr baddbmm bmm cdist cross dot mm mv product_and_sums trace vdot",
    "modified_bessel":
        "i0 i0e i1 i1e modified_bessel_i0 modified_bessel_i1 modified_bessel_k0 modified_bessel_k1 "
        "ratio_at_zero scaled_modified_bessel_k0 scaled_modified_bessel_k1",
    "noise": "rrelu_with_noise",
    "norm": "layer_norm layer_norm_backward rms_norm rms_norm_backward",
    "packing": "pack_padded pad_packed pad_sequences",
    "padding": "constant_pad_nd",
    "pair_loss":
        "binary_cross_entropy binary_cross_entropy_backward binary_cross_entropy_with_logits "
        "binary_cross_entropy_with_logits_backward huber_loss huber_loss_backward loss_share "
        "probability_spread smooth_l1_loss smooth_l1_loss_backward soft_margin_loss "
        "soft_margin_loss_backward within",
    "parts": "copysign fmax fmin frac frexp gcd heaviside lcm nan_to_num nextafter sgn signbit",
    "piecewise":
        "hardshrink hardsigmoid hardsigmoid_backward hardswish hardswish_backward hardtanh "
        "hardtanh_backward leaky_relu leaky_relu_backward prelu_kernel relu shrink_backward "
        "softshrink threshold threshold_backward",
    "polynomials":
        "chebyshev_polynomial_t chebyshev_polynomial_u chebyshev_polynomial_v "
        "chebyshev_polynomial_w hermite_polynomial_h hermite_polynomial_he laguerre_polynomial_l "
        "legendre_polynomial_p shifted_chebyshev_polynomial_t shifted_chebyshev_polynomial_u "
        "shifted_chebyshev_polynomial_v shifted_chebyshev_polynomial_w",
    "pool":
        "adaptive_avg_pool2d adaptive_avg_pool2d_backward adaptive_max_pool2d "
        "adaptive_max_pool2d_backward avg_pool2d avg_pool2d_backward max_pool2d "
        "max_pool2d_backward max_pool2d_gather max_pool2d_with_indices plane_gather plane_scatter",
    "pool3d":
        "adaptive_avg_pool3d adaptive_avg_pool3d_backward adaptive_max_pool3d avg_pool3d "
        "avg_pool3d_backward max_pool3d_with_indices max_unpool",
    "recurrent":
        "gru_layer gru_layer_backward lstm_layer lstm_layer_backward rnn_layer rnn_layer_backward",
    "recurrent_parts": "hidden_weight_grad states_before",
    "reduction":
        "all amax amin aminmax any argmax argmin logsumexp max max_all mean mean_all mean_grad min "
        "min_all norm_grad prod prod_all prod_of_others scatter_kept share_among_ties std std_grad "
        "std_mean sum sum_all unreduce unsum var var_grad var_mean vector_norm",
    "resize": "resample",
    "scan": "cummax cummin cumprod cumsum later logcumsumexp scatter_running sums_with_factors",
    "scatter":
        "index_copy index_fill index_fill_with masked_scatter masked_scatter_backward "
        "masked_select put scatter_into scatter_reduce scatter_value take",
    "searching": "bincount histc histogram searchsorted unique unique_consecutive unique_dim",
    "shape":
        "cat diagonal diagonal_backward expand flip permute repeat reshape select select_backward "
        "slice_ slice_backward split split_with_sizes squeeze squeeze_all stack t transpose tril "
        "triu unbind unsafe_split unsafe_view unsqueeze view",
    "softmax": "line_total log_softmax log_softmax_backward softmax softmax_backward",
    "sort": "argsort kthvalue sort sort_stable topk unsort",
    "statistics": "median median_all mode nanmedian nanmedian_all nansum share_of_middle",
    "trigonometric":
        "acos acosh asin asinh atan atan2 atanh cosh deg2rad hypot over_square rad2deg sinc sinh "
        "tan",
    "views":
        "as_strided as_strided_backward as_strided_scatter block_diag clone_ordered diag_embed "
        "diagonal_scatter roll rot90 select_scatter slice_scatter unfold_backward unfold_dim",
}


def load() -> dict[str, Spec]:
    """All ops by name, with their files imported; for what goes over all of them."""
    for theme in THEMES:
        import_module(f"gpugrad.ops.{theme}")
    return SPECS


for _theme, _names in THEMES.items():
    for _name in _names.split():
        Level.wait_for(f"gpugrad.ops.{_theme}", _name)
        if not _name.endswith("_"):
            Level.wait_for(f"gpugrad.ops.{_theme}", _name + "_")
