"""gpugrad.special: the special functions, under the names of torch.special."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.functions import mathematics, pointwise, reduction
from gpugrad.functions import softmax as _softmax
from gpugrad.functions.arguments import public

# Functions of one tensor, by their names there.
_ALONE = {name: name for name in (
    "airy_ai bessel_j0 bessel_j1 bessel_y0 bessel_y1 digamma entr erf erfc erfcx erfinv exp2 expm1 "
    "i0 i0e i1 i1e log1p log_ndtr modified_bessel_i0 modified_bessel_i1 modified_bessel_k0 "
    "modified_bessel_k1 ndtr ndtri scaled_modified_bessel_k0 scaled_modified_bessel_k1 sinc "
    "spherical_bessel_j0").split()} | {"expit": "sigmoid", "gammaln": "lgamma", "psi": "digamma"}
# Functions of two, either of which may be a number.
_PAIRS = (
    "chebyshev_polynomial_t chebyshev_polynomial_u chebyshev_polynomial_v chebyshev_polynomial_w "
    "hermite_polynomial_h hermite_polynomial_he laguerre_polynomial_l legendre_polynomial_p "
    "shifted_chebyshev_polynomial_t shifted_chebyshev_polynomial_u shifted_chebyshev_polynomial_v "
    "shifted_chebyshev_polynomial_w xlog1py xlogy zeta").split()


def _unary(name: str, entry: Any) -> Any:
    def function(input: Tensor) -> Tensor:
        return entry(input)
    function.__doc__ = entry.__doc__
    function.__name__ = function.__qualname__ = name
    return public(function)


def _pair(name: str, entry: Any) -> Any:
    def function(input: Any, other: Any) -> Tensor:
        mathematics.check_one_tensor(f"special_{name}", input, other)
        return entry(input, other)

    def polynomial(x: Any, n: Any) -> Tensor:
        return function(x, n)
    if "_polynomial_" in name:
        polynomial.__doc__, polynomial.__name__ = entry.__doc__, name
        polynomial.__qualname__ = name
        return public(polynomial)
    function.__doc__ = entry.__doc__
    function.__name__ = function.__qualname__ = name
    return public(function)


def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """exp(x) over its sum along a dim."""
    return _softmax.softmax(input, dim, dtype)


def log_softmax(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """The logarithm of softmax."""
    return _softmax.log_softmax(input, dim, dtype)


globals().update({name: _unary(name, getattr(T, op)) for name, op in _ALONE.items()})
globals().update({name: _pair(name, getattr(T, name)) for name in _PAIRS})
gammainc, gammaincc = public(mathematics.igamma), public(mathematics.igammac)
multigammaln, polygamma = public(mathematics.mvlgamma), public(mathematics.polygamma)
logit, logsumexp, round = (public(mathematics.logit), public(reduction.logsumexp),
                           public(pointwise.round))
log_softmax, softmax = public(log_softmax), public(softmax)

if TYPE_CHECKING:
    def __getattr__(name: str) -> Any: ...

__all__ = sorted([*_ALONE, *_PAIRS, "gammainc", "gammaincc", "multigammaln", "polygamma", "logit",
                  "logsumexp", "round", "log_softmax", "softmax"])
