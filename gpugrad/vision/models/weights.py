"""Trained weights: which there are, where they are kept, and what their pictures went through."""
from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from gpugrad import Tensor, hub
from gpugrad.vision import transforms
from gpugrad.vision.transforms import functional as F

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)        # of ImageNet's red, green, blue
makers: dict[str, Any] = {}             # the networks, by name


class Weights(Enum):
    """A member's value: the file's name, and the side that pictures were resized to."""

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"https://download.pytorch.org/models/{self.value[0]}.pth"

    def get_state_dict(self, progress: bool = True, check_hash: bool = False) -> Any:
        """The weights, from the folder of torch.hub or else downloaded to it."""
        return hub.load_state_dict_from_url(self.url, progress=progress, check_hash=check_hash)

    def transforms(self) -> transforms.Compose:
        """Picture to input: resized, its middle 224 x 224 cut out, as floats, normalised."""
        return transforms.Compose([
            transforms.Resize(self.value[1]), transforms.CenterCrop(224),
            transforms.Lambda(_floats), transforms.Normalize(MEAN, STD)])


def _floats(img: Any) -> Tensor:
    return F.convert_image_dtype(img if isinstance(img, Tensor) else F.pil_to_tensor(img))


def network(name: str, build: Callable[..., Any], kind: str, *files: str) -> tuple[Any, Any]:
    """A maker of networks, a function ``name``, and its weights, an Enum.

    build(**kwargs) gives one with weights drawn at random. files: of IMAGENET1K_V1, and perhaps of
    IMAGENET1K_V2, whose pictures were a little larger.
    """
    members = {f"IMAGENET1K_V{i}": (file, 256 if i == 1 else 232)
               for i, file in enumerate(files, 1)}
    members["DEFAULT"] = list(members.values())[-1]
    of_names: Any = Weights
    known = of_names(kind, members, module=__name__)

    def make(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> Any:
        if kwargs.pop("pretrained", False):      # an older name
            weights = known.IMAGENET1K_V1
        if isinstance(weights, str):
            weights = known[weights.replace(f"{kind}.", "")]
        if weights is None:
            return build(**kwargs)
        if not isinstance(weights, known):
            raise TypeError(f"Invalid Weight class provided; expected {kind} but received "
                            f"{type(weights).__name__}.")
        if kwargs.setdefault("num_classes", 1000) != 1000:
            raise ValueError("The parameter 'num_classes' expected value 1000 but got "
                             f"{kwargs['num_classes']} instead.")
        made = build(**kwargs)
        made.load_state_dict(weights.get_state_dict(progress, check_hash=True))
        return made

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"A new {name}. weights: None, one of {kind}, or a name; kwargs: the class's."
    makers[name] = make
    return make, known
