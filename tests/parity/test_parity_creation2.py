"""Rows of numbers, windows, random fills, out=, memory formats and the protocol of Tensor, against
torch.

A case is a line of code, run with both (see side_by_side.py). After "#!" stand the aspects in which
gpugrad is known to differ; the comments say why. A mark whose difference has gone fails as well.
"""
from __future__ import annotations

import builtins

import pytest
from side_by_side import INPUTS, check, lines, torch  # skips this file where there is no torch

import gpugrad

CREATION = """
# memory, after: out= of another shape gets new memory; error: torch does not resize NumPy memory
# version: empty(out=) counts as a write; text: torch prints its options
t.range(1,3)
t.range(1,3,.5)
t.range(0,5,2,dtype=t.int64)
t.range(3,1)
t.range(3,1,-1)
t.range(0.5,4.2)
t.range(1,2,0)
t.range(3)
t.range(0, inf)
t.range(0,3,dtype=t.bool)
t.range(0,1,.1,dtype=t.float64)
t.range(1,6,dtype=t.float16)
t.range(start=0,end=3)
t.bartlett_window(0)
t.bartlett_window(1)
t.bartlett_window(6)
t.bartlett_window(7, periodic=False)
t.bartlett_window(-1)
t.blackman_window(6)
t.blackman_window(7, False)
t.blackman_window(1)
t.hann_window(5)
t.hann_window(5, False)
t.hann_window(5,dtype=t.int64)  #! text
t.hann_window(5,dtype=t.float64)
t.hann_window(5,dtype=t.float16)  #! value
t.hann_window(5.)
t.hamming_window(5)
t.hamming_window(5, True, .5,.4)
t.hamming_window(8, False, .6)
t.kaiser_window(5)
t.kaiser_window(9, False, 3.)
t.kaiser_window(5, True, dtype=t.float64)
t.kaiser_window(2)
t.empty_permuted((2,3,4),(2,0,1)).zero_()
t.empty_permuted((2,3,4),(0,1,2)).zero_()
t.empty_permuted((2,3,4),(2,0))
t.empty_permuted((2,3),(2,0))  #! text
t.empty_permuted((2,3),(0,0))
t.linspace(0,1,3,dtype=t.complex64)
t.linspace(0,1j,3)
t.linspace(0,1+1j,7,dtype=t.complex128)
t.linspace(0,1j,3,dtype=t.float32)
t.linspace(t.tensor(0.),t.tensor(1.),3)
t.linspace(s.detach(),1,3)
t.logspace(0,1,3,dtype=t.complex64)
t.logspace(0,1j,3)
t.logspace(0,3,4,2,dtype=t.int64)
t.zeros(2, out=x.detach())  #! after memory
t.zeros(3, 4, out=x.detach())
t.zeros(3, 4, out=i)
t.zeros(3, 4, out=i, dtype=t.float32)
t.ones((3,4), out=i)
t.full((3,4), 2.5, out=x.detach())
t.full((3,4), 2.5, out=i)
t.eye(3, 4, out=x.detach())
t.eye(4, out=q.detach())
t.empty(3, 4, out=x.detach()).zero_()  #! version
t.arange(12, out=e1.detach())  #! error
t.arange(3., out=w.detach())
t.arange(3, out=i)
t.linspace(0, 1, 4, out=v.detach())
t.logspace(0, 1, 4, out=v.detach())
t.zeros(2, out=3)
t.zeros(3, 4, out=x)  #! text
t.manual_seed(0); r = t.rand(3, 4, out=x.detach())
t.manual_seed(0); r = t.randn(3, 4, out=x.detach())
t.manual_seed(0); r = t.randint(5, (3, 4), out=i)
t.manual_seed(0); r = t.randperm(5, out=k)
t.manual_seed(0); r = t.bernoulli(p.detach().clamp(max=1), out=x.detach())
t.manual_seed(0); r = t.normal(x.detach(), 1., out=y.detach())
t.manual_seed(0); r = t.multinomial(p.detach(), 2, out=t.empty(0, dtype=t.int64))
t.manual_seed(0); r = t.empty(50).cauchy_()
t.manual_seed(0); r = t.empty(50, dtype=t.float64).cauchy_(1, 3)
t.manual_seed(0); r = t.empty(5, 7).t().cauchy_()
t.manual_seed(0); r = t.empty(50).log_normal_()
t.manual_seed(0); r = t.empty(50, dtype=t.float64).log_normal_(0, .5)
t.manual_seed(0); r = t.empty(51, dtype=t.float16).log_normal_(0, .5)
t.manual_seed(0); r = t.empty(3).log_normal_(), t.empty(3).normal_()
t.manual_seed(0); r = t.empty(500).geometric_(.3)
t.manual_seed(0); r = t.empty(500, dtype=t.float64).geometric_(.01)
t.manual_seed(0); r = t.empty(500, dtype=t.int64).geometric_(.9)
t.manual_seed(0); r = t.empty(50, dtype=t.uint8).geometric_(.5)
t.manual_seed(0); r = (x * 1).cauchy_()
t.manual_seed(0); r = (x * 1).log_normal_()
t.manual_seed(0); r = (x * 1).geometric_(.5)
t.empty(3).cauchy_(0,-1)
t.empty(3,dtype=t.int64).cauchy_()
t.empty(3).log_normal_(0,-1)
t.empty(3).geometric_(0)
t.empty(3).geometric_(1.5)
t.empty(3,dtype=t.bool).geometric_(.5)
t.empty(3,dtype=t.int64).log_normal_()
t.poisson(t.tensor([-1.]))
t.poisson(t.tensor([1]))
t.poisson(t.zeros(2,3))
t.poisson(p).sum() * 0
t.binomial(t.tensor([3., 0., 7.]),t.tensor([1., .5, 0.]))
t.binomial(t.tensor([3.]),t.tensor([1.5]))
t.binomial(t.tensor([3.]),t.tensor([1.5], dtype=t.float64))
t.binomial(t.tensor([3]),t.tensor([1.5]))
t.binomial(t.tensor([3., float('nan')]),t.tensor([1.]))
t.zeros_like(F.contiguous(memory_format=t.channels_last)).stride()
t.empty_like(F, memory_format=t.channels_last).stride()
t.rand_like(F.contiguous(memory_format=t.channels_last)).stride()
t.full_like(F, 3).stride()
F.new_zeros(2, 3)
F.to(memory_format=t.channels_last).is_contiguous(memory_format=t.channels_last)
F.is_contiguous(memory_format=t.channels_last)
F.contiguous(memory_format=t.channels_last).stride()
F.contiguous(memory_format=t.channels_last).is_contiguous()
F[:, :1].is_contiguous(memory_format=t.channels_last)
x.is_contiguous(memory_format=t.channels_last)
x.contiguous(memory_format=t.channels_last)
x.to(memory_format=t.channels_last)
F.contiguous(memory_format=t.preserve_format)
F.clone(memory_format=t.channels_last).stride()
F.contiguous(memory_format=t.channels_last)
F.to(memory_format=t.channels_last)
F.to(t.float64, memory_format=t.channels_last)
F.double().to(memory_format=t.channels_last).float()
F[:1].contiguous(memory_format=t.channels_last).stride()
F.unsqueeze(2).contiguous(memory_format=t.channels_last_3d)
F.unsqueeze(2).contiguous(memory_format=t.channels_last_3d).stride()
F.unsqueeze(2).is_contiguous(memory_format=t.channels_last_3d)
F.permute(0,2,3,1).contiguous().permute(0,3,1,2).is_contiguous(memory_format=t.channels_last)
"""

PROTOCOL = """
# error: torch has no __array_interface__, takes any object in x.to(), and arrays to the left
# of an operator are an error there; version: apply_ and map_ count as writes
# structure: DLPack's device type is a plain int, storages have one class
# text: other words
np.asarray(x.detach())
np.asarray(x)
x.__array__()
np.array(x.detach(), dtype=np.float64)
np.asarray(i, dtype=np.float32)
x.detach().__array_interface__['shape']  #! error
x.__array_interface__  #! error
x.__cuda_array_interface__
x.__dlpack_device__()  #! structure
t.from_dlpack(x.detach())
t.from_dlpack(x)
t.from_dlpack(INPUTS['x'])
np.from_dlpack(x.detach())
t.utils.dlpack.from_dlpack(t.utils.dlpack.to_dlpack(x.detach()))
t.from_dlpack(x.detach().T)
t.from_dlpack(3)  #! text
x.item()
s.item()
e.item()
float(x[0,0])
float(x)
int(x[0,0])
complex(x[0,0])
complex(i[0,0])
i[0,0].__index__()
x[0,0].__index__()
[10,20,30][n0]
range(5)[n0]
bool(x)
bool(e)
bool(s)
len(x)
len(s)
list(v)
list(s)
hash(x) == hash(x)
x in [x]
3 in i
x.tolist()
(x * 1j).tolist() if not x.requires_grad else 0
import copy; r = copy.deepcopy(x.detach())
import copy; r = copy.deepcopy(x)
import copy; r = copy.deepcopy(x * 2)
import copy; r = copy.copy(x)
import pickle; r = pickle.loads(pickle.dumps(x.detach()))
import pickle; r = pickle.loads(pickle.dumps(x)).requires_grad
import pickle; r = pickle.loads(pickle.dumps(x.detach().T)).stride()
x.detach().copy_(y.detach())
x.detach().copy_(v.detach())
x.detach().copy_(i)
x.detach().copy_(m.detach())
i.copy_(x.detach())
x.detach().copy_(3)
x.type()
x.type(t.int64)
x.type('torch.DoubleTensor')
x.type(t.DoubleTensor)
x.type('foo')
x.type(dtype=t.float64)
i.type(t.float32)
x.to('cpu', t.float64, True)
x.to(t.float64, True, True)
x.to(y.double(), copy=True)
x.to(device='cpu', dtype=t.float16)
x.to(t.device('cpu'))
x.to(dtype=t.int32)
x.to(None, t.float64)
x.to(3.5)  #! error
x.to()
x.to(other=i)  #! text
x.to('meta', 3)  #! error
x.detach().apply_(lambda v: v * 2)  #! version
i.apply_(lambda v: v + 1)  #! version
x.apply_(lambda v: v)  #! version
x.detach().T.apply_(lambda v: v + 1)  #! version
x.detach().map_(y.detach(), lambda a, b: a + b)  #! version
x.detach().map_(v.detach(), lambda a, b: a + b)  #! version
x.detach().map_(i, lambda a, b: a + b)
x.detach().map2_(y.detach(), v.detach(), lambda a, b, c: a + b * c)  #! version
x.is_shared()
x.is_set_to(x)
x.is_set_to(y)
x.is_set_to(x.view(3,4))
x.is_set_to(x[0])
x.is_same_size(y)
x.is_same_size(v)
x.storage_offset()
x[1:, 2:].storage_offset()
x.T[1:].storage_offset()
x.untyped_storage().nbytes()
x[1:].untyped_storage().nbytes()
x.untyped_storage().data_ptr() == x[1:].untyped_storage().data_ptr()
len(x.untyped_storage())
x.detach().untyped_storage().tolist()[:8]
x.untyped_storage().size()
x.element_size()
x.nbytes
x.itemsize
i.nbytes
x.dim_order()
x.T.dim_order()
A.permute(2,0,1).dim_order()
F.contiguous(memory_format=t.channels_last).dim_order()
x.data
x.data.is_leaf
x.as_subclass(t.Tensor)
x.as_subclass(int)
x.new(2,3).shape
x.new([1,2,3])
x.new((1,2))
x.new(t.Size([2,2])).shape
x.new()
x.new(3).shape
i.new([1,2])
x.new(1.5)
x.detach().resize_(2,2)
x.detach().resize_(12)
x.detach().resize_((4,3))
x.detach().T.resize_(2,2)
x.resize_(2,2)
x.detach().resize_(-1)  #! text
x.detach()[1].resize_(2)
t.empty(0).resize_(3,4).shape
t.zeros(2).resize_(4)[:2]
x.detach().resize_as_(v)
x.detach().resize_(2,2).stride()
x = x.detach(); x.set_(y.detach()); r = x
x = x.detach(); x.set_(i); r = x  #! text
x = x.detach(); x.set_(); r = x
x = x.detach(); r = t.empty(0).set_(x.untyped_storage(), 1, (2,2), (4,1))
x = x.detach(); r = t.empty(0).set_(x.storage(), 1, (2,2), (4,1))
x = x.detach(); r = t.empty(0).set_(x, 1, (2,2), (4,1))
x = x.detach(); r = t.empty(0).set_(x.untyped_storage(), 9, (2,2), (4,1))  #! text
x = x.detach(); r = t.empty(0).set_(x.untyped_storage())
x.set_(y)
x.T.shape
v.T.shape
A.T.shape
x.sparse_dim() if False else x.dense_dim()
x.to_dense()
x.is_coalesced()  #! error
x.is_distributed()
x.is_contiguous()
x.get_device()
x.nelement()
x.ndimension()
x.is_signed()
u.is_signed()
x.const_data_ptr() == x.data_ptr()
x.__reduce_ex__(2)[0] is not None
x.storage().size()
x.detach().storage()[1]
x.detach().storage().tolist()
x.storage().dtype
x.storage_type()  #! structure
x.index_put((k,), v)
x.numpy()
x.numpy(force=True)
x.__len__()
del x[0]
x.__contains__(None)
round(float(s), 2)
"%.2f" % s
f"{s:.2f}"
str(s)
np.sin(x.detach())
np.add(x.detach(), 1)
np.ones((3,4), np.float32) * x.detach()  #! error
np.ones((3,4), np.float32) + i  #! error
np.float64(2) * x.detach()
x.detach() * np.float64(2)
x + np.float32(1)
reversed(x)
t.tensor(x.detach())
sorted(v.detach().tolist())
max(v.detach())
sum(v)
t.is_tensor(x)
t.typename(x)
t.FloatTensor([1,2])
t.FloatTensor(2,3).shape
t.LongTensor([1.5, 2])
t.LongTensor([1,2])
t.FloatTensor()
isinstance(x, t.FloatTensor), isinstance(i, t.FloatTensor), isinstance(3, t.FloatTensor)
t.FloatTensor
t.FloatTensor(x.detach())
t.FloatTensor(i)  #! text
t.FloatTensor(2.5)
t.BoolTensor([True])
t.FloatTensor.dtype
t.LongTensor(t.Size([2])).shape
t.Tensor([1,2])
t.Tensor(2,3).shape
t.Tensor(x.detach())
t.Tensor(3.5)
t.Tensor(i)
"""


@pytest.mark.parametrize("code, known", lines(CREATION))
def test_creation(code: str, known: list[str]) -> None:
    check(code, known)


@pytest.mark.parametrize("code, known", lines(PROTOCOL))
def test_protocol(code: str, known: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "INPUTS", INPUTS, raising=False)
    check(code, known)


# Of sparse and quantized tensors: torch refuses most of them for a dense one, with various errors.
REFUSED = """to_sparse to_sparse_coo to_sparse_csr to_sparse_csc to_sparse_bsr to_sparse_bsc
to_mkldnn share_memory_ to_padded_tensor coalesce is_coalesced indices values crow_indices
ccol_indices col_indices
row_indices sparse_mask sparse_resize_ sparse_resize_and_clear_ resize_as_sparse_ dequantize
int_repr q_scale q_zero_point q_per_channel_axis q_per_channel_scales q_per_channel_zero_points
qscheme""".split()


@pytest.mark.parametrize("name", REFUSED)
def test_methods_of_other_layouts_are_refused(name: str) -> None:
    assert hasattr(torch.Tensor, name)
    with pytest.raises(NotImplementedError, match="is not supported"):
        getattr(gpugrad.ones(2, 2), name)()


QUESTIONS = """
t.is_storage(x.untyped_storage()), t.is_storage(x), t.is_storage(3)
x.sparse_dim()
x.module_load(y.detach()) if not x.requires_grad else 0
x.detach().resize(2, 2)  #! text
x.detach().resize(2, 6)
x.detach().resize_as(v)  #! text
x.detach().resize_as(x.T)
"""


@pytest.mark.parametrize("code, known", lines(QUESTIONS))
def test_questions(code: str, known: list[str]) -> None:
    check(code, known)
