"""Reductions, against torch.

A case is a line of code, run with both (see side_by_side.py). After "#!" stand the aspects in which
gpugrad is known to differ; the comments say why. A mark whose difference has gone fails as well.
"""
from __future__ import annotations

import pytest
from side_by_side import check, lines  # skips this file where there is no torch

EXTREMES = """
# error: maximum takes numbers too, and argmax bools; grad_fn: aminmax is amin and amax
# gradient: where the maximum is NaN, the NaN elements get the gradient; torch gives all of them NaN
t.maximum(x, y)
t.maximum(x, tie)
t.maximum(tie, tie)
t.maximum(nan, nan.flip(0))
t.minimum(x, y)
t.maximum(i, j)
t.maximum(i, x)
t.maximum(x, v)
t.maximum(x, 2)  #! error
t.max(x, y)
t.max(x)
t.max(tie)
t.max(nan)
t.max(x, 0)
t.max(x, 1)
t.max(x, -1, True)
t.max(x, dim=1, keepdim=True)
t.max(tie, 1)
t.max(nan, 1)
t.max(nan, 0)
t.max(i)
t.max(i, 0)
t.max(b)
t.max(b, 0)
t.max(s)
t.max(s, 0)  #! grad_fn
t.max(e)
t.max(e, 0)
t.max(e, 1)
t.max(x, 2)
t.max(x, (0, 1))  #! text
t.max(A, 1)
x.max(1).values
x.max(1)[1]
x.max(dim=-2).indices
t.min(x)
t.min(tie)
t.min(tie, 1)
t.min(nan, 1)
t.min(nan)
t.min(x, y)
t.min(e)
t.amax(x)
t.amax(x, 0)
t.amax(tie, 1)
t.amax(tie)
t.amax(A, (0, 2))
t.amax(A, (0, 2), True)
t.amax(nan, 1)  #! gradient
t.amax(i, 1)
t.amax(e)
t.amax(e, 0)
t.amax(e, 1)
t.amax(s)
t.amax(x, ())
t.amin(tie, 1)
t.amin(nan)  #! gradient
t.amin(b)
t.aminmax(x)  #! grad_fn
t.aminmax(x, dim=1)  #! grad_fn
t.aminmax(x, dim=1, keepdim=True)  #! grad_fn
t.aminmax(tie, dim=1)  #! grad_fn
t.aminmax(e)  #! text
t.aminmax(s)  #! grad_fn
t.argmax(x)
t.argmax(x, 1)
t.argmax(x, 1, True)
t.argmax(x, keepdim=True)
t.argmax(tie, 1)
t.argmax(nan)
t.argmax(nan, 1)
t.argmax(i, 0)
t.argmax(b)  #! error
t.argmax(b, 0)  #! error
t.argmax(e)
t.argmax(e, 0)
t.argmax(e, 1)
t.argmax(s)
t.argmax(s, 0)
t.argmax(s, keepdim=True)
t.argmin(x)
t.argmin(tie, 1)
t.argmin(nan, 1)
"""

REDUCTIONS = """
# grad_fn: no dims at all is a sum over all, and var_mean is var and mean; a 0-dim cumsum is a sum
# error: gpugrad sums to integers without history, and takes any truth value for keepdim
# gradient: of the number of elements that aren't 0 it is 0, where torch has none; var over an empty
# list of dims counts all elements in both directions
t.sum(x)
t.sum(x, 0)
t.sum(x, (0, 1))
t.sum(x, ())  #! grad_fn
t.sum(x, [1])
t.sum(x, -1, True)
t.sum(x, None, True)
t.sum(x, dim=(0, 1), keepdim=True)
t.sum(x, (0, 0))
t.sum(x, (0, -2))
t.sum(x, 2)
t.sum(s)
t.sum(s, 0)  #! grad_fn
t.sum(s, -1)  #! grad_fn
t.sum(s, 1)
t.sum(s, ())  #! grad_fn
t.sum(i)
t.sum(i, 0)
t.sum(u)
t.sum(b)
t.sum(b, 1)
t.sum(x, dtype=t.float64)
t.sum(x, 0, dtype=t.float64)
t.sum(i, dtype=t.float32)
t.sum(x, dtype=t.int64)  #! error
t.sum(e)
t.sum(e, 0)
t.sum(e, 1)
x.sum(0, 1)  #! error
x.sum(dim=0, keepdim=True)
x.sum('a')  #! text
x.sum(1.5)  #! text
t.mean(x)
t.mean(x, 0)
t.mean(x, (0, 1), True)
t.mean(A, (0, 2))
t.mean(i)
t.mean(i, 0)
t.mean(i, dtype=t.float32)
t.mean(b)
t.mean(e)
t.mean(e, 0)
t.mean(s)
t.mean(x, ())  #! grad_fn
t.mean(x, dtype=t.float64)
t.var(x)
t.var(x, 0)
t.var(x, 1, False)
t.var(x, unbiased=False)
t.var(x, False)
t.var(x, 0, True, True)
t.var(x, dim=(0, 1))
t.var(x, 0, correction=0)
t.var(x, 0, correction=3)
t.var(x, 0, correction=5)
t.var(x, correction=2, keepdim=True)
t.var(s)
t.var(v[:1])
t.var(i)
t.var(e)
t.var(e, 0)
t.var(e, 1)
t.var(x, ())  #! gradient
t.std(x)
t.std(x, 0)
t.std(x, 1, False)
t.std(x, 1, correction=0, keepdim=True)
t.std(s)
t.std(v[:1], unbiased=False)
t.var_mean(x)  #! grad_fn
t.var_mean(x, 0)  #! grad_fn
t.var_mean(x, 0, unbiased=False)  #! grad_fn
t.var_mean(x, False)  #! grad_fn
t.var_mean(x, 0, True)  #! grad_fn
t.var_mean(x, 0, keepdim=True)  #! grad_fn
t.std_mean(x, 1, correction=0)  #! grad_fn
t.prod(x)
t.prod(x, 0)
t.prod(x, 1, True)
t.prod(x, -1, keepdim=True)
t.prod(i)
t.prod(n, 1)
t.prod(n)
t.prod(b)
t.prod(s)
t.prod(e)
t.prod(e, 0)
t.prod(e, 1)
t.prod(x, dtype=t.float64)
t.prod(x, 2)
t.all(b)
t.all(b, 0)
t.all(b, 1, True)
t.all(x)
t.all(u)
t.all(u, 0)
t.all(e)
t.all(e, 0)
t.any(b, 1)
t.any(i)
t.any(nan)
t.any(b, (0, 1))
t.any(b, keepdim=True)
t.any(b, dim=None)
t.logsumexp(x, 0)
t.logsumexp(x, (0, 1))
t.logsumexp(x, 1, True)
t.logsumexp(nan, 1)
t.logsumexp(nan[1:, :2], 1)
t.logsumexp(-nan[1:, :1], 1)
t.logsumexp(s, 0)
t.logsumexp(i, 0)
t.logsumexp(e, 0)
t.logsumexp(e, 1)
t.cumsum(x, 0)
t.cumsum(x, -1)
t.cumsum(i, 1)
t.cumsum(b, 1)
t.cumsum(u, 1)
t.cumsum(s, 0)  #! grad_fn
t.cumsum(e, 0)
t.cumsum(x, 2)
t.cumsum(i, 0, dtype=t.float32)
t.norm(x)
t.norm(x, 1)
t.norm(x, 2, 0)
t.norm(x, inf)
t.norm(x, -inf, 1)
t.norm(x, 0)  #! gradient
t.norm(x, 3)
t.norm(x, 3, 1, True)
t.norm(x, 1, 1)
t.norm(x, .5)
t.norm(x * 0)
t.norm(x * 0, 3)
t.norm(x * 0, 1)
t.norm(x * 0, inf)
t.norm(x, 'fro')
t.norm(x, 'fro', (0, 1))
t.norm(x, dim=1)
t.norm(x, p=2, dim=1, keepdim=True)
t.norm(A, 2, (0, 2))
t.norm(i)
t.norm(x, dtype=t.float64)
t.norm(x, 'other')
t.norm(e)
t.norm(s)
t.softmax(x, 1)
t.softmax(A, dim=-2)
t.softmax(i, 0, dtype=t.float32)
t.softmax(i, 0)  #! text
t.softmax(s, 0)
t.softmax(e, 1)
t.softmax(x, 2)
x.softmax(axis=0)
t.log_softmax(x, 1)
x.log_softmax(-1)
t.log_softmax(nan, 1)
t.count_nonzero(n)
t.count_nonzero(n, 0)
t.count_nonzero(n, (0, 1))
t.count_nonzero(b)
t.numel(x)
"""


@pytest.mark.parametrize("code, known", lines(REDUCTIONS + EXTREMES))
def test_reductions(code: str, known: list[str]) -> None:
    check(code, known)
