"""The rows of docs/differences.md are differences: run with both, their lines don't come out alike.

See side_by_side.py for what a line is. A row without lines says why. When PyTorch or gpugrad
changes so that a line agrees, the row goes.
"""
from __future__ import annotations

import sys
from pathlib import Path

import pytest
from side_by_side import differences, torch  # skips this file where there is no torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from test_differences_page import CHECKS

GPU = "one side needs a GPU"
GONE = "a name that is there in PyTorch and not here, or refuses"
NUMBERS = "the last bits differ, and only on some machines"

# For each row a line or several, or the reason why there are none.
LINES: dict[str, list[str] | str] = {
    "devices other than `cpu`, `cuda` and `meta` (`mps`, `xpu`, ...)": GPU,
    "`bfloat16` tensors": "a package decides",
    "tensors of `complex32` and `float8_...`, names to compare with; lazy conjugation": [
        "t.ones(2).to(t.float8_e5m2)", "t.tensor([1j]).conj().is_conj()"],
    "sparse, quantized, nested, named tensors": ["x.to_sparse().shape"],
    "gradients that are sparse (`embedding(sparse=True)`, `gather(sparse_grad=True)`)": [
        "t.nn.functional.embedding(k, x, sparse=True)"],
    "`torch.compile`, `torch.jit.script` and `trace`": ["t.jit.trace(t.sin, x) is t.sin"],
    "`torch.fx.symbolic_trace`, `torch.export`, saved TorchScript programs": [
        "t.fx.symbolic_trace(t.nn.ReLU()).training"],
    "`torch.distributed`; several devices in `DataParallel`": ["t.distributed.is_available()"],
    "forward-mode differentiation": [
        "with t.autograd.forward_ad.dual_level(): r = 1"],
    "`share_memory_`, storages that change their size": ["x.clone().share_memory_()"],
    "functions that ask `__torch_function__`": [
        "r = t.sin(type('Asked', (), {'__torch_function__': classmethod(lambda *a: 1)})())"],
    "`flex_attention`": ["from importlib import import_module; "
                         "r = bool(import_module(t.__name__ + '.nn.attention.flex_attention'))"],
    "selective checkpointing; `register_hooks` of one saved tensor": [
        "len(t.utils.checkpoint.create_selective_checkpoint_contexts([]))",
        "x.exp().grad_fn._raw_saved_result is None"],
    "`torch.hub` from GitHub": GONE,
    "loading whole pickled modules": GONE,
    "resizing `uint8` images by `bilinear` or `bicubic`": [
        "t.nn.functional.interpolate(u[None, None], (5, 5), mode='bilinear')"],
    "`output_padding` of a transposed convolution as large as its stride": [
        "t.nn.functional.conv_transpose1d(A, A.transpose(0, 1), output_padding=1, dilation=2)"],
    "random numbers on the CPU": NUMBERS, "random numbers on CUDA": GPU, "rounding": NUMBERS,
    "repeating a run": GPU, "TF32 in convolutions on CUDA": GPU, "peak of CUDA memory": GPU,
    "`torch.cuda.OutOfMemoryError`": ["issubclass(t.cuda.OutOfMemoryError, RuntimeError)"],
    "half precision on the CPU": NUMBERS,
    "error texts": "a longer text is no difference here",
    "second order of batch norm, convolution and others": "they are errors in PyTorch's backward",
    "settings of determinism, warnings and interop threads": [
        "r = t.set_flush_denormal(True); t.set_flush_denormal(False)"],
    "memory order of factors (`linalg.inv`, `svd`, ...)": ["t.linalg.inv(q)"],
    "`linalg.ldl_*` on CUDA; `lobpcg`": [
        "r = t.lobpcg(q @ q.T + 9 * t.eye(4), k=1, method='basic')[0]"],
    "`addmm`, `addmv`, `baddbmm`, `addbmm` of integers with a fractional `alpha` or `beta`": [
        "t.addmm(i[:, :3], i, j.t(), alpha=0.5)"],
    "second order of `cdist`; gradients of `nan_to_num`, `silu` and `where` of complex numbers": [
        "r = t.autograd.grad(t.autograd.grad((t.cdist(x, y) ** 2).sum(), x, create_graph=True)[0]"
        ".sum(), x)[0]"],
    "`linalg.matrix_exp` in half precision": ["t.linalg.matrix_exp(q.half())"],
    "`linalg.cond` with orders other than 2": ["t.linalg.cond(q, 1)"],
    "singular matrices on CUDA": GPU,
    "gradients that depend on the phase of complex eigenvectors": GPU,
    "graphs and time": "it is about threads on a GPU",
    "`grad_fn` names": ["A @ B", "t.rnn_tanh_cell(x, y, q, q)"],
    "indices out of range on CUDA": GPU,
    "classes out of range in a loss, negative Poisson rates and variances, on CUDA": GPU,
    "`cross_entropy`": "its graph shows PyTorch's nodes",
    "dropout on CUDA": GPU,
    "steps, and other numbers of NAdam and ASGD, that an optimizer keeps on the device": GPU,
    "`GradScaler.step` on CUDA": GPU, "`Muon`": "a package decides",
    "`autocast` on the CPU: `bilinear`, `linalg.vecdot`, `LSTMCell`, `pdist`, `F.pad` by "
    "replicating, `index_copy`": [
        "with t.autocast('cpu'): r = t.nn.functional.bilinear(x, x, t.ones(2, 4, 4))",
        "with t.autocast('cpu'): r = t.nn.LSTMCell(4, 4)(x)[0].dtype"],
    "several values written to one place by `scatter`, `index_copy`, `put`":
        "PyTorch's choice is open",
    "`masked_fill_`, `index_fill_`, `index_put_` on elements that share memory": [
        "v[:1].clone().expand(3).index_fill_(0, k, 1)"],
    "`resize_`, and `out=` of another shape": [
        "a = t.zeros(6); r = a[:2]; t.add(n[0], 1, out=a); a.fill_(1)"],
    "`bessel_*`, `airy_ai`, `i0` and kin at infinity; `polygamma` at its poles": [
        "t.special.bessel_j0(t.tensor(inf))", "t.polygamma(1, t.tensor(-1.))"],
    "special functions": ["t.special.bessel_j0(x.half())"],
    "second derivatives of `embedding(scale_grad_by_freq=True)`": [
        "r = t.autograd.grad(t.autograd.grad((t.nn.functional.embedding(k, x, "
        "scale_grad_by_freq=True) ** 2).sum(), x, create_graph=True)[0].sum(), x)[0]"],
    "`eq_`, `lt_` and kin": ["r = (x * 1).eq_(y)"],
    "`vmap`": ["r = t.func.vmap(lambda a: a * 2 if a.sum() > 0 else a)(x)"],
    "gradients of `amax`, `amin`, `aminmax` where the extreme is NaN": ["nan.amax(1)"],
    "`dim=None` in `max`, `min`, `prod`, `median`, `nanmedian`": [
        "t.max(x, dim=None)", "t.nanmedian(x, dim=None)"],
    "`out=` of `relu`, `broadcast_to` and others": ["t.relu(i, out=t.empty(0, dtype=t.int64))"],
    "attention with `is_causal` and a mask": [
        "t.nn.functional.scaled_dot_product_attention(A, A, A, i[:, :3] > 0, is_causal=True)"],
    "`sdpa_kernel`; `CausalBias`": [
        "from importlib import import_module; "
        "bias = import_module(t.__name__ + '.nn.attention.bias'); "
        "r = isinstance(bias.causal_lower_right(3, 4), t.Tensor)"],
    "`TransformerEncoder` in eval: sequences that are all padding; `mask_check=False`": [
        "with t.no_grad(): r = t.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()("
        "A, src_key_padding_mask=t.ones(2, 3) > 0).isnan().any()"],
    "taps of weight 0 in a resize's gradient; NaN places in `grid_sample`": [
        "t.nn.functional.grid_sample(A[None], t.full((1, 2, 2, 2), float('nan')), "
        "align_corners=False)"],
    "second derivatives of `grid_sample`, `pdist`, `embedding_bag`, attention": [
        "r = t.autograd.grad(t.autograd.grad((t.nn.functional.pdist(x) ** 2).sum(), x, "
        "create_graph=True)[0].sum(), x)[0]"],
    "views made under `no_grad`": ["with t.no_grad(): r = x[0]"],
    "`x[...] = ` a NumPy array or number": ["x = x.clone(); x[0] = np.ones(4); r = x"],
    "sizes and dims one by one in functions (`torch.reshape(x, 2, 3)`)": ["t.reshape(x, 4, 3)"],
    "integers and bools in products, convolutions, `unfold`": ["b @ c.t()"],
    "`channels_last` on the CPU": [
        "t.nn.functional.max_pool2d(F.to(memory_format=t.channels_last), 2)"],
    "`channels_last` in group norm, `max_unpool2d`, `lp_pool2d`; in circular padding, "
    "`masked_fill`, the gradient of bicubic resizing": [
        f"t.nn.functional.{call}" for call in (
            "group_norm(F.to(memory_format=t.channels_last), 1)",
            "pad(F.to(memory_format=t.channels_last), (1, 1, 1, 1), mode='circular')")],
    "strides of copies made from a transposed tensor (`x.t()[i]`, `index_fill`, `*_scatter`, "
    "`pad`, `tril`), and of operations on operands in several orders": [
        "A.permute(2, 1, 0)[k]", "x.t().index_fill(0, k, 1)", "x.t() + t.ones(4, 3)"],
    "`grad_fn` of `fill_` and `zero_`; of one op for several names or dims (resizing, `pad`, "
    "samples without a batch)": ["r = (x * 1).zero_()", "r = (x * 1).fill_(2)",
                                 "t.nn.functional.interpolate(F, (3, 3))"],
    "second order of norms, `normalize` and `cosine_similarity` at 0": [
        "r = t.autograd.grad(t.autograd.grad(t.nn.functional.normalize(x * 0).sum(), x, "
        "create_graph=True)[0].sum(), x)[0]"],
    "`linalg.vector_norm` of order 0": ["t.linalg.vector_norm(x, 0)"],
    "`cat` with an empty vector among tensors of more dims": ["t.cat((x, e1))"],
    "gradients of `std(dim=())`, `polar` of negative lengths, `atan2` of small integers, "
    "`ctc_loss` with the blank among its targets, `CrossMapLRN2d`": [
        "t.std(x, dim=())", "t.polar(-p, x)",
        "t.atan2(x, t.tensor([200, 100, 30, 20], dtype=t.uint8))",
        "t.nn.functional.ctc_loss(A.log_softmax(2), t.zeros(3, 1, dtype=t.int64), [2, 2, 2], "
        "[1, 1, 1])", "t.nn.CrossMapLRN2d(3)(F)"],
    "gradients of gamma, beta and Dirichlet samples":
        "test_parity_distributions.py has how far they are apart",
    "`unique_consecutive(x, True)`": ["t.unique_consecutive(k, True)"],
    "`Multinomial.entropy()` after `expand`; deep copies of an `UninitializedBuffer`; "
    "`orthogonal_` and margin losses in half precision": [
        "t.distributions.Multinomial(3, probs=p[0]).expand((2,)).entropy()",
        "import copy; r = copy.deepcopy(t.nn.UninitializedBuffer()) is None",
        "t.nn.init.orthogonal_(t.empty(3, 3, dtype=t.float16)).shape",
        "t.nn.functional.multi_margin_loss(x.half(), t.tensor([1, 2, 3]))"],
    "`torch.save` of uninitialized parameters": [
        "import io; t.save(t.nn.LazyLinear(3).state_dict(), io.BytesIO()); r = 0"],
    "`soft_margin_loss` far from 0; `multi_margin_loss` of nothing": [
        "t.nn.functional.soft_margin_loss(x * 1000, -x.sign())"],
    "`acc_policy`, `allow_retain_graph` in the options of `linear_cross_entropy`":
        "no value shows it",
    "dims of `cummax` of nothing, too long lengths in `pack_padded_sequence`, labels of "
    "`ctc_loss` out of range": [
        "t.cummax(t.ones(0, 3), 5)",
        "t.nn.utils.rnn.pack_padded_sequence(A.transpose(0, 1), [5, 2]).batch_sizes",
        "t.nn.functional.ctc_loss(A.log_softmax(2), 9 * t.ones(3, 1, dtype=t.int64), [2, 2, 2], "
        "[1, 1, 1]).shape"],
    "transposed convolution with a result of size 0": [
        "t.nn.functional.conv_transpose1d(t.ones(2, 3, 1), t.ones(3, 2, 2), padding=1)"],
    "output of `GRU` and `RNN` changed in place before backward": [
        "y = t.nn.GRU(4, 3)(A)[0]; y.mul_(2); y.sum().backward(); r = 0"],
    "`unpad_sequence`": [
        "x = F.clone(); t.nn.utils.rnn.unpad_sequence(x, t.tensor([2, 1, 1])); r = x.shape"],
    "hooks on saved tensors": [
        "r = []; x = t.ones(1, requires_grad=True)\n"
        "with t.autograd.graph.saved_tensors_hooks(lambda a: r.append(a.is_leaf) or a, "
        "lambda b: b): x.exp()"],
    "a value of a checkpoint unpacked twice in one backward": [
        "y = t.utils.checkpoint.checkpoint(lambda a: a.exp(), t.ones(1, requires_grad=True), "
        "use_reentrant=False)\ny.register_hook(lambda g: y.grad_fn._saved_result and None)\n"
        "y.sum().backward()"],
    "`remove_spectral_norm`": [
        "r = len(t.nn.utils.remove_spectral_norm(t.nn.utils.spectral_norm(t.nn.Linear(4, 3)))"
        "._load_state_dict_pre_hooks)"],
    "`torch.__version__`": ["str(t.__version__)"],
    "gradients of `cholesky_inverse` and `cholesky_solve`": ["t.cholesky_inverse(q)"],
    '`embedding_bag` with `include_last_offset` and "mean", or `scale_grad_by_freq`': [
        "t.nn.functional.embedding_bag(t.tensor([0, 1, 2]), x, t.tensor([0, 2]), mode='mean', "
        "include_last_offset=True)"],
    "`vmap` and `jacrev` over no elements, second derivatives that are constant": [
        "r = t.func.vmap(lambda a: a * 2)(e)"],
    "convolution of no channels": ["t.nn.functional.conv1d(A[:, :0], A[:, :0])"],
    "unfolded views that overlap, written in place": [
        "x = x.clone(); x.unfold(1, 2, 1).mul_(2); r = x"],
}


def test_each_row_has_lines_or_a_reason() -> None:
    assert sorted(LINES) == sorted(CHECKS)


@pytest.mark.parametrize("line", [line for lines in LINES.values() if isinstance(lines, list)
                                  for line in lines])
def test_the_line_differs(line: str) -> None:
    assert torch.__version__
    assert differences(line)
