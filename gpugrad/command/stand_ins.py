"""Modules that libraries import beside what they use; ``run`` serves them, made of these tables.

What can be asked has its answer; the rest says what is missing when it is called.
"""
from __future__ import annotations

from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from gpugrad.absent import classes, functions
from gpugrad.distributed import WHY


class FlopCounterMode:
    """Counts the floating-point operations of a ``with`` block, in PyTorch; entering it raises."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __enter__(self) -> None:
        raise NotImplementedError("torch.utils.flop_counter is not supported: FLOPs aren't counted")

    def __exit__(self, *exc: object) -> None:
        pass

    def get_total_flops(self) -> int:
        """0: what was never entered has counted none."""
        return 0

    def get_flop_counts(self) -> dict[str, Any]:
        """None."""
        return {}


_SPREAD = "all_gather all_reduce all_to_all broadcast gather reduce reduce_scatter scatter"
_MODULES: dict[str, Callable[[str], dict[str, Any]]] = {
    "_subclasses": lambda name: {},
    "_subclasses.fake_tensor": lambda name: {
        **classes(name, "FakeTensor FakeTensorMode", "take the meta device"),
        "is_fake": lambda x: False},
    "distributed.nn": lambda name: functions(name, _SPREAD, WHY),
    "distributed.optim": lambda name: classes(
        name, "DistributedOptimizer PostLocalSGDOptimizer ZeroRedundancyOptimizer", WHY),
    "distributed.tensor": lambda name: classes(
        name, "DTensor DeviceMesh Placement Partial:Placement Replicate:Placement Shard:Placement",
        WHY),
    "fx.experimental": lambda name: {},
    "fx.experimental.proxy_tensor": lambda name: {"get_proxy_mode": lambda: None},
    "nn.parallel.scatter_gather": lambda name: functions(
        name, "gather scatter scatter_kwargs", "DataParallel uses one device"),
    "utils.flop_counter": lambda name: {"FlopCounterMode": FlopCounterMode},
}


class StandIns(MetaPathFinder, Loader):
    """Finds these modules, where gpugrad has none of the name."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        ours, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self, is_package=True) \
            if ours == "gpugrad" and name in _MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__.partition(".")[2]
        vars(module).update(_MODULES[name]("torch." + name))
