"""DataParallel: the module as ``.module``, run whole on the first of its devices."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.nn.modules.module import Module


class DataParallel(Module):
    """The module on the first of the devices, which gets the whole batch: what replicas on several
    would give, in the time of one.

    dim has no influence. state_dict keys begin with "module.", as in PyTorch.
    """

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None,
                 dim: int = 0) -> None:
        super().__init__()
        from gpugrad import cuda

        self.module, self.dim = module, dim
        if device_ids is None:
            device_ids = list(range(cuda.device_count())) if cuda.is_available() else []
        self.device_ids = [_index(d) for d in device_ids]
        if self.device_ids:
            self.output_device = self.device_ids[0] if output_device is None else \
                _index(output_device)
            module.cuda(self.device_ids[0])

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        if not self.device_ids:
            return self.module(*inputs, **kwargs)
        first = self.device_ids[0]
        out = self.module(*_moved(inputs, first), **_moved(kwargs, first))
        return out if self.output_device == first else _moved(out, self.output_device)


def _index(d: Any) -> int:
    from gpugrad import backend

    return d if isinstance(d, int) else backend.get(d).device.index or 0


def _moved(x: Any, index: int) -> Any:
    """The tensors in tuples, lists and dicts on a CUDA device."""
    if isinstance(x, Tensor):
        return x.cuda(index)
    if isinstance(x, tuple | list):
        parts = [_moved(v, index) for v in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    return {k: _moved(v, index) for k, v in x.items()} if isinstance(x, dict) else x


def data_parallel(module: Module, inputs: Any, device_ids: Any = None, output_device: Any = None,
                  dim: int = 0, module_kwargs: Any = None) -> Any:
    """DataParallel(module, device_ids, output_device, dim) once."""
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    return DataParallel(module, device_ids, output_device, dim)(*inputs, **(module_kwargs or {}))
