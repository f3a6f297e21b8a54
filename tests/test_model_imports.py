"""What model files import: each line as it stands in programs for PyTorch, with gpugrad instead."""
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import gpugrad

LINES = {
    "image models": """
        import torch.jit, torch.jit.annotations
        import torch.hub
        import torch.utils.checkpoint as cp
        import torch.utils.model_zoo as model_zoo
        import torch.fx
        from torch import Tensor, nn, _assert
        from torch.jit import Final, script, trace, ignore, unused, export
        from torch.jit.annotations import List
        from torch.fx import wrap, Proxy, GraphModule, Tracer
        from torch.hub import load_state_dict_from_url, download_url_to_file, HASH_REGEX, urlparse
        from torch.hub import get_dir, set_dir
        from torch.nn import init, Parameter, functional as F
        from torch.nn.init import trunc_normal_, kaiming_normal_, xavier_uniform_, zeros_
        from torch.nn.init import _calculate_fan_in_and_fan_out
        from torch.nn.modules.batchnorm import _BatchNorm
        from torch.nn.modules.conv import _ConvNd
        from torch.nn.modules.utils import _pair, _triple, _single, _quadruple
        from torch.nn.parameter import Parameter, Buffer
        from torch.nn.utils.fusion import fuse_conv_bn_eval
        from torch.nn.utils.parametrizations import weight_norm, spectral_norm, orthogonal
        from torch.nn.utils import weight_norm, spectral_norm, remove_weight_norm
        from torch.overrides import has_torch_function_unary, has_torch_function_variadic
        from torch.overrides import handle_torch_function, is_tensor_like
        from torch.quantization import QuantStub, DeQuantStub, fuse_modules
        from torch.ao.quantization import QuantStub
        from torch.types import _dtype, _device, _size, Number, Device
        from torch.utils.checkpoint import checkpoint, checkpoint_sequential
        from torch._jit_internal import boolean_dispatch, _copy_to_script_wrapper
        from torch.autograd.profiler import record_function
        """,
    "language models": """
        import torch._dynamo
        import torch.distributed as dist
        import torch.utils.checkpoint
        from torch import einsum, nn, Tensor, autocast
        from torch.amp import autocast, GradScaler
        from torch.cuda.amp import autocast, GradScaler
        from torch._dynamo import allow_in_graph, disable, is_compiling
        from torch.compiler import is_compiling, disable, allow_in_graph
        from torch.distributed import init_process_group, destroy_process_group
        from torch.distributed import ReduceOp, ProcessGroup, is_initialized, get_rank
        from torch.library import custom_op, register_fake, register_autograd, Library, impl
        from torch.nn import CrossEntropyLoss, MSELoss, BCEWithLogitsLoss, LayerNorm, Embedding
        from torch.nn.attention import sdpa_kernel, SDPBackend
        from torch.nn.parallel import DistributedDataParallel as DDP, DataParallel
        from torch.nn.parallel.distributed import DistributedDataParallel
        from torch.nn.utils.rnn import pad_sequence, pack_padded_sequence, pad_packed_sequence
        from torch.nn.utils import clip_grad_norm_, parameters_to_vector, vector_to_parameters
        from torch.nn.utils.clip_grad import clip_grad_norm_, clip_grad_value_
        from torch.utils._pytree import tree_map, tree_flatten, tree_unflatten, tree_leaves
        from torch.utils._pytree import tree_map_only, TreeSpec, PyTree, LeafSpec
        from torch.profiler import profile, record_function, ProfilerActivity, schedule
        from torch.utils.checkpoint import set_checkpoint_early_stop, CheckpointFunction
        from torch.autograd.graph import saved_tensors_hooks, save_on_cpu
        from torch.autograd.function import once_differentiable, Function, FunctionCtx
        """,
    "training scripts": """
        import torch.accelerator
        import torch.backends.cudnn as cudnn
        import torch.backends.cuda
        import torch.backends.mps
        import torch.multiprocessing as mp
        import torch.nn as nn
        import torch.nn.functional as F
        import torch.nn.parallel
        import torch.onnx
        import torch.optim as optim
        import torch.testing
        import torch.utils.data
        import torch.utils.benchmark as benchmark
        import torch.version
        from torch.autograd import Variable, Function, grad, gradcheck
        from torch.backends import cudnn, mkldnn, mps, openmp, opt_einsum, mkl
        from torch.distributions import Categorical, Normal, kl_divergence
        from torch.multiprocessing import Process, Queue, set_start_method, spawn, Pool
        from torch.nn import DataParallel
        from torch.nn.utils import prune, parametrize, parametrizations, stateless
        from torch.nn.utils.prune import l1_unstructured, BasePruningMethod
        from torch.nn.utils.parametrize import register_parametrization, is_parametrized
        from torch.optim import Adam, SGD, Optimizer
        from torch.optim.lr_scheduler import StepLR, LambdaLR
        from torch.random import fork_rng, manual_seed
        from torch.testing import assert_close, make_tensor
        from torch.utils.benchmark import Timer, Measurement
        from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split
        from torch.utils.data.distributed import DistributedSampler
        from torch.utils.dlpack import to_dlpack, from_dlpack
        from torch.utils.hooks import RemovableHandle
        from torch.utils.cpp_extension import load, CUDAExtension, BuildExtension
        from torch.func import functional_call, vmap, grad
        from torch import FloatTensor, LongTensor, ByteTensor
        """,
    # PyTorch Lightning, kornia; what run alone serves is in tests/command
    "libraries": """
        from torch import PyTorchFileReader, ScriptModule, SymInt, complex32, float8_e4m3fn
        from torch._C import _TensorMeta
        from torch.autograd.profiler import emit_nvtx
        from torch.futures import Future
        from torch.profiler import kineto_available
        from torch.utils._pytree import SUPPORTED_NODES, _get_node_type
        from torch.utils.data.dataloader import _BaseDataLoaderIter, _MultiProcessingDataLoaderIter
        """,
}
# Not modules here, but parts of them that are functions or values in PyTorch, too.
NAMES = """
    torch._C._nn._parse_to torch.detach torch.detach_ torch.get_device torch.is_signed
    torch.is_distributed torch.addmv_ torch.as_strided_ torch.index_put_ torch.resize_as_
    torch.dropout torch.layer_norm torch.group_norm torch.rms_norm
    torch._C._log_api_usage_once torch.__config__.show torch.jit.is_scripting torch.jit.is_tracing
    torch.jit._overload torch.jit._overload_method torch.jit._script_if_tracing
    torch.jit._unwrap_optional torch.jit.script_if_tracing torch.jit.interface
    torch.jit.ScriptModule torch.jit.script_method torch.jit.annotate torch.jit.fork
    torch.jit.save torch.jit.load
    torch.jit.freeze torch.jit.isinstance torch.fx.Proxy torch.fx.symbolic_trace torch.compile
    torch.compiler.reset torch.compiler.cudagraph_mark_step_begin torch.compiler.set_stance
    torch._dynamo.config.suppress_errors torch._dynamo.optimize torch._dynamo.mark_dynamic
    torch._dynamo.graph_break torch._dynamo.reset torch._assert torch._check
    torch.accelerator.is_available torch.accelerator.current_accelerator
    torch.accelerator.device_count torch.accelerator.synchronize torch.backends.mps.is_available
    torch.backends.mps.is_built torch.backends.mkldnn.enabled torch.backends.mkldnn.flags
    torch.backends.openmp.is_available torch.backends.mkl.is_available
    torch.backends.opt_einsum.enabled torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.sdp_kernel torch.backends.cuda.preferred_linalg_library
    torch.backends.cpu.get_cpu_capability torch.backends.mha.set_fastpath_enabled
    torch.backends.nnpack.is_available torch.backends.quantized.engine
    torch.distributed.is_available torch.distributed.is_initialized torch.distributed.get_world_size
    torch.distributed.all_reduce torch.distributed.all_gather torch.distributed.broadcast
    torch.distributed.barrier torch.distributed.group torch.distributed.Backend
    torch.distributed.ReduceOp.SUM torch.hub.load torch.hub.list torch.hub.help torch.library.define
    torch.multiprocessing.set_sharing_strategy torch.multiprocessing.get_context
    torch.multiprocessing.cpu_count torch.nn.parallel.data_parallel torch.onnx.export
    torch.onnx.is_in_onnx_export torch.onnx.OperatorExportTypes torch.overrides.TorchFunctionMode
    torch.overrides.wrap_torch_function torch.profiler.tensorboard_trace_handler
    torch.quantization.quantize_dynamic torch.sparse.mm torch.testing.assert_allclose
    torch.utils.checkpoint.get_device_states torch.utils.checkpoint.detach_variable
    torch.version.cuda torch.version.hip torch.version.__version__ torch.autograd.Variable
    torch.autograd.graph.register_multi_grad_hook torch.autograd.profiler.profile
    torch.cuda.FloatTensor torch.random.fork_rng torch.random.get_rng_state torch.seed
    """.split()


def own(line: str) -> str:
    return re.sub(r"\btorch\b", "gpugrad", line)


def fresh(code: str) -> str:
    """What a new Python prints."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100,
                         cwd=Path(__file__).resolve().parents[1])
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("line", [line.strip() for text in LINES.values()
                                  for line in text.strip().splitlines()])
def test_import(line):
    exec(own(line), {})


@pytest.mark.parametrize("name", NAMES)
def test_name(name):
    value = gpugrad
    for part in name.split(".")[1:]:
        value = getattr(value, part)


def test_all_in_one_program():
    """In one process, in this order, after nothing but the package itself."""
    lines = [own(line.strip()) for text in LINES.values() for line in text.strip().splitlines()]
    code = "\n".join(["import gpugrad as torch", *lines, *NAMES, "print('done')"])
    assert fresh(code) == "done\n"


def test_none_of_it_is_imported_before_it_is_used():
    code = "import sys, gpugrad; print([m for m in sys.modules if m.startswith('gpugrad.')])"
    found = fresh(code)
    for name in ("jit", "fx", "compiler", "library", "overrides", "distributed", "hub", "testing",
                 "profiler", "multiprocessing", "accelerator", "utils", "types", "version", "onnx",
                 "quantization", "sparse", "nn", "_dynamo", "_C"):
        assert f"'gpugrad.{name}'" not in found and f"'gpugrad.{name}." not in found


def test_unknown_names_are_errors():
    for module in (gpugrad, gpugrad.utils, gpugrad.backends, gpugrad.distributed,
                   gpugrad.nn.utils):
        with pytest.raises(AttributeError, match="has no attribute 'foo'"):
            module.foo  # noqa: B018
