"""Instance normalisation: InstanceNorm1d, InstanceNorm2d and InstanceNorm3d."""
from __future__ import annotations

import warnings
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.nn import functional as F
from gpugrad.nn.modules.batchnorm import _NormBase


class _InstanceNorm(_NormBase):
    """Normalises each channel of each sample, or each channel by running statistics."""

    _dims: int                                   # of a sample: channel and places

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
                 affine: bool = False, track_running_stats: bool = False, device: Any = None,
                 dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype,
                         bias=bias)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in (self._dims, self._dims + 1):
            raise ValueError(f"expected {self._dims}D or {self._dims + 1}D input (got "
                             f"{input.ndim}D input)")

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        dim = input.ndim - self._dims
        if input.shape[dim] != self.num_features:
            if self.affine:
                raise ValueError(f"expected input's size at dim={dim} to match num_features "
                                 f"({self.num_features}), but got: {input.shape[dim]}.")
            warnings.warn(f"input's size at dim={dim} does not match num_features. You can silence "
                          "this warning by not passing in num_features, which is not used because "
                          "affine=False", stacklevel=4 if self._hooked else 3)
        return self._normalised(input) if dim else self._normalised(input.unsqueeze(0)).squeeze(0)

    def _normalised(self, input: Tensor) -> Tensor:
        return F.instance_norm(input, self.running_mean, self.running_var, self.weight, self.bias,
                               self.training or not self.track_running_stats,
                               0.0 if self.momentum is None else self.momentum, self.eps)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, strict: Any,
                              missing_keys: Any, unexpected_keys: Any, error_msgs: Any) -> None:
        old = [] if local_metadata.get("version", None) is not None or self.track_running_stats \
            else [prefix + name for name in ("running_mean", "running_var")
                  if prefix + name in state_dict]
        if old:
            error_msgs.append(
                f"Unexpected running stats buffer(s) {' and '.join(map(repr_of, old))} for "
                f"{type(self).__name__} with track_running_stats=False: the checkpoint is from a "
                "version that always had them. Remove these keys from the state_dict, or set "
                "track_running_stats=True if they are needed.")
            for key in old:
                state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys,
                                      unexpected_keys, error_msgs)


def repr_of(key: str) -> str:
    return f'"{key}"'


class InstanceNorm1d(_InstanceNorm):
    """Each channel of (n, c, l) or (c, l), sample by sample, to mean 0 and variance 1."""

    _dims = 2


class InstanceNorm2d(_InstanceNorm):
    """Each channel of (n, c, h, w) or (c, h, w), sample by sample, to mean 0 and variance 1."""

    _dims = 3


class InstanceNorm3d(_InstanceNorm):
    """Each channel of (n, c, d, h, w) or (c, d, h, w), sample by sample, to mean 0, variance 1."""

    _dims = 4
