"""Files of models import, build, train, save and load with nothing but their imports changed."""
from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpugrad

sys.path.insert(0, str(Path(__file__).parent))
from model_files import FOLDER, NAMES, PROGRAMS, load, program, with_gpugrad

# The simulated device takes seconds for these; the ops in them are those of the others.
ONLY_ON_CPU = {"conditional_vae", "convnext", "convnext_v2", "densenet", "diffusion",
               "resnet_bottleneck", "sagan", "sagan_parametrized", "stylegan_penalties",
               "swin_cosine", "unet_group_norm", "unet_interpolating", "vit",
               "vit_larger_images", "wgan_gp"}
# Two players, or a value of its own that a step returns: the loss need not fall in a few steps.
PLAYERS = {"dcgan", "wgan_gp", "stylegan_penalties", "sagan", "sagan_parametrized", "reinforce",
           "actor_critic", "ppo", "soft_actor_critic", "moco", "triplet"}

pytestmark = pytest.mark.filterwarnings("ignore")


def made(file: str, name: str, device: str = "cpu", seed: int = 0) -> Any:
    gpugrad.manual_seed(seed)
    return program("gpugrad", file, name)(device)


def tensors(v: Any) -> list[Any]:
    if isinstance(v, dict):
        return tensors(list(v.values()))
    if isinstance(v, tuple | list):
        return [t for u in v for t in tensors(u)]
    return [v]


def check(file: str, name: str, device: str, tmp_path: Path, steps: int) -> None:
    training = made(file, name, device)
    losses = []
    for _ in range(steps):
        gpugrad.manual_seed(1)
        losses.append(training.step())
    assert all(math.isfinite(loss) for loss in losses)
    if name not in PLAYERS:
        assert min(losses[1:]) < losses[0], losses
    state = training.net.state_dict()
    assert state and all(t.device.type == device for t in state.values() if t.dim())

    # a new one from the file goes on in the same way
    gpugrad.save(training.state_dict(), tmp_path / "checkpoint.pt")
    other = made(file, name, device, seed=0)
    other.load_state_dict(gpugrad.load(tmp_path / "checkpoint.pt", map_location=device))
    ends = []
    for one in (training, other):
        gpugrad.manual_seed(2)
        ends.append(one.step())
    assert ends[0] == pytest.approx(ends[1], rel=1e-5)

    # what comes out without gradients
    training.net.eval()
    with gpugrad.no_grad():
        for t in tensors(training.outputs()):
            assert not t.requires_grad
            assert t.device.type == device or not t.is_floating_point()
            assert np.isfinite(t.float().cpu().numpy()).all()


@pytest.mark.parametrize(("file", "name"), NAMES, ids=[name for _, name in NAMES])
def test_training(file: str, name: str, tmp_path: Path) -> None:
    check(file, name, "cpu", tmp_path, 5)


@pytest.mark.gpu
@pytest.mark.parametrize(("file", "name"), [pair for pair in NAMES if pair[1] not in ONLY_ON_CPU],
                         ids=[name for _, name in NAMES if name not in ONLY_ON_CPU])
def test_training_on_cuda(file: str, name: str, tmp_path: Path) -> None:
    check(file, name, "cuda", tmp_path, 2)


def test_all_files_are_run() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "training"}
    assert files == set(PROGRAMS)
    for file, names in PROGRAMS.items():
        assert all(hasattr(load("gpugrad", file), name) for name in names.split())


def test_files_have_no_word_of_this_library() -> None:
    for path in FOLDER.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "import torch" in text or "from torch" in text or path.stem == "__init__"
        assert "gpugrad" not in text or path.stem == "__init__"


def test_only_lines_of_imports_are_changed() -> None:
    before = ["import torch", "import torch.nn as nn", "import torch.fx", "from torch.nn import (",
              "  init)", "torch.nn"]
    assert with_gpugrad("\n".join(before)).splitlines() == [
        "import gpugrad as torch", "import gpugrad.nn as nn",
        "import gpugrad.fx; import gpugrad as torch", "from gpugrad.nn import (", "  init)",
        "torch.nn"]
