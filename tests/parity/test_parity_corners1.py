"""Corners of creation, pointwise operations, reductions, sorting and FFT, against torch.

Arguments of wrong types and values, dtypes that an operation doesn't take, ``out`` of another
dtype, overflow, nothing at all. A case is a line of code, run with both (see side_by_side.py).
After "#!" stand the aspects in which gpugrad is known to differ: texts go on with what to do;
strides are those of NumPy's factors; PyTorch numbers the nodes of overloads; docs/differences.md
has the others.
"""
from __future__ import annotations

import pytest
from side_by_side import check, lines  # skips this file where there is no torch

CREATION = """
t.zeros(2, 3, dtype=t.int8)
t.zeros((2, 3), dtype=None)
t.zeros([2, -1])
t.zeros(2.5)
t.zeros("a")
t.zeros()
t.zeros(())
t.zeros(True)
t.zeros(2, dtype="float32")
t.zeros(2, dtype=int)
t.zeros(2, device="foo")
t.zeros(2, layout=3)
t.zeros(2, requires_grad=True, dtype=t.int64)
t.zeros(2, requires_grad=1)  #! text
t.zeros(size=(2, 3))
t.ones(2, out=t.empty(3))
t.ones(2, out=t.empty(0, dtype=t.int64), dtype=t.float32)
t.ones(2, out=t.empty(0, dtype=t.int64))
t.full((2,), True)
t.full((2,), 1)
t.full((2,), 1.5)
t.full((2,), 1j)
t.full((2,), "a")
t.full((2,), t.tensor(2))
t.full((2,), t.tensor([2]))
t.full((2,), 300, dtype=t.uint8)
t.full((2,), 1.5, dtype=t.int32)
t.full(2, 1)
t.full((2,), None)
t.full((2,), fill_value=2.0)
t.full((-1,), 2.0)
t.empty(2, 3).shape
t.empty((2, 0), dtype=t.bool)
t.empty(3, 4, 2, 2, memory_format=t.channels_last).stride()
t.empty(3, memory_format=t.channels_last)
t.zeros_like(i)
t.zeros_like(i, dtype=t.float16)
t.zeros_like(x.T).stride()
t.zeros_like(x.T, memory_format=t.contiguous_format).stride()
t.zeros_like(3)
t.zeros_like([1, 2])
t.ones_like(b)
t.full_like(x, 2)
t.full_like(i, 2.5)
t.full_like(b, 2)
t.full_like(x, "a")
t.empty_like(x.expand(2, 3, 4)).stride()
t.empty_like(A.transpose(0, 2)).stride()
x.new_zeros(2, 3)
x.new_zeros((2, 3), dtype=t.int64)
x.new_ones(2)
x.new_full((2,), 3)
i.new_full((2,), 3.5)
x.new_full(2, 3)
x.new_empty(2, 3).shape
x.new_tensor([1, 2])
i.new_tensor([1.5, 2.5])
x.new_tensor("a")
x.new_zeros("a")
t.arange(5)
t.arange(5.)
t.arange(1, 5)
t.arange(1, 5, 2)
t.arange(5, 1, -2)
t.arange(0, 1, 0.25)
t.arange(1, 5, 0)
t.arange(5, 1)
t.arange(1, 5, -1)
t.arange(0, float("nan"))
t.arange(0, inf)
t.arange(5, dtype=t.float16)
t.arange(5, dtype=t.bool)
t.arange(5, dtype=t.complex64)
t.arange("a")
t.arange()  #! text
t.arange(None)
t.arange(1, None)  #! text
t.arange(t.tensor(3))
t.arange(True)
t.arange(start=1, end=4)
t.arange(end=4)
t.arange(1, 4, step=1.5)
t.arange(-3)
t.arange(0)
t.arange(1, 2, 3, 4)  #! text
t.arange(5, requires_grad=True)
t.arange(5., requires_grad=True)
t.arange(0, 10, 3, dtype=t.int32)
t.arange(0.5, 3)
t.arange(5, out=t.empty(2))
t.range(0, 3)
t.range(0, 3, 0.5)
t.range(3, 0)
t.linspace(0, 1, 5)
t.linspace(0, 10, 5, dtype=t.int64)
t.linspace(0, 1, 1)
t.linspace(0, 1, 0)
t.linspace(0, 1, -1)
t.linspace(0, 1, 2.5)  #! text
t.linspace(0, 1)  #! text
t.linspace(1j, 2, 3)
t.linspace(t.tensor(0.), t.tensor(2.), 3)
t.linspace(t.tensor([0.]), 2, 3)
t.linspace(0, 1, 3, dtype=t.bool)
t.linspace(0, 1, 3, dtype=t.float16)
t.linspace(5, -5, 4)
t.linspace(start=0, end=1, steps=3)
t.linspace("a", 1, 3)  #! text
t.logspace(0, 2, 3)
t.logspace(0, 2, 3, base=2)
t.logspace(0, 2, 3, 2)
t.logspace(0, 2, 3, dtype=t.int64)
t.logspace(0, 2, -3)
t.logspace(0, 2, 3, base="a")  #! text
t.logspace(0, 2, 1)
t.eye(3)
t.eye(2, 3)
t.eye(2, 0)
t.eye(-1)
t.eye(2, -1)
t.eye(2.5)
t.eye(3, dtype=t.bool)
t.eye(3, dtype=t.complex64)
t.eye(2, out=t.empty(3, 3))
t.eye("a")
t.tril_indices(3, 4)
t.tril_indices(3, 4, 1)
t.tril_indices(3, 4, offset=-1)
t.tril_indices(-3, 4)
t.tril_indices(3, 4, dtype=t.int32)
t.tril_indices(3, 4, dtype=t.float32)
t.tril_indices(3.5, 4)  #! text
t.triu_indices(3, 4, -1)
t.triu_indices(0, 4)
t.tril(x)
t.tril(x, 1)
t.triu(A, -1)
t.tril(v)
t.tril(s)
t.tril(b)
t.tril(x, 1.5)
t.tril(x, diagonal="a")
t.meshgrid(v, w, indexing="ij")
t.meshgrid(v, w, indexing="xy")
t.meshgrid([v, w], indexing="ij")
t.meshgrid(v, w, indexing="zz")
t.meshgrid(v, x, indexing="ij")  #! text
t.meshgrid(v, i[0], indexing="ij")
t.meshgrid(s, v, indexing="ij")
t.meshgrid(indexing="ij")
t.meshgrid(3, indexing="ij")
t.cartesian_prod(v, w)
t.cartesian_prod(v)
t.cartesian_prod(x)
t.cartesian_prod(v, i[0])
t.cartesian_prod()
t.complex(x, y)
t.complex(x, v)
t.complex(x, x.double())
t.complex(i, i)
t.complex(x, 1.)  #! text
t.complex(x.half(), x.half())  #! text
t.polar(p, x)
t.polar(p, x.double())
t.polar(i, i)
t.tensor([1, 2])
t.tensor([1, 2.5])
t.tensor([True, 2])
t.tensor([1, 2j])
t.tensor([[1, 2], [3]])
t.tensor([[1], 2])
t.tensor([1, [2]])
t.tensor("a")
t.tensor(["a"])
t.tensor(None)
t.tensor([None])
t.tensor({})
t.tensor({1: 2})
t.tensor(object())
t.tensor([])
t.tensor([[], []])
t.tensor([1.5], dtype=t.int32)
t.tensor([300], dtype=t.uint8)
t.tensor([-1], dtype=t.uint8)
t.tensor([2**63])
t.tensor([2**63], dtype=t.float32)
t.tensor([1e40])
t.tensor(1e40, dtype=t.float16)
t.tensor([1j], dtype=t.float32)
t.tensor(float("nan"), dtype=t.int32)
t.tensor([1, 2], dtype=t.bool)
t.tensor([1, 2], requires_grad=True)
t.tensor([1., 2], requires_grad=True)
t.tensor([1., 2], dtype="float")
t.tensor(np.float64(1.5))
t.tensor(np.int8(3))
t.tensor([np.float32(1.5), 2])
t.tensor(np.array([1, 2], np.int16))
t.tensor(np.array(["a"]))
t.tensor(np.array([1, 2], np.uint16))
t.tensor([np.array([1, 2]), np.array([3, 4])])
t.tensor([t.tensor(1), t.tensor(2)])
t.tensor([t.tensor([1, 2])])
t.tensor(range(3))
t.tensor((1, (2,)))
t.tensor(1, 2)
t.tensor()  #! text
t.tensor(data=[1])
t.as_tensor([1, 2.])
t.as_tensor(3)
t.as_tensor("a")
t.as_tensor(x) is x
t.as_tensor(x, dtype=t.float64)
t.as_tensor(np.array([1, 2]))
t.as_tensor([1, 2], dtype=t.float16)
t.asarray([1, 2])
t.asarray(x, copy=True)
t.asarray(x, dtype=t.int64, copy=False)
t.asarray(np.array([1., 2.]), requires_grad=True)
t.from_numpy([1, 2])
t.from_numpy(np.array(["a"]))
t.from_numpy(np.arange(3)[::-1])
t.from_numpy(np.arange(6).reshape(2, 3).T)
t.from_numpy(np.array(3.5))
t.scalar_tensor(3)
t.scalar_tensor(3, dtype=t.int8)
t.scalar_tensor("a")
t.empty_strided((2, 3), (1, 2)).stride()
t.empty_strided((2, 3), (1,))
t.empty_permuted((2, 3, 4), (2, 0, 1)).stride()
t.empty_permuted((2, 3), (0, 0))
t.frombuffer(bytearray(8), dtype=t.int32)
t.frombuffer(bytearray(7), dtype=t.int32)
t.manual_seed(0); r = t.rand(3)
t.manual_seed(0); r = t.rand(2, 3, dtype=t.float64)
t.rand(2, dtype=t.int64)
t.rand(-1)
t.rand("a")
t.rand(2, generator=3)  #! text
t.manual_seed(0); r = t.randn(5)
t.randn(2, dtype=t.int32)
t.manual_seed(0); r = t.randint(5, (3,))
t.manual_seed(0); r = t.randint(2, 5, (3,))
t.manual_seed(0); r = t.randint(low=2, high=5, size=(3,))
t.randint(5, 5, (3,))
t.randint(5, 2, (3,))
t.randint(5)  #! text
t.randint(5, 3)
t.randint(0, (3,))
t.randint(2.5, (3,))
t.randint(300, (3,), dtype=t.uint8)
t.manual_seed(0); r = t.randint(5, (3,), dtype=t.float32)
t.randint(5, (3,), dtype=t.bool)
t.manual_seed(0); r = t.randperm(5)
t.randperm(-1)
t.randperm(2.5)
t.randperm(5, dtype=t.float32).dtype
t.randperm(300, dtype=t.uint8)  #! text
t.randperm(0)
t.manual_seed(0); r = t.normal(0, 1, (3,))
t.manual_seed(0); r = t.normal(0., 1., size=(3,))
t.manual_seed(0); r = t.normal(v, 1.)
t.manual_seed(0); r = t.normal(v, p[0])
t.manual_seed(0); r = t.normal(1., p[0])
t.normal(0, -1, (3,))
t.normal(v, -1.)
t.normal(v, w)
t.normal(0, 1)  #! text
t.normal(i, 1)
t.normal(v, -p[0])
t.manual_seed(0); r = t.bernoulli(t.full((4,), .5))
t.bernoulli(v * 5)  #! text
t.bernoulli(i)
t.manual_seed(0); r = t.bernoulli(x.detach(), 0.5)
t.bernoulli(x, 1.5)
t.bernoulli(nan)  #! text
t.manual_seed(0); r = t.multinomial(p[0].detach(), 2)
t.manual_seed(0); r = t.multinomial(p.detach(), 5, True)
t.multinomial(p, 5)
t.multinomial(p, 0)
t.multinomial(p, -1)
t.multinomial(-p, 1)
t.multinomial(i, 1)
t.multinomial(A, 1)
t.multinomial(p * 0, 1)
t.multinomial(nan, 1)
t.multinomial(s, 1)
t.multinomial(p, 1.5)
t.rand_like(i)
t.randn_like(i)
t.randint_like(x, 5).dtype
t.randint_like(x, 2, 5).dtype
t.randint_like(i, 5, 2)
t.manual_seed(0); r = t.rand_like(x.detach())
t.manual_seed(0); r = t.empty(3).uniform_()
t.manual_seed(0); r = t.empty(3).uniform_(2, 3)
t.empty(3).uniform_(3, 2)
t.empty(3, dtype=t.int64).uniform_()
t.empty(3).uniform_("a")  #! text
t.empty(3).uniform_(0, inf)
t.manual_seed(0); r = t.empty(3).normal_(1, 2)
t.empty(3).normal_(1, -2)
t.empty(3, dtype=t.int64).normal_()
t.manual_seed(0); r = t.empty(3).exponential_(2)
t.empty(3).exponential_(0)
t.empty(3).exponential_(-1)
t.empty(3, dtype=t.int64).exponential_()
t.manual_seed(0); r = t.empty(3).geometric_(0.3)
t.empty(3).geometric_(0)
t.empty(3).geometric_(1)
t.empty(3).geometric_(1.5)
t.empty(3, dtype=t.bool).geometric_(.5)
t.manual_seed(0); r = t.empty(3).random_(5)
t.manual_seed(0); r = t.empty(3).random_(2, 5)
t.empty(3).random_(5, 2)
t.empty(3, dtype=t.uint8).random_(300)
t.empty(3).random_(2.5)  #! text
t.empty(3, dtype=t.int8).random_(-200, 5)
t.manual_seed(0); r = t.empty(3).cauchy_(1, 2)
t.empty(3).cauchy_(1, 0)
t.empty(3, dtype=t.int64).cauchy_()
t.manual_seed(0); r = t.empty(3).log_normal_(1, 2)
t.empty(3).log_normal_(1, 0)
t.empty(3, dtype=t.int64).log_normal_()
t.manual_seed(0); r = t.empty(3).bernoulli_(.5)
t.empty(3).bernoulli_(2)
t.empty(3).bernoulli_(x)  #! text
t.empty(3, dtype=t.int64).bernoulli_(0.5).dtype
t.empty(2, 3).expand(2, 2, 3).uniform_()
x.uniform_()
x.expand(2, 3, 4).clone().normal_().shape
"""

CORNERS = """
t.zeros(2, layout=3)
t.zeros(2, requires_grad=1)  #! text
t.arange(1, None)  #! text
t.logspace(0, 2, 3, base="a")  #! text
t.tril(x, 1.5)
t.fft.fft(x, True)  #! text
t.fft.fft2(x, dim=None)  #! text
t.fft.fft(x, norm="no")
t.fft.fft(x, 0)
t.fft.fft(x, dim=3)
t.fft.rfft(t.complex(x, y).detach())
t.fft.fft(x.half())
t.fft.fftn(x, s=(2, 3, 4))
t.fft.fftn(x, dim=(0, 0))
t.fft.fftshift("a")  #! text
t.fft.fftfreq(5)
t.fft.fftfreq(5, 0.5, dtype=t.float64)
t.fft.rfftfreq(6)
t.fft.fftfreq(2.5)  #! text
t.sum(x, keepdim=1)  #! text
x.sum(0, 1)
x.sum(dim="a")  #! text
x.sum(dim=1.5)  #! text
x.sum(dim=True)  #! text
x.sum(0, dtype="float32")
x.max(dim=0, keepdim="yes")
x.var(True)
i.var(False)
x.std(0, "x")  #! text
t.std(x, correction="a")  #! text
t.var(s, correction=10)
t.var_mean(s, correction=10)
t.add(x, [1, 2], alpha=2**40)
t.add(u, u, alpha=-1)
t.sub(u, u, alpha=-3)
t.rsub(u, u, alpha=-1)
t.add(x, y, alpha=1j)
t.addcmul(x[:0], x, col[:2])  #! text
t.addcmul(i, i, i, value=float("nan"))
t.addcmul(b, b, b)
t.addcdiv(x, x, x, value=1j)
i.clone().addcmul_(x.detach(), i)
t.clamp(b, False, True)  #! text
t.clamp(b, c)
t.clamp(b, b, c)
t.clamp(b, 0, 1)
t.relu(b)
t.relu(t.complex(x, y).detach())
t.complex(x, y).detach().abs_()
t.abs(b)
t.floor(b)  #! text
t.ceil(b)  #! text
t.trunc(b)  #! text
t.round(b)  #! text
x.detach().sin_(1)  #! text
x.detach().sin_(foo=1)  #! text
t.fmod(t.complex(x, y).detach(), 2)
t.complex(x, y).detach().fmod_(2)
t.complex(x, y).detach().floor_divide_(2)  #! text
x.detach().bitwise_not_()
b.clone().pow_(c)
b.clone().logical_and_(x.detach())
i.clone().logical_xor_(x.detach())
b.clone().logical_or_(x[0].detach())
t.isin(u, 300)
t.isin(u, test_element=3)
t.isin(i, 1j)  #! text
t.isin(b, True)
t.nan_to_num(i, "a")  #! text
t.nan_to_num(nan, posinf="a")
t.mvlgamma(b, 1)
t.special.chebyshev_polynomial_t(x=x, n=3)
t.special.chebyshev_polynomial_t(inf, t.tensor([0., 1.]))
t.special.hermite_polynomial_h(t.tensor([inf]), 0)
t.special.laguerre_polynomial_l(x, t.tensor(float("nan")))
t.special.legendre_polynomial_p(x, 3)
t.special.chebyshev_polynomial_u(x, 5)
t.special.chebyshev_polynomial_t(t.complex(x, y).detach(), 2)
t.special.softmax(x, 0, t.float64)
t.kthvalue(b, 1)
t.kthvalue(t.complex(x, y).detach(), 1)
t.empty(0, dtype=t.int8).median()
t.empty(0, dtype=t.int32).median()
t.empty(0, dtype=t.int64).nanmedian()
t.histc(x)
t.histc(x, bins=0)
t.histogram(x.detach())
t.trapezoid(u)
t.trapezoid(u, dx=300)
t.trapezoid(u, dx=2.)
t.trapezoid(u, i)
t.trapezoid(x, dx=1j)
t.trapezoid(e, dim=0)
t.trapezoid(e1)
t.trapezoid(b)
t.cumulative_trapezoid(u)
t.cumulative_trapezoid(x, dx=True)
t.norm(x, dtype=t.int8)
t.norm(x, dtype=t.complex64)
t.norm(x.double(), dtype=t.float32)
t.polar(x.half(), x.half())  #! text
t.complex(x.half(), x.half())  #! text
t.conj_physical(x) is x
t.conj_physical(t.complex(x, y))  #! grad_fn
t.positive(None)
t.sort(x.detach(), descending=1)  #! text
t.argsort(x, stable="x")  #! text
t.unique_consecutive(x, return_counts=1)
t.floor_divide(i[:0], 0)
t.remainder(x, y)  #! grad_fn
t.fmod(x, s)  #! grad_fn
t.threshold(b, 1, 0)
t.celu(i)
t.selu(i)
t.nn.functional.elu(i)
t.nn.functional.hardshrink(i)
t.threshold(i, float("nan"), 0)  #! text
t.neg(x.detach(), out=t.empty(3, 4, dtype=t.float64))  #! text
t.signbit(x, out=t.empty(3, 4))  #! text
t.amax(i, 0, out=t.empty(4, dtype=t.int32))  #! text
t.argmax(i, out=t.empty((), dtype=t.int32))  #! text
t.sort(x.detach(), out=(t.empty(0, dtype=t.float64), t.empty(0, dtype=t.int64)))  #! text
t.all(b, 0, out=t.empty(0))  #! text
t.quantile(x.detach(), .5, out=t.empty(0, dtype=t.float64))  #! text
t.cummax(x.detach(), 0, out=(t.empty(0), t.empty(0, dtype=t.int32)))  #! text
t.isin(i, i, out=t.empty(0))  #! text
t.nan_to_num(nan, out=t.empty(0, dtype=t.float64))  #! text
t.heaviside(x.detach(), y.detach(), out=t.empty(0, dtype=t.float64))  #! text
t.exp(x.detach(), out=t.empty(0, dtype=t.float64))
t.eq(x.detach(), y.detach(), out=t.empty(0))
t.isclose(x, y, float("nan"))
t.isclose(x, y, equal_nan=1)
t.allclose(x, y, atol=-1)
t.logaddexp(t.complex(x, y), t.complex(y, x))
t.logaddexp2(t.complex(x, y), t.complex(y, x))
t.cummax(nan, 1)
t.cummax(A, 1)
t.cummin(A, 0)
t.cummax(t.cat([A, A], 2).repeat(1, 1, 20), 1)
t.cummin(tie.repeat(1, 50), 0)
t.cumprod(A.repeat(1, 1, 20), 0)
t.nansum(nan)
t.nansum(nan, 0)
t.nansum(x, (0, 1), keepdim=True)
t.linalg.ldl_factor(q)  #! strides
t.linalg.ldl_factor_ex(q, hermitian=True)  #! strides
t.linalg.ldl_factor(q * (1 - t.eye(4)))  #! strides
t.linalg.ldl_factor(x)
t.linalg.ldl_factor(v)
t.linalg.ldl_factor(q.half())
t.linalg.ldl_factor(t.zeros(2, 2))  #! text
t.linalg.ldl_factor_ex(t.zeros(3, 3))  #! strides
t.linalg.ldl_solve(*t.linalg.ldl_factor(q.detach()), m)  #! strides
t.linalg.ldl_solve(*t.linalg.ldl_factor(q.detach()), v)  #! text
t.linalg.ldl_solve(*t.linalg.ldl_factor(q.detach()), x)
t.linalg.ldl_solve(q, w, m)  #! text
t.lobpcg(t.eye(6), 3)
t.eye(2).eig()  #! text
t.eye(2).symeig()  #! text
t.lstsq(q, q)  #! text
t.solve(q, q)  #! text
t.matrix_rank(q)
t.cond(True, lambda a: a + 1, lambda a: a - 1, (x,))
t.cond(v.sum() > 100, lambda a: a + 1, lambda a: a * 2, (x,))  #! grad_fn
t.cond(v > 0, lambda a: a + 1, lambda a: a - 1, (x,))
t.while_loop(lambda n, a: n < 3, lambda n, a: (n + 1, a * 2), (t.tensor(0), x.detach()))
t.while_loop(3, lambda n, a: (n + 1, a * 2), (t.tensor(0), x))
t.set_num_threads("a")
t.set_num_threads(0)
t.set_num_interop_threads(0)
t.use_deterministic_algorithms(1)  #! text
t.set_deterministic_debug_mode("x")
t.set_deterministic_debug_mode(3)
t.set_deterministic_debug_mode(None)
t.set_flush_denormal(1)
t.set_flush_denormal(False)
t.set_warn_always(1)
t.is_inference(x)
t.is_inference(3)
t.compiled_with_cxx11_abi()
t.get_device_module("foo")
t.get_device_module(3)
t.thread_safe_generator()
t.result_type(x, t.ones((), dtype=t.complex128))
x * t.ones((), dtype=t.complex128)
t.set_deterministic_debug_mode("warn"); r = t.get_deterministic_debug_mode()
r = t.are_deterministic_algorithms_enabled()
r = t.is_deterministic_algorithms_warn_only_enabled()
t.set_deterministic_debug_mode(0); r = t.are_deterministic_algorithms_enabled()
"""


@pytest.mark.parametrize("code, known", lines(CREATION))
def test_creation(code: str, known: list[str]) -> None:
    check(code, known)


@pytest.mark.parametrize("code, known", lines(CORNERS))
def test_corners(code: str, known: list[str]) -> None:
    check(code, known)
