"""torch.sparse: there are no sparse tensors; each function says so."""
from __future__ import annotations

from gpugrad.absent import functions

globals().update(functions(
    "torch.sparse",
    "addmm as_sparse_gradcheck log_softmax mm sampled_addmm softmax spdiags spsolve sum "
    "to_sparse_semi_structured",
    "there are no sparse tensors; use dense ones, or index_add and gather over indices"))
