"""Sorting and selection, against torch.

A case is a line of code, run with both (see side_by_side.py). After "#!" stand the aspects in which
gpugrad is known to differ; the comments say why. A mark whose difference has gone fails as well.
"""
from __future__ import annotations

import inspect

import pytest
from side_by_side import check, lines, torch  # skips this file where there is no torch

import gpugrad

SORTING = """
# strides: results are in C order, whatever the order of the input
t.sort(x)
t.sort(x, 0)
t.sort(x, 1, True)
t.sort(x, dim=-2, descending=True)
t.sort(x, stable=True)
t.sort(x, dim=0, descending=True, stable=True)
t.sort(tie)
t.sort(tie, 1, True)
t.sort(nan)
t.sort(nan, 1, True)
t.sort(nan, 0)
t.sort(i)
t.sort(i, 0, True)
t.sort(u, 1, True)
t.sort(b)
t.sort(b, 0, True)
t.sort(s)
t.sort(e)
t.sort(e, 1)
t.sort(e1)
t.sort(A, 1)
t.sort(x, 2)
x.sort()
x.sort(0).values
x.sort(descending=True)[1]
x.T.sort(0)  #! strides
t.argsort(x)
t.argsort(x, 0, True)
t.argsort(tie, dim=1, descending=True, stable=True)
t.argsort(nan, 1)
t.argsort(i, dim=0)
t.argsort(s)
x.argsort(-1, descending=True)
t.msort(x)
t.msort(A)
t.msort(s)
t.msort(nan)
t.topk(x, 2)
t.topk(x, 4, 1)
t.topk(x, 3, 0, False)
t.topk(x, 1, dim=0, largest=False, sorted=True)
t.topk(x, 0)
t.topk(nan, 2)
t.topk(nan, 2, largest=False)
t.topk(nan, 1, 0)
t.topk(i, 2).values
t.topk(u, 2, largest=False).values
t.topk(A, 2, 1)
t.topk(s, 1)
t.topk(s, 0)
t.topk(e, 2)
t.topk(e, 0, 0)
x.topk(2).indices
x.topk(k=2)[0]
t.topk(x, 5)
t.topk(x, -1)
t.topk(x, 2, 2)
t.topk(s, 2)
t.topk(b, 1)
t.topk(x.to(t.complex64), 1)
t.sort(x.to(t.complex64))
t.kthvalue(x, 2)
t.kthvalue(x, 1, 0)
t.kthvalue(x, 3, 0, True)
t.kthvalue(x, 4, dim=1, keepdim=True)
t.kthvalue(nan, 3)
t.kthvalue(i, 2).values
t.kthvalue(s, 1)
t.kthvalue(e, 1)
x.kthvalue(1).indices
t.kthvalue(x, 0)
t.kthvalue(x, 5)
t.kthvalue(x, 1, 2)
t.kthvalue(e.T, 1)
"""


@pytest.mark.parametrize("code, known", lines(SORTING))
def test_sorting(code: str, known: list[str]) -> None:
    check(code, known)


@pytest.mark.parametrize("name", ["sort", "topk", "kthvalue"])
def test_named_results(name: str) -> None:
    args = () if name == "sort" else (2,)
    ours, theirs = (getattr(lib.tensor([[3.0, 1, 2]]), name)(*args) for lib in (gpugrad, torch))
    assert repr(ours) == repr(theirs)
    assert ours.values.tolist() == theirs.values.tolist() == ours[0].tolist()
    assert ours.indices.tolist() == theirs.indices.tolist()


@pytest.mark.parametrize("n", [3, 100, 1000])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("largest", [True, False])
def test_selection_of_many(n: int, k: int, largest: bool) -> None:
    g = gpugrad.Generator().manual_seed(n)
    x = gpugrad.randn(4, n, generator=g)
    y = torch.from_numpy(x.numpy().copy())
    for ours, theirs in ((x.topk(k, 1, largest), y.topk(k, 1, largest)),
                         (x.kthvalue(k, 1), y.kthvalue(k, 1))):
        assert ours[0].tolist() == theirs[0].tolist()
        assert ours[1].tolist() == theirs[1].tolist()


def test_signatures() -> None:
    for name in ("sort", "argsort", "topk", "kthvalue"):
        text = getattr(torch, name).__doc__.strip().split("\n")[0].split("(", 1)[1]
        wanted = [part.split("=")[0].strip() for part in text.split(")")[0].split(",")]
        ours = list(inspect.signature(getattr(gpugrad, name)).parameters)
        assert ours == [name for name in wanted if name not in ("*", "out")]
