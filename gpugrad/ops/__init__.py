"""Every op, one theme a file. Importing this package declares them all."""
from __future__ import annotations

from gpugrad.ops import activation as activation
from gpugrad.ops import compare as compare
from gpugrad.ops import conv as conv
from gpugrad.ops import dropout as dropout
from gpugrad.ops import elementwise as elementwise
from gpugrad.ops import indexing as indexing
from gpugrad.ops import loss as loss
from gpugrad.ops import matmul as matmul
from gpugrad.ops import norm as norm
from gpugrad.ops import pool as pool
from gpugrad.ops import reduction as reduction
from gpugrad.ops import shape as shape
from gpugrad.ops import softmax as softmax
