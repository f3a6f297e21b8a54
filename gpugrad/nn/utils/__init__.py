"""nn.utils: clipping of gradients, normed weights, fused layers, parametrizations, pruning."""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gpugrad.nn.utils.clip_grad import clip_grad_norm as clip_grad_norm
from gpugrad.nn.utils.clip_grad import clip_grad_norm_ as clip_grad_norm_
from gpugrad.nn.utils.clip_grad import clip_grad_value_ as clip_grad_value_
from gpugrad.nn.utils.clip_grad import clip_grads_with_norm_ as clip_grads_with_norm_
from gpugrad.nn.utils.clip_grad import get_total_norm as get_total_norm
from gpugrad.nn.utils.convert_parameters import parameters_to_vector as parameters_to_vector
from gpugrad.nn.utils.convert_parameters import vector_to_parameters as vector_to_parameters
from gpugrad.nn.utils.fusion import fuse_conv_bn_eval as fuse_conv_bn_eval
from gpugrad.nn.utils.fusion import fuse_conv_bn_weights as fuse_conv_bn_weights
from gpugrad.nn.utils.fusion import fuse_linear_bn_eval as fuse_linear_bn_eval
from gpugrad.nn.utils.fusion import fuse_linear_bn_weights as fuse_linear_bn_weights
from gpugrad.nn.utils.init import skip_init as skip_init
from gpugrad.nn.utils.memory_format import (
    convert_conv2d_weight_memory_format as convert_conv2d_weight_memory_format,
)
from gpugrad.nn.utils.memory_format import (
    convert_conv3d_weight_memory_format as convert_conv3d_weight_memory_format,
)
from gpugrad.nn.utils.spectral_norm import remove_spectral_norm as remove_spectral_norm
from gpugrad.nn.utils.spectral_norm import spectral_norm as spectral_norm
from gpugrad.nn.utils.weight_norm import remove_weight_norm as remove_weight_norm
from gpugrad.nn.utils.weight_norm import weight_norm as weight_norm

# Imported when first used.
_LAZY = ("parametrizations", "parametrize", "prune", "stateless")

if TYPE_CHECKING:
    from gpugrad.nn.utils import parametrizations as parametrizations
    from gpugrad.nn.utils import parametrize as parametrize
    from gpugrad.nn.utils import prune as prune
    from gpugrad.nn.utils import stateless as stateless
else:
    def __getattr__(name: str) -> Any:
        if name in _LAZY:
            return import_module("gpugrad.nn.utils." + name)
        raise AttributeError(f"module 'gpugrad.nn.utils' has no attribute '{name}'")
