"""make_grid and save_image."""
from __future__ import annotations

import pytest

import gpugrad as torch
from gpugrad.vision import utils
from gpugrad.vision.transforms import functional


def test_a_grid_puts_pictures_in_rows():
    pictures = torch.arange(1, 6).view(5, 1, 1, 1).expand(5, 3, 2, 3).float()
    grid = utils.make_grid(pictures, nrow=3, padding=1, pad_value=9)
    assert grid.shape == (3, 2 * 3 + 1, 3 * 4 + 1)
    assert grid[0, 1].tolist() == [9, 1, 1, 1, 9, 2, 2, 2, 9, 3, 3, 3, 9]
    assert grid[2, 5].tolist() == [9, 4, 4, 4, 9, 5, 5, 5, 9, 9, 9, 9, 9]
    assert (grid[:, [0, 3, 6]] == 9).all()
    assert utils.make_grid(list(pictures), 3, 1, pad_value=9).equal(grid)
    assert utils.make_grid(pictures[0]).equal(pictures[0])


def test_gray_pictures_become_rgb():
    for shape in (4, 5), (1, 4, 5), (1, 1, 4, 5):
        assert utils.make_grid(torch.ones(shape)).shape == (3, 4, 5)


def test_normalize():
    x = torch.tensor([[0.0, 4.0], [2.0, 3.0]]).view(2, 1, 1, 2)
    def of(**kw):
        return utils.make_grid(x, padding=0, normalize=True, **kw)[0, 0].tolist()
    assert of() == [0, 1, 0.5, 0.75]
    assert of(scale_each=True) == [0, 1, 0, 1]
    assert of(value_range=(2, 3)) == [0, 1, 0, 1]
    assert x.flatten().tolist() == [0, 4, 2, 3]              # as before
    with pytest.raises(TypeError, match="value_range has to be a tuple"):
        of(value_range=[2, 3])
    with pytest.raises(TypeError, match="tensor or list of tensors expected"):
        utils.make_grid([1, 2])


def test_save_image(tmp_path, monkeypatch):
    Image = pytest.importorskip("PIL.Image")
    x = torch.rand(3, 3, 4, 5)
    utils.save_image(x, tmp_path / "x.png", nrow=2)
    saved = functional.pil_to_tensor(Image.open(tmp_path / "x.png"))
    assert saved.equal((utils.make_grid(x, 2) * 255 + 0.5).clamp(0, 255).to(torch.uint8))
    monkeypatch.setattr(utils, "pillow", lambda: None)
    with pytest.raises(ImportError, match="pip install pillow"):
        utils.save_image(x, tmp_path / "y.png")
