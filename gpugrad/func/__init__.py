"""torch.func: functions made of functions, by going backward. See docs/differences.md."""
from __future__ import annotations

from gpugrad.func.jacobians import hessian as hessian
from gpugrad.func.jacobians import jacfwd as jacfwd
from gpugrad.func.jacobians import jacrev as jacrev
from gpugrad.func.mapping import vmap as vmap
from gpugrad.func.modules import functional_call as functional_call
from gpugrad.func.modules import (
    replace_all_batch_norm_modules_ as replace_all_batch_norm_modules_,
)
from gpugrad.func.modules import stack_module_state as stack_module_state
from gpugrad.func.transforms import functionalize as functionalize
from gpugrad.func.transforms import grad as grad
from gpugrad.func.transforms import grad_and_value as grad_and_value
from gpugrad.func.transforms import jvp as jvp
from gpugrad.func.transforms import linearize as linearize
from gpugrad.func.transforms import vjp as vjp
