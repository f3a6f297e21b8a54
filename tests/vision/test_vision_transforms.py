"""Transforms: what they do to tensors, PIL images and arrays, and to each image of a batch."""
from __future__ import annotations

import inspect

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.vision import transforms as T
from gpugrad.vision.transforms import functional as F

try:
    from PIL import Image
except ImportError:
    Image = None
needs_pillow = pytest.mark.skipif(Image is None, reason="Pillow is not installed")


def picture(*shape, dtype=torch.uint8):
    """Another number in each place."""
    return torch.arange(int(np.prod(shape))).reshape(shape).to(dtype)


def kinds(height=6, width=5):
    """The same picture as tensors and, where there is Pillow, as PIL image."""
    pixels = picture(3, height, width)
    found = {"bytes": pixels, "floats": pixels / 255, "batch": torch.stack([pixels, pixels])}
    if Image is not None:
        found["PIL"] = Image.fromarray(pixels.permute(1, 2, 0).numpy().copy())
    return found


def seen(img):
    """Any image as bytes (3, h, w)."""
    if not isinstance(img, torch.Tensor):
        return F.pil_to_tensor(img).numpy()
    img = img[0] if img.ndim == 4 else img
    return (img if img.dtype == torch.uint8 else (img * 255).round()).numpy()


# Conversions -------------------------------------------------------------------------------------

def test_to_tensor():
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    x = F.to_tensor(pixels)
    assert x.dtype == torch.float32 and x.is_contiguous()
    np.testing.assert_array_equal(x.numpy(), pixels.transpose(2, 0, 1).astype(np.float32) / 255)
    assert F.to_tensor(pixels[:, :, 0]).shape == (1, 4, 2)
    assert F.to_tensor(pixels.astype(np.int32)).dtype == torch.int32
    np.testing.assert_array_equal(F.to_tensor(torch.from_numpy(pixels)).numpy() * 255, pixels)
    floats = np.ones((1, 4, 2), np.float32)
    F.to_tensor(floats.transpose(1, 2, 0)).zero_()       # shares no memory
    assert floats.all()
    for wrong in torch.ones(3, 2, 2), [[1]], None:
        with pytest.raises(TypeError, match=r"pic should be PIL Image or ndarray. Got <class"):
            F.to_tensor(wrong)
    with pytest.raises(ValueError, match=r"pic should be 2/3 dimensional. Got 1 dimensions."):
        F.to_tensor(np.ones(3))
    with pytest.raises(TypeError, match=r"pic should be PIL Image. Got <class"):
        T.PILToTensor()(pixels)


@needs_pillow
@pytest.mark.parametrize("mode, dtype", [("L", "uint8"), ("RGB", "uint8"), ("RGBA", "uint8"),
                                         ("1", "uint8"), ("I", "int32"), ("F", "float32"),
                                         ("I;16", "int16"), ("LA", "uint8")])
def test_pil_images_of_every_mode(mode, dtype):
    img = Image.new(mode, (4, 3), 1)
    x, y = F.to_tensor(img), F.pil_to_tensor(img)
    assert x.shape == y.shape == (len(img.getbands()), 3, 4) == tuple(F.get_dimensions(img))
    assert str(x.dtype) == "torch." + ("float32" if dtype == "uint8" else dtype)
    assert x[0].max().item() == pytest.approx({"uint8": 1 / 255}.get(dtype, 1) if mode != "1"
                                              else 1)


def test_dtypes_of_images():
    x = torch.tensor([0, 1, 128, 255], dtype=torch.uint8)
    assert F.convert_image_dtype(x).tolist() == pytest.approx([0, 1 / 255, 128 / 255, 1])
    assert F.convert_image_dtype(x, torch.int16).tolist() == [0, 128, 128 * 128, 255 * 128]
    assert F.convert_image_dtype(torch.tensor([0, 127, 128, 32767], dtype=torch.int16),
                                 torch.uint8).tolist() == [0, 0, 1, 255]
    assert T.ConvertImageDtype(torch.uint8)(torch.tensor([0., 0.5, 1.])).tolist() == [0, 127, 255]
    assert F.convert_image_dtype(x, torch.uint8) is x
    with pytest.raises(RuntimeError, match=r"float32 to torch.int32 cannot be performed safely"):
        F.convert_image_dtype(torch.ones(2), torch.int32)


def test_normalize(device):
    x = torch.rand(4, 3, 5, 6, device=device)
    mean, std = [0.1, 0.2, 0.3], (0.5, 1.0, 2.0)
    y = T.Normalize(mean, std)(x)
    expected = (x.cpu().numpy() - np.float32(mean)[:, None, None]) / np.float32(std)[:, None, None]
    np.testing.assert_allclose(y.cpu().numpy(), expected, rtol=1e-6)
    assert F.normalize(x, mean, torch.tensor(std), inplace=True) is x
    np.testing.assert_array_equal(x.cpu().numpy(), y.cpu().numpy())
    with pytest.raises(TypeError, match=r"should be a float tensor. Got torch.uint8"):
        F.normalize(picture(3, 2, 2), mean, std)
    with pytest.raises(ValueError, match=r"std evaluated to zero after conversion to torch.float"):
        F.normalize(x, mean, (1, 0, 1))
    assert (F.normalize(x, 0.5, 0.25) == (x - 0.5) * 4).all()
    for wrong in (mean, std[:2]), (mean[:2], std), ([0.5], [1, 1]):
        with pytest.raises(RuntimeError):
            F.normalize(x, *wrong)
    assert (x == y).all()
    with pytest.raises(RuntimeError, match="shape"):
        F.normalize(x[:, :1], mean, std)
    with pytest.raises(ValueError, match="tensor image of size"):
        F.normalize(x[0, 0], mean, std)


# Places ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, slices", [
    ("hflip", np.s_[:, :, ::-1]), ("vflip", np.s_[:, ::-1])])
def test_flips(name, slices):
    for img in kinds().values():
        np.testing.assert_array_equal(seen(getattr(F, name)(img)), seen(img)[slices])


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
@pytest.mark.parametrize("padding", [2, [1], (1, 2), (0, 1, 2, 3), (-1, 2, 1, -2)])
def test_padding(mode, padding):
    left, top, right, bottom = {int: [2] * 4, list: [1] * 4}.get(type(padding)) or (
        (*padding, *padding)[:4])
    for kind, img in kinds().items():
        before = seen(img)[:, max(-top, 0):6 - max(-bottom, 0), max(-left, 0):5 - max(-right, 0)]
        sides = (0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))
        numpy = np.pad(before, sides, mode, **({"constant_values": 51} if mode == "constant"
                                               else {}))
        fill = 51 / 255 if kind == "floats" else 51
        padded = T.Pad(padding, fill, mode)(img)
        np.testing.assert_array_equal(seen(padded), numpy)
        assert type(padded) is type(img)


@needs_pillow
def test_colours_around_pil_images():
    img = kinds()["PIL"]
    assert seen(F.pad(img, 1, (1, 2, 3)))[:, 0, 0].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match=r"number of channels of the image \(2 != 3\)"):
        F.pad(img, 1, (1, 2))
    with pytest.raises(NotImplementedError, match=r"img.convert\('RGB'\)"):
        F.pad(img.convert("P"), 1)


@pytest.mark.parametrize("place", [(1, 2, 3, 2), (-1, -2, 9, 12), (4, 3, 5, 5), (-3, 1, 2, 2),
                                   (2, 7, 3, 3)])
def test_crops_may_reach_beyond(place):
    top, left, height, width = place
    for img in kinds().values():
        big = np.pad(seen(img), ((0, 0), (20, 20), (20, 20)))
        np.testing.assert_array_equal(
            seen(F.crop(img, *place)),
            big[:, 20 + top:20 + top + height, 20 + left:20 + left + width])


def test_the_middle():
    for img in kinds().values():
        np.testing.assert_array_equal(seen(T.CenterCrop(3)(img)), seen(img)[:, 2:5, 1:4])
        np.testing.assert_array_equal(seen(T.CenterCrop((8, 2))(img)),
                                      np.pad(seen(img)[:, :, 2:4], ((0, 0), (1, 1), (0, 0))))


def test_erasing():
    x = torch.zeros(2, 3, 6, 5)
    y = F.erase(x, 1, 2, 3, 2, torch.tensor([1.0, 2.0, 3.0])[:, None, None])
    assert y.sum().item() == 2 * 6 * 6 and x.sum() == 0 and (y[1, 2, 1:4, 2:4] == 3).all()
    assert F.erase(x, 0, 0, 1, 1, 5.0, inplace=True) is x and x.sum() == 30


# Sizes -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size, expected", [
    (3, (3, 3)), ([4], (4, 4)), ((4, 7), (4, 7)), (12, (14, 12)), (6, (7, 6))])
def test_sizes(size, expected):
    for img in kinds(7, 6).values():
        if size == 3:
            img = F.crop(img, 0, 0, 6, 6)
        elif size == [4]:
            img = F.crop(img, 0, 0, 6, 6)
        assert tuple(F.get_dimensions(T.Resize(size)(img))[1:]) == expected


def test_a_size_of_the_shorter_side_with_a_limit():
    x = torch.rand(3, 10, 40)
    assert T.Resize(5, max_size=16)(x).shape == (3, 4, 16)
    assert T.Resize(20, max_size=100)(x.mT).shape == (3, 80, 20)
    with pytest.raises(ValueError, match="must be strictly greater than the requested size"):
        F.resize(x, 16, max_size=16)
    with pytest.raises(ValueError, match="max_size should only be passed if size"):
        F.resize(x, (4, 4), max_size=16)


def test_means_of_pixels():
    """To half the size, bilinear with antialias weighs four pixels by 1, 3, 3, 1."""
    x = torch.rand(2, 3, 8, 10, dtype=torch.float64)
    weights = np.zeros((10, 5))
    for i in range(5):
        weights[max(2 * i - 1, 0):2 * i + 3, i] = [1, 3, 3, 1][max(1 - 2 * i, 0):][:10 - 2 * i + 1]
    weights /= weights.sum(0)
    np.testing.assert_allclose(F.resize(x, [8, 5]).numpy(), x.numpy() @ weights, rtol=1e-12)
    flat = torch.full((3, 5, 7), 200, dtype=torch.uint8)
    for mode in "BILINEAR", "BICUBIC", "NEAREST", "NEAREST_EXACT":
        y = F.resize(flat, (9, 4), T.InterpolationMode[mode])
        assert y.dtype == torch.uint8 and (y == 200).all()
    assert F.resize(x, [8, 10]) is x
    assert F.resize(x, [16, 20], 0)[0, 0, 15, 19] == x[0, 0, 7, 9]      # Pillow's number of nearest


# Random ones -------------------------------------------------------------------------------------

ONES = [T.RandomCrop(4), T.RandomCrop((5, 3), padding=2), T.RandomCrop((9, 4), pad_if_needed=True),
        T.RandomHorizontalFlip(), T.RandomVerticalFlip(0.3), T.RandomResizedCrop(4),
        T.RandomApply([T.RandomHorizontalFlip(1.0), T.Pad(1)])]


@pytest.mark.parametrize("transform", ONES, ids=lambda x: type(x).__name__)
def test_the_same_draws_for_every_kind_of_image(transform):
    results = []
    for kind, img in kinds().items():
        torch.manual_seed(5)
        found = [seen(transform(img)).astype(int) for _ in range(6)]
        assert len({x.tobytes() for x in found}) > 1
        if kind == "PIL" and isinstance(transform, T.RandomResizedCrop):
            continue                                     # Pillow rounds after each direction
        results.append((found, torch.rand(1).item()))
    for found, after in results[1:]:
        assert after == results[0][1]
        for a, b in zip(found, results[0][0]):
            np.testing.assert_allclose(a, b, atol=isinstance(transform, T.RandomResizedCrop))


def test_random_crops_are_parts(device):
    x = picture(200, 2, 6, 5, dtype=torch.float32).to(device)
    torch.manual_seed(0)
    crop = T.RandomCrop((4, 3), padding=(1, 2), per_image=True)
    y = crop(x).cpu().numpy()
    big = np.pad(x.cpu().numpy(), ((0, 0), (0, 0), (2, 2), (1, 1)))
    places = [{(i, j) for i in range(7) for j in range(5)
               if np.array_equal(part, image[:, i:i + 4, j:j + 3])} for part, image in zip(y, big)]
    assert y.shape == (200, 2, 4, 3) and all(places)
    assert {place for found in places for place in found} == {(i, j) for i in range(7)
                                                              for j in range(5)}
    same = T.RandomCrop((4, 3))(x[:50]).cpu().numpy()                    # one draw for all
    assert len({tuple(divmod(int(part[0, 0, 0]) % 60, 5)) for part in same}) == 1
    assert (T.RandomCrop((6, 3), per_image=True)(x)[:, :, :, 0].cpu() % 5).unique().numel() == 3
    with pytest.raises(ValueError, match=r"size \(7, 3\) is larger than input image size \(6, 5\)"):
        T.RandomCrop((7, 3), per_image=True)(x)
    assert T.RandomCrop((6, 5), per_image=True)(x).shape == x.shape


@pytest.mark.parametrize("kind, dim", [(T.RandomHorizontalFlip, 3), (T.RandomVerticalFlip, 2)])
def test_each_image_is_flipped_by_itself(device, kind, dim):
    x = torch.rand(400, 1, 3, 4, device=device)
    torch.manual_seed(0)
    y = kind(0.25, per_image=True)(x).cpu().numpy()
    x = x.cpu().numpy()
    flipped = [np.array_equal(b, np.flip(a, dim - 1)) for a, b in zip(x, y)]
    assert all(f or np.array_equal(a, b) for f, a, b in zip(flipped, x, y))
    assert 70 <= sum(flipped) <= 130


@pytest.mark.parametrize("mode", ["NEAREST", "BILINEAR"])
@pytest.mark.parametrize("antialias", [True, False])
def test_each_image_is_cut_and_resized_as_one_would_be(device, monkeypatch, mode, antialias):
    mode = T.InterpolationMode[mode]
    x = torch.rand(12, 3, 20, 17, device=device)
    transform = T.RandomResizedCrop((8, 10), interpolation=mode, antialias=antialias,
                                    per_image=True)
    places = []
    real = T._places
    monkeypatch.setattr(T, "_places", lambda rooms: places.append((real(rooms), rooms)) or
                        places[-1][0])
    y = transform(x)
    (top, rooms), (left, others) = places
    assert y.shape == (12, 3, 8, 10)
    h, w = 20 + 1 - rooms, 17 + 1 - others
    assert len(set(h.tolist())) > 3 and (0.08 * 340 * 0.8 <= h * w).all() and (h * w <= 340).all()
    for i in range(12):
        one = F.resized_crop(x[i], top[i], left[i], int(h[i]), int(w[i]), (8, 10), mode, antialias)
        np.testing.assert_allclose(y[i].cpu().numpy(), one.cpu().numpy(), atol=1e-5)
    pixels = transform((x * 255).to(torch.uint8))
    assert pixels.dtype == torch.uint8 and pixels.float().std() > 10


def test_crops_that_cannot_be_as_wished():
    """Ratios that no try reaches: the largest middle part with the nearest ratio."""
    for per_image in False, True:
        cut = T.RandomResizedCrop(4, scale=(1.0, 1.0), ratio=(3.0, 3.5), per_image=per_image,
                                  interpolation=T.InterpolationMode.NEAREST)
        x = picture(2, 1, 12, 14, dtype=torch.float32)
        assert cut.get_params(x, cut.scale, cut.ratio) == (3, 0, 5, 14)
        rows = cut(x)[0, 0, :, 0]
        assert rows.tolist() == [14 * i for i in (3, 4, 5, 6)]
    with pytest.raises(NotImplementedError, match=r"per_image=True.* not by bicubic"):
        T.RandomResizedCrop(4, interpolation=T.InterpolationMode.BICUBIC, per_image=True)


@pytest.mark.parametrize("value", [2, (3.0, 4.0), "random"])
def test_each_image_is_erased_by_itself(device, value):
    x = torch.zeros(200, 2, 12, 10, device=device)
    torch.manual_seed(0)
    erase = T.RandomErasing(0.5, value=value, per_image=True)
    y = erase(x)
    assert not x.any() and y.dtype == x.dtype
    y = y.cpu().numpy()
    shares = []
    for image in y:
        rows, columns = np.nonzero(image[0].any(1))[0], np.nonzero(image[0].any(0))[0]
        if len(rows):
            part = image[:, rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
            shares.append(part[0].size / 120)
            assert np.count_nonzero(image) == part.size
            if value != "random":
                wanted = np.broadcast_to(np.reshape(value, (-1, 1, 1)), part.shape)
                np.testing.assert_array_equal(part, wanted)
    assert 70 <= len(shares) <= 130 and len(set(shares)) > 10
    assert 0.01 < min(shares) and max(shares) < 0.4
    assert T.RandomErasing(1.0, value=1, inplace=True, per_image=True)(x) is x and x.any()


def test_a_pipeline_on_a_batch_is_that_on_images():
    """Without randomness, a batch of bytes goes through as its images do."""
    pipeline = T.Compose([T.Pad(2), T.CenterCrop(6), T.Resize(5), T.ToTensor(),
                          T.Grayscale(3), T.Normalize([0.5] * 3, [0.25] * 3)])
    x = torch.randint(0, 256, (4, 3, 8, 7), dtype=torch.uint8)
    whole = pipeline(x)
    assert whole.shape == (4, 3, 5, 5)
    for i in range(4):
        np.testing.assert_allclose(whole[i].numpy(), pipeline(x[i]).numpy(), atol=1e-6)


# Texts -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make, text", [
    (lambda: T.Compose([T.ToTensor(), T.RandomApply([T.Pad(1)])]),
     "Compose(\n    ToTensor()\n    RandomApply(\n    p=0.5\n    Pad(padding=1, fill=0, "
     "padding_mode=constant)\n)\n)"),
    (lambda: T.RandomCrop(3, per_image=True), "RandomCrop(size=(3, 3), padding=None, "
                                              "per_image=True)"),
    (lambda: T.Resize(3), "Resize(size=3, interpolation=bilinear, max_size=None, antialias=True)"),
    (lambda: T.RandomResizedCrop(3), "RandomResizedCrop(size=(3, 3), scale=(0.08, 1.0), ratio="
                                     "(0.75, 1.3333), interpolation=bilinear, antialias=True)"),
    (lambda: T.Lambda(len), "Lambda()"), (lambda: T.Grayscale(), "Grayscale("
                                                                 "num_output_channels=1)")])
def test_reprs(make, text):
    assert repr(make()) == text


@pytest.mark.parametrize("call, error, text", [
    (lambda: T.Lambda(3), TypeError, "Argument lambd should be callable, got 'int'"),
    (lambda: T.Resize("3x3"), ValueError, "it should have 1 or 2 values"),
    (lambda: T.Resize(3.5), TypeError, "Size should be int or sequence. Got <class 'float'>"),
    (lambda: T.Resize(3, "bilinear"), TypeError, "should be a InterpolationMode or"),
    (lambda: T.CenterCrop((1, 2, 3)), ValueError, "only two dimensions"),
    (lambda: T.Pad((1, 2, 3)), ValueError, "1, 2, or 4 element tuple, not a 3 element tuple"),
    (lambda: T.Pad(1, padding_mode="wrap"), ValueError, "Padding mode should be either constant"),
    (lambda: T.Pad(1, fill="black"), TypeError, "Got inappropriate fill arg"),
    (lambda: T.RandomErasing(2), ValueError, "probability should be between 0 and 1"),
    (lambda: T.RandomErasing(value="noise"), ValueError, "it should be 'random'"),
    (lambda: T.RandomErasing(1, value=(1, 2))(torch.ones(3, 9, 9)), ValueError, "a single value or "
                                                                                "3"),
    (lambda: T.RandomResizedCrop(3, scale=1.0), TypeError, "Scale should be a sequence"),
    (lambda: T.RandomCrop(9)(torch.ones(3, 8, 8)), ValueError, "larger than input image size"),
    (lambda: F.hflip(np.ones((2, 2))), TypeError, "img should be PIL Image. Got <class 'numpy"),
    (lambda: F.hflip(torch.ones(2)), TypeError, "Tensor is not a torch image."),
    (lambda: F.rgb_to_grayscale(torch.ones(2, 3, 3)), TypeError, r"\[1, 3\], but found 2"),
    (lambda: F.rgb_to_grayscale(torch.ones(3, 3, 3), 2), ValueError, "either 1 or 3"),
    (lambda: F.erase(3, 0, 0, 1, 1, 0), TypeError, "img should be Tensor Image"),
    (lambda: F.get_dimensions("x"), TypeError, "Unexpected type <class 'str'>")])
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_range_the_wrong_way_round():
    with pytest.warns(UserWarning, match="should be of kind") as caught:
        T.RandomErasing(scale=(0.3, 0.1))
    assert caught[0].filename == __file__


def test_public_names_have_docstrings():
    for module in T, F:
        for name, made in vars(module).items():
            if not name.startswith("_") and getattr(made, "__module__", "") == module.__name__:
                assert inspect.getdoc(made), name
