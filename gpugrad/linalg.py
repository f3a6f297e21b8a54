"""gpugrad.linalg: linear algebra, under the names of torch.linalg."""
from __future__ import annotations

from gpugrad.functions import linalg as _linalg
from gpugrad.functions import linalg_lu as _lu
from gpugrad.functions import linalg_norms as _norms
from gpugrad.functions import matmul as _matmul
from gpugrad.functions.arguments import public
from gpugrad.functions.einsum import multi_dot as _multi_dot
from gpugrad.ops.linalg_tools import LinAlgError as LinAlgError

_NAMES = ("cholesky cholesky_ex cross det diagonal eig eigh eigvals eigvalsh inv inv_ex lstsq "
          "matrix_exp matrix_power matrix_rank pinv qr slogdet solve solve_ex solve_triangular svd "
          "svdvals tensorinv tensorsolve vander vecdot").split()
_LU = ("householder_product ldl_factor ldl_factor_ex ldl_solve lu lu_factor lu_factor_ex "
       "lu_solve").split()
_NORMS = ("cond", "matrix_norm", "norm", "vector_norm")

globals().update({name: public(getattr(_linalg, name)) for name in _NAMES})
globals().update({name: public(getattr(_lu, name)) for name in _LU})
globals().update({name: public(getattr(_norms, name)) for name in _NORMS})
matmul, multi_dot = public(_matmul.matmul), public(_multi_dot)

__all__ = sorted([*_NAMES, *_LU, *_NORMS, "matmul", "multi_dot", "LinAlgError"])
