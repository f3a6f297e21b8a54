"""The folder zoo: files of models as they are written for PyTorch, imported for either library.

``program("gpugrad", "resnet", "resnet_basic")("cpu")`` is a Training (zoo/training.py) made by the
function resnet_basic of zoo/resnet.py, in whose import lines ``torch`` was replaced; for "torch"
the file is taken as it stands. Copies and pickles work, as the files are modules: of the packages
zoo_of_gpugrad and zoo_of_torch.
"""
from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

FOLDER = Path(__file__).parent / "zoo"

# The files, and the functions in them that make a Training.
PROGRAMS = {
    "autoencoders": "conditional_vae conv_vae vq_vae tied_autoencoder",
    "contrastive": "simclr moco byol siamese triplet",
    "convnext": "convnext convnext_v2",
    "dcgan": "dcgan wgan_gp stylegan_penalties sagan sagan_parametrized",
    "densenet": "densenet densenet_memory_efficient",
    "diffusion": "diffusion",
    "efficientnet": "efficientnet",
    "flows": "glow autoregressive_flow real_nvp",
    "graph_attention": "graph_attention dense_graph_attention graph_regression",
    "mobilenet": "mobilenet_v2 mobilenet_v3",
    "oddities": "domain_adversarial maml capsules mixture_density inception",
    "points": "point_net detector radiance_field poisson_equation",
    "policy": "reinforce actor_critic ppo dqn soft_actor_critic",
    "resnet": "resnet_basic resnet_bottleneck",
    "seq2seq": "seq2seq seq2seq_general seq2seq_concat convolutional_translator",
    "speech": "deep_speech wavenet separation",
    "style": "style_of_an_image fast_style",
    "swin": "swin swin_cosine",
    "unet": "unet unet_interpolating unet_group_norm",
    "vgg": "vgg vgg_bn",
    "vit": "vit vit_larger_images",
    "word_lm": "word_lstm word_rnn tagger",
}
NAMES = [(file, name) for file, names in PROGRAMS.items() for name in names.split()]


def with_gpugrad(source: str) -> str:
    """The text with its imports of torch turned into imports of gpugrad, line for line."""
    source = re.sub(r"^(\s*)import torch$", r"\1import gpugrad as torch", source, flags=re.M)
    source = re.sub(r"^(\s*)import torch\.([\w.]+)$",
                    r"\1import gpugrad.\2; import gpugrad as torch", source, flags=re.M)
    return re.sub(r"^(\s*)(from|import) torch\b", r"\1\2 gpugrad", source, flags=re.M)


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path).decode()
        if fullname.startswith("zoo_of_gpugrad"):
            source = with_gpugrad(source)
        return compile(source, self.path, "exec", dont_inherit=True)


class _Finder:
    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package, _, file = fullname.partition(".")
        if package not in ("zoo_of_gpugrad", "zoo_of_torch"):
            return None
        at = FOLDER / f"{file or '__init__'}.py"
        return spec_from_file_location(
            fullname, at, loader=_Loader(fullname, str(at)),
            submodule_search_locations=None if file else [str(FOLDER)]) if at.exists() else None


if not any(finder.__name__ == "_Finder" for finder in sys.meta_path if isinstance(finder, type)):
    sys.meta_path.insert(0, _Finder)


def load(library: str, file: str) -> ModuleType:
    return importlib.import_module(f"zoo_of_{library}.{file}")


def program(library: str, file: str, name: str) -> Callable[[str], Any]:
    return getattr(load(library, file), name)
