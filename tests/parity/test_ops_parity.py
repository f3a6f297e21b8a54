"""Elementwise functions and matrix products, against torch.

A case is a line of code, run with both (see side_by_side.py). After "#!" stand the aspects in which
gpugrad is known to differ; the comments say why. A mark whose difference has gone fails as well.
"""
from __future__ import annotations

import re
from pathlib import Path

import pytest
from side_by_side import check, lines  # skips this file where there is no torch

from gpugrad import methods

ARITHMETIC = """
# error: gpugrad computes abs and powers of bools, and differentiates number % tensor
# grad_fn: one node for tensors and numbers, where torch has RemainderBackward1 and FmodBackward1
t.add(x, y)
t.add(x, y, alpha=2)
t.add(x, 2)
t.add(i, 2.5)
t.add(i, 1, alpha=2)
t.add(i, 1, alpha=2.5)
t.add(i, i, alpha=2.5)
t.add(x, v)
t.add(x, w)
t.add(x, col)
x + s
s + x
x + n0
i + s
b + b
b + 1
b + 1.5
b - b
b - 1
1 - b
True - x
x - True
~b
~i
~x
-b
+b
-u
-x
abs(b)
abs(i)
abs(u)
x - y
x - 2
2 - x
2.5 - i
2 - i
x * y
x * 2
2 * x
b * b
x / y
i / j
i / 2
2 / i
2 / x
True / x
b / b
i // j
i // 2
i // -2
-7 // j
x // p
x // 2
x // 0
i // 0
i % 0
i % 3
i % -3
i % j
7 % j
x % p  #! grad_fn
x % 2
x % -2
x % 0
2.5 % x  #! error
t.fmod(i, j)
t.fmod(i, -3)
t.fmod(x, p)  #! grad_fn
t.fmod(x, 0)
t.fmod(x, 2)
t.fmod(i, 0)
t.remainder(5, j)
t.remainder(i, n0)
t.div(x, p, rounding_mode='floor')
t.div(x, p, rounding_mode='trunc')
t.div(i, j, rounding_mode='floor')
t.div(i, j, rounding_mode='trunc')
t.div(i, 2, rounding_mode='trunc')
t.div(i, 2.5, rounding_mode='trunc')
t.div(x, p, rounding_mode='other')
t.div(i, 0, rounding_mode='trunc')
t.div(u, 2, rounding_mode='trunc')
t.true_divide(i, j)
t.floor_divide(x, 2)
x ** 2
x ** 3
x ** 0
x ** 1
x ** -1
x ** 0.5
x ** 2.5
p ** 2.5
p ** -0.5
i ** 2
i ** 0
i ** -1
i ** 2.0
i ** j
i ** i
u ** 2
b ** 2
b ** b
2 ** x
0 ** x
(-2) ** x
2 ** i
2 ** j
2.5 ** i
1 ** x
x ** y
p ** y
n ** n
n ** y
p ** v
x ** n
x ** s
x ** n0
x ** i
t.pow(x, 2)
t.pow(2, x)
t.pow(2.0, i)
t.pow(x, x)
t.pow(nan, 2)
t.pow(nan, 0)
t.pow(nan, 0.5)
t.square(x)
t.square(i)
t.square(b)
t.multiply(x, y)
t.subtract(x, 2)
t.divide(x, p)
t.negative(x)
t.absolute(x)
t.positive(x)
t.positive(b)
"""

PRODUCTS = """
# grad_fn: a batched product is one BmmBackward0, where torch has views around it; a vector's is
# SqueezeBackward1, where torch has SqueezeBackward4
x @ m
A @ m
A @ B  #! grad_fn
x @ v
v @ m  #! grad_fn
v @ v
A @ v  #! grad_fn
v @ B  #! grad_fn
x @ y
x @ s
x @ 2
x @ i
i @ i.T
i @ v  #! text
w @ x  #! grad_fn
A @ B[0]
x @ B  #! grad_fn
F @ F.transpose(-1, -2)  #! grad_fn
F @ F[0].transpose(-1, -2)  #! grad_fn
t.mm(x, m)
t.mm(x, v)
t.mm(A, m)
t.mm(x, x)
t.bmm(A, B)
t.bmm(x, B)
t.bmm(A, A)
t.bmm(A, B[:1])
t.mv(x, v)
t.mv(x, w)
t.dot(v, v)
t.dot(v, w)
t.dot(x, v)
t.dot(v, v.double())
t.outer(v, w)
t.outer(v, x)
t.outer(v, k)
t.addmm(m[:3], x, m)
t.addmm(m[0], x, m)
t.addmm(col, x, m, beta=2, alpha=3)
t.addmm(s, x, m, beta=0)
t.addmm(v, x, m)
t.addmm(m, x, m)
t.addmm(m[:3].double(), x, m)
t.matmul(x, m)
t.matmul(i, j.T)
x.matmul(m)
"""

COMPARISONS = """
# error: NumPy's TypeError for bits of floats, where torch has NotImplementedError; numbers that an
# unsigned dtype doesn't hold are an error, where torch wraps them
x == y
x == 0
x != 0
x == None
x != None
x == 'a'
i == 2.5
i < 2.5
u == -1
u < -1
u > 300
i > x
b == 1
b < c
b == True
x < v
x < w
2 < x
2 >= i
t.eq(x, y)
t.lt(x, 0)
t.ge(i, j)
t.logical_and(x, i)
t.logical_and(b, c)
t.logical_or(x, b)
t.logical_xor(i, b)
t.logical_not(x)
t.logical_not(i)
b & c
b | c
b ^ c
i & j
i & 3
3 & i
i | 1
i ^ 1
x & y
x & 1
b & 1
b & True
u & i
i << 1
i >> 1
t.isnan(nan)
t.isinf(nan)
t.isfinite(nan)
t.isnan(i)
t.isinf(i)
t.isfinite(i)
t.isnan(b)
t.gt(x, y)
t.le(x, 0)
t.greater(x, y)
t.greater_equal(x, v)
t.less(x, y)
t.less_equal(x, y)
t.not_equal(x, x)
t.ne(x, y)
t.eq(x, 'a')  #! text
t.bitwise_and(i, j)
t.bitwise_or(i, 1)
t.bitwise_xor(b, c)
t.bitwise_not(i)
t.bitwise_not(x)
t.bitwise_left_shift(j, 2)
t.bitwise_right_shift(i, j)
"""

FUNCTIONS = """
# gradient: NaN counts as not above 0 for relu
# error: relu of bools is computed; strides: for two layouts NumPy takes C order, torch the first's
t.neg(x)
t.abs(x)
t.abs(i)
t.sign(x)
t.sign(nan)
t.sign(i)
t.sign(b)
t.floor(x)
t.floor(i)
t.ceil(x)
t.ceil(u)
t.trunc(x)
t.trunc(i)
t.round(x)
t.round(i)
t.round(x, decimals=2)
t.round(t.tensor([0.5, 1.5, 2.5]))
t.exp(x)
t.exp(i)
t.exp(b)
t.expm1(x)
t.log(p)
t.log(x)
t.log(i)
t.log(nan)
t.log1p(p)
t.log2(p)
t.log10(p)
t.sin(x)
t.cos(x)
t.tanh(x)
t.tanh(i)
t.erf(x)
t.erf(i)
t.reciprocal(x)
t.reciprocal(i)
t.sqrt(p)
t.sqrt(i)
t.sqrt(nan)
t.rsqrt(p)
t.rsqrt(j)
t.sigmoid(x)
t.sigmoid(i)
t.sigmoid(nan)
t.relu(x)
t.relu(i)
t.relu(nan)
t.relu(b)
t.abs(nan)
t.exp(s)
t.exp(e)
t.exp(x.T)
t.exp(x[:, ::2])
t.exp(x.expand(2, 3, 4))
x.T + y.T
x.T + y.T.contiguous()  #! strides
x + y.T.contiguous().T
"""

CHOICES = """
# text: says what to do, or the dtype's name
t.clamp(x, -.5, .5)
t.clamp(x, min=0)
t.clamp(x, max=0)
t.clamp(tie, min=2)
t.clamp(tie, 2, 2)
t.clamp(x, 1, -1)
t.clamp(i, -1, 2)
t.clamp(i, -1.5, 2)
t.clamp(i, min=0.5)
t.clamp(b, 0, 1)
t.clamp(x)
t.clamp(x, None, None)
t.clamp(nan, 0, 1)
t.clamp(x, t.tensor(0.), t.tensor(1.))
t.clamp(x, y)
t.clamp(x, y, p)
t.clamp(x, max=y)
t.clamp(tie, tie, tie)
t.clamp(tie, p, n)
t.clamp(x, y, 2)  #! text
t.clamp(x, -1, y)  #! text
t.clamp(x, v)
t.clamp(nan, nan, nan)
t.clamp(i, x)
t.clamp(u, -1, 300)
t.clamp(x, inf)
t.clip(x, 0, 1)
t.clamp_min(x, 0)
t.clamp_max(x, 0)
t.clamp_min(x, y)
t.clamp_max(x, v)
t.clamp_min(tie, 2)
t.clamp_max(tie, tie)
t.clamp_min(i, 0.5)
t.clamp_max(i, x)
t.clamp_min(b, 1)
t.clamp_min(nan, nan[0, 0])
t.clamp_max(x, w)
r = (x * 1).clamp_min_(v)
r = (x * 1).clamp_max_(s)
r = i.clamp_max_(0.5)  #! text
t.clamp_min(x, None)
t.clamp_max(x, 'a')
t.clamp_max(b, True)
r = i.clamp_min_(x)
r = v.clamp_min_(x)  #! text
x.clamp(min=0)
t.where(b, x, y)
t.where(b, x, 2)
t.where(b, 2, x)
t.where(b, 1, 2)
t.where(b, 1., 2)
t.where(b, x, 0.)
t.where(b, i, 2.5)
t.where(b, i, x)
t.where(b, x, s)
t.where(b, x, v)
t.where(b, v, col)
t.where(b0, x, y)
t.where(b)
t.where(x > 0)
t.where(x, x, y)
t.where(i, x, y)
t.where(u, x, y)
t.where(b, x, w)
t.where(b, nan[0, 0], 0.)
x.where(b, y)
x.where(b, 0)
t.masked_fill(x, b, 2)
t.masked_fill(x, b, inf)
t.masked_fill(x, b, s)
t.masked_fill(x, b, v)
t.masked_fill(x, u, 1)  #! text
t.masked_fill(i, b, 2.5)
t.masked_fill(i, b, 2)
t.masked_fill(x, br, 2)
t.masked_fill(x, br[:, None], 2)
t.masked_fill(v, b, 2)
t.masked_fill(b, c, 1)
x.masked_fill(b, -1e9)
t.addcmul(x, y, p)
t.addcmul(x, y, p, value=.5)
t.addcmul(x, v, col, value=2)
t.addcmul(i, i, i, value=2)
t.addcmul(i, i, i, value=2.5)
t.addcmul(x, 0.5, y, p)
t.addcdiv(x, 0.5, y, p)
t.add(x, 0.5, y)
t.sub(x, 2, y)
x.add(0.5, y)
x.addcmul(0.5, y, p)
x.clone().add_(-0.5, y)
x.clone().sub_(0.5, y)
x.clone().addcmul_(0.5, y, p)
x.clone().addcdiv_(-0.5, y, p)
t.add(x, y, 2)
x.add(3, 2)
x.add_(y, y)
x.addcmul_(1, y)
t.addcdiv(x, y, p, value=.5)
t.addcdiv(x, v, col)
t.addcdiv(i, j, j)  #! text
t.lerp(x, y, 0.3)
t.lerp(x, y, p)
t.lerp(x, y, 1.5)
t.lerp(x, v, 0.5)
t.lerp(i, j, .5)
t.lerp(x, y, s)
t.isclose(x, y)
t.isclose(x, x)
t.isclose(nan, nan)
t.isclose(nan, nan, equal_nan=True)
t.isclose(i, i)
t.isclose(x, i)
t.allclose(x, x + 1e-9)
t.allclose(x, y)
t.equal(x, x)
t.equal(x, y)
t.equal(x, v)
t.equal(i, i.float())
t.equal(nan, nan)
"""

ARGUMENTS = """
# grad_fn: rsub is a subtraction; error: NumPy arrays are operands like tensors
t.rsub(x, 2)
t.rsub(x, y)  #! grad_fn
t.rsub(x, y, alpha=2)  #! grad_fn
t.sub(x, y, alpha=2)
t.sub(x, 2, alpha=3)
t.sub(b, c)
t.mul(x, 'a')
t.add(x, None)
t.add(x, [1.])
t.add([1.], x)
t.add(1, x)
t.mul(2, x)
t.sub(2, x)
t.div(2, x)
x + None
x + [1, 2]
x + (1,)
x - 'a'
x * np.ones((3, 4), np.float32)  #! error
x * np.float64(2)
x * np.float32(2)
np.float64(2) * x
np.float32(2) * x
x + np.int64(2)
np.ones((3, 4)) * x  #! error
t.exp(2.)
t.exp([1.])
t.exp('a')
t.exp(None)
t.relu(1)
"""


ACTIVATIONS = """
# gradient: see FUNCTIONS, relu
t.nn.functional.relu(x)
t.nn.functional.relu(nan)
t.nn.functional.relu6(x * 5)
t.nn.functional.silu(x)
t.nn.functional.leaky_relu(x)
t.nn.functional.leaky_relu(x, 0.3)
t.nn.functional.elu(x)
t.nn.functional.elu(x, 0.5)
t.nn.functional.selu(x)
t.nn.functional.softplus(x)
t.nn.functional.softplus(x, 2, 1)
t.nn.functional.logsigmoid(x)
t.nn.functional.hardtanh(x)
t.nn.functional.hardtanh(x, -0.1, 0.2)
t.nn.functional.hardtanh(tie, 0, 2)
t.nn.functional.threshold(x, 0.1, 5)
t.nn.functional.gelu(x)
t.nn.functional.gelu(x, approximate='tanh')
"""

ELEMENTWISE = ARITHMETIC + COMPARISONS + FUNCTIONS + CHOICES + ARGUMENTS + ACTIVATIONS


@pytest.mark.parametrize("code, known", lines(ELEMENTWISE))
def test_elementwise(code: str, known: list[str]) -> None:
    check(code, known)


@pytest.mark.parametrize("code, known", lines(PRODUCTS))
def test_products(code: str, known: list[str]) -> None:
    check(code, known)


# Tested elsewhere: history, devices, creation, random numbers, what is refused.
ELSEWHERE = set("""
backward register_hook retain_grad register_post_accumulate_grad_hook retains_grad cuda pin_memory
record_stream is_pinned bfloat16 new_tensor new_zeros new_ones new_empty new_full new_empty_strided
uniform_ normal_ exponential_ bernoulli_ random_ bernoulli multinomial embedding_renorm_ hash_tensor
segment_reduce default_generator AcceleratorError get_num_interop_threads get_num_threads
is_warn_always_enabled _standard_gamma
""".split())


def test_every_function_has_a_case() -> None:
    """Somewhere in these files stands its name; that of a method in place may be put together."""
    text = "".join(p.read_text() for p in Path(__file__).parent.glob("test_*parity*.py"))
    words = set(re.findall(r"\w+", text))
    tables = (*methods.FUNCTIONS, *methods.METHODS, *methods.TORCH_ONLY)
    names = {n for n in tables if not n.startswith("__")} - ELSEWHERE
    assert not [n for n in names if n not in words and n.removesuffix("_") not in words]
