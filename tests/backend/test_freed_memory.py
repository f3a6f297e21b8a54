"""Steps that free and take much memory don't have the system map it again each time."""
import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
import gpugrad as torch

x = torch.ones(100, 10, requires_grad=True)
torch.nn.functional.cross_entropy(x, torch.zeros(100, dtype=torch.int64))
held = [np.ones(30 << 18, np.float32) for _ in range(3)]        # 30 MB each
del held
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    held = [np.ones(30 << 18, np.float32) for _ in range(3)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
HAS_GLIBC = sys.platform == "linux" and "glibc" in str(os.confstr("CS_GNU_LIBC_VERSION"))


@pytest.mark.skipif(not HAS_GLIBC, reason="this is about glibc's malloc")
@pytest.mark.parametrize("helper", ["0", "1"])
def test_pages_are_mapped_once(helper):
    assert page_faults(GPUGRAD_CPU_KERNELS=helper) < 2000


@pytest.mark.skipif(not HAS_GLIBC, reason="this is about glibc's malloc")
def test_the_environment_has_the_last_word():
    assert page_faults(GPUGRAD_CPU_KERNELS="0", MALLOC_TRIM_THRESHOLD_="1000000") > 20000


def page_faults(**env):
    """How many the program has, with pages of the usual size."""
    others = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    env = {**others, "NUMPY_MADVISE_HUGEPAGE": "0", **env}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, text=True,
                          capture_output=True, check=True)
    return int(done.stdout)
