"""Corners of shapes, views, indexing, linear algebra, nn.functional and tensors, against torch.

Whole products of forms: views of views written in place, every kind of key with every kind of
value; and lines, as side_by_side.py has them. After "#!" stand the aspects that differ, for reasons
that docs/differences.md gives.
"""
from __future__ import annotations

import itertools
from typing import Any

import pytest
from side_by_side import check, differences, lines, torch  # skips this file where there is no torch

assert torch

# Views of views, written ------------------------------------------------------------------------

VIEWS = """[0] [1:] [:,1] [::2] [...,None] [None] .t() .T .view(4,3) .view(-1) .reshape(2,6)
.unsqueeze(0) .squeeze() .transpose(0,1) .narrow(1,1,2) .select(0,1) .diagonal()
.expand(2,3,4)[0] .unflatten(1,(2,2)) .flatten() .movedim(0,1) .swapaxes(0,1) .permute(1,0)
.as_strided((2,2),(1,3)) .as_strided((2,2),(4,1),1) .view_as(y) .detach() .mT .ravel()
.tensor_split(2,1)[1] .broadcast_to(3,4) .expand_as(y) .real .adjoint() [k] [b]""".split()

# Several results at once can be written to, or looked at after their base was, only here.
SEVERAL = "is a view and its base or another view of its base has been modified inplace"


def unlike(codes: list[str]) -> dict[str, Any]:
    """The codes that differ, and in what, but for texts, the node of ``x[...] = number``, and what
    PyTorch alone refuses.
    """
    found = {}
    for code in codes:
        d = differences(code)
        d.pop("text", None)
        if "FillBackward3" in str(d.get("grad_fn")):
            del d["grad_fn"]
        if d and SEVERAL not in str(d.get("error")):
            found[code] = d
    return found


@pytest.mark.parametrize("first", VIEWS)
def test_views_of_views_are_written(first: str) -> None:
    codes = [f"a = x * 1; c = a{first}{then}; {write}; r = (a, c)"
             for then in ["", *VIEWS]
             for write in ("c.mul_(c.detach() + 1)", "a.mul_(2)", "c[...] = s")]
    assert not unlike(codes)


# Keys and values --------------------------------------------------------------------------------

KEYS = """0 ... : 1: None 0,0 k k,k b br b0 False True [0,2] (0,) k4[:,:2]%3 n0 :,k None,k 1:,[0,1]
::2,::2 b.numpy() k.numpy() 7 k,7 k1,k 0:0 ...,None None,None,... k,None ...,... (),
[[0,2]] [True,False,True] True,True u[0,:2] br,0 ...,[0] x[0] 1.0 'a' ::0 ::-1""".split()
VALUES = """5 5.0 True 1j s n0 v w col x y[:,:1] i u None [1,2,3,4] 'a' t.tensor([1.,2.])
t.zeros(1,1,3,4) e inf nan_ 10**20 b0 t.ones(1) t.ones(1,dtype=t.int64)
t.ones((),dtype=t.float64)""".replace("nan_", "float('nan')").split()


@pytest.mark.parametrize("key", KEYS)
def test_keys_read(key: str) -> None:
    names = ("x", "A", "e") if key in ("'a'", "::0", "::-1") else ("x", "A", "s", "e")
    keyed = [f"{name}[{key}]".replace("k1", "t.tensor([1])") for name in names]
    assert not unlike(keyed)


@pytest.mark.parametrize("key", KEYS)
def test_keys_written(key: str) -> None:
    found = unlike([f"a = {to}.clone(); a[{key}] = {value}; r = a".replace("k1", "t.tensor([1])")
                    for to, value in itertools.product(("x", "i", "b"), VALUES)])
    for code, d in list(found.items()):
        kinds = {e[0] for e in d.get("error", ())}
        # a history in an integer tensor breaks in PyTorch; of two errors one is told
        if set(d) <= {"grad_fn"} or kinds == {"RuntimeError", "IndexError"} or \
                "INTERNAL ASSERT" in str(d.get("error")):
            del found[code]
    assert not found


# Lines -------------------------------------------------------------------------------------------

SHAPES = """
x.view(size=(4, 3))
x.reshape(shape=(4, 3))
t.reshape(input=x, shape=(4, 3))
x.expand(size=(2, 3, 4))
x.expand(2, 3, 4, implicit=False)
x.broadcast_to(2, 3, 4)
x.broadcast_to(size=(2, 3, 4))
x.permute(dims=(1, 0))
x.permute(0, 1, 2)
x.repeat(repeats=(2, 3))
x.tile(dims=(2, 2))
x.flip(dims=(1,))
x.T.flip(0)
x.T.roll(1, 0)
t.stack((x.T, y.T), 1)
x.swapaxes(axis0=0, axis1=1)
t.hsplit(x, sections=2)
t.vsplit(x, indices=[1])
t.tensor_split(x, tensor_indices_or_sections=t.tensor([1]))
s.mT
s.adjoint()
x.unsqueeze(1.0)
x.unsqueeze((0, 1))
x.unsqueeze(True)
x.roll(1.0)  #! text
x.roll(1, None)
x.rot90(1, (0, 2))
x.select(0, 1.0)
x.narrow(0, t.tensor([0]), 2)
x.narrow(0, 0.5, 1)  #! text
x.diagonal(1.0)
x.chunk(2.0)
x.split('a')
x.unflatten(1, 2)
s.unflatten(0, (1,))
x.as_strided('a', (1,))
x.as_strided((2.0,), (1,))
t.broadcast_tensors(x, 1)
x[:, 1].ravel()
x.T.ravel()
v[::2].ravel()
x.T.ravel().mul_(2)
x.unsqueeze(0).stride()
x.unsqueeze(-1).stride()
x[:, None].stride()
x.T.unsqueeze(1).stride()
v.expand(1, 1, 4).stride()
s.unsqueeze(0).stride()
t.zeros(2, 0, 3).stride()
t.zeros(0).stride()
a = col.clone(); a.expand(3, 4)[:, :1].mul_(2); r = a
a = col.clone(); a.expand(3, 1).mul_(2); r = a
a = col.clone(); a.expand(3, 4)[:, 1].copy_(w); r = a
a = col.clone(); a.expand(3, 4)[:, 1] = 5; r = a
a = col.clone(); a.expand(3, 4)[0, 0] = 5; r = a
a = col.clone(); a.expand(3, 4).mul_(2); r = a
a = x * 1; a.expand(1, 3, 4).mul_(2); r = a
a = x * 1; a.expand(2, 3, 4)[0].diagonal().mul_(2); r = a
x.index_put((k, k, k), s)
i.index_add(0, k[:3], j, alpha=1.5)
x.index_add(0, k[:3], y, alpha=1j)
s.index_add(0, t.tensor([0, 0]), v[:2])
x.put(x, v)
t.where(b, x)  #! text
"""

LINEAR = """
t.einsum('...', x)
t.einsum('ij', x)
t.einsum(x, [0, 1])
t.einsum('->', s)
t.einsum('i,i->', k[:1].int(), k.int())
t.einsum('ij,jk->', i.int(), j.T.int())
t.einsum('...i,...i->...', i[:, :1].int(), i.int())
t.einsum('ij,ij->', u, u)
t.chain_matmul(x)
t.cross(b[:, :3], c[:, :3], dim=1)
t.linalg.norm(x, dim=())
t.linalg.norm(A, dim=(0, 1, 2))
t.linalg.vector_norm(x, dtype=t.float16)
t.linalg.vector_norm(x, ord='fro')  #! text
t.linalg.matrix_norm(e, 2).item()
t.linalg.matrix_norm(e, inf).item()
t.linalg.matrix_norm(e, -2)
t.linalg.matrix_norm(e, -1)  #! grad_fn
t.linalg.matrix_norm(e.T, -inf)  #! grad_fn
t.linalg.solve(q, s)
"""

FUNCTIONS = """
t.nn.functional.conv1d(A, A, 1.5)  #! text
t.nn.functional.embedding([1, 2], x)  #! text
t.nn.functional.max_pool2d(b[None], 2)
t.nn.functional.avg_pool2d(i[None], 2)
t.nn.functional.avg_pool2d(i[None] * 10, 2, 1, 1)
t.nn.functional.avg_pool1d(i, 2)
t.nn.functional.avg_pool2d(u[None], 2)
t.nn.functional.adaptive_avg_pool2d(i[None], 2)
t.nn.functional.adaptive_max_pool2d(i[None], 2)
t.nn.functional.grid_sample(i[None, None], i.view(1, 3, 2, 2), align_corners=False)  #! text
t.nn.functional.embedding_bag(k, x, t.tensor([0, 2, 3]), mode='sum', include_last_offset=True)
t.nn.functional.embedding_bag(k, i, t.tensor([0]))  #! text
t.nn.functional.embedding_bag(k, x, t.tensor([0.0]))  #! text
t.nn.functional.one_hot(input=k, num_classes=4)
t.nn.functional.normalize(x.detach(), out=t.empty(0))
t.nn.functional.bilinear(i, j[:, :3], k4[:, :, None].repeat(1, 1, 3))
t.nn.functional.pairwise_distance(x.half(), x.half())  #! grad_fn
t.nn.functional.scaled_dot_product_attention(A, A, A, dropout_p=1.5)
t.manual_seed(0); r = t.nn.functional.fractional_max_pool2d(F, 2, (2, 3), None, True)  #! grad_fn
t.manual_seed(0); r = t.nn.functional.fractional_max_pool2d(F, (2, 1), None, (0.5, 0.7))  #! grad_fn
t.manual_seed(0); r = t.nn.functional.fractional_max_pool3d(F, 2, (1, 2, 2), None, True)  #! grad_fn
t.manual_seed(0); r = t.nn.FractionalMaxPool2d(2, 2)(F)  #! grad_fn
t.nn.functional.fractional_max_pool2d(F, 2)
t.nn.functional.fractional_max_pool2d(F, 9, 2)  #! text
t.nn.FractionalMaxPool2d(2)
t.nn.FractionalMaxPool2d(2, 2, 0.5)
t.nn.FractionalMaxPool3d(2, output_ratio=1.5)
"""

TENSORS = """
t.finfo(t.float32) == t.finfo(t.float32)
t.iinfo(t.int8) == t.iinfo(t.int16)
t.iinfo(t.bool)
t.int64.to_complex()
float(t.tensor(1 + 2j))
int(t.tensor(1 + 2j))
float(t.tensor(2 + 0j))
x.stride('a')  #! text
x.size('a')  #! text
"""


@pytest.mark.parametrize("code, known", [
    case for text in (SHAPES, LINEAR, FUNCTIONS, TENSORS) for case in lines(text)])
def test_lines(code: str, known: list[str]) -> None:
    check(code, known)
