"""gpugrad.vision against torchvision: pixels, draws, samples, reprs, signatures and errors."""
from __future__ import annotations

import inspect
import pickle
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
Image = pytest.importorskip("PIL.Image")

import gpugrad  # noqa: E402
from gpugrad.vision import datasets, transforms  # noqa: E402

theirs, ours = torchvision.transforms, transforms


def case(name, *args, **options):
    return pytest.param(name, args, options, id=f"{name}{args}{options or ''}")


CASES = [
    case("ToTensor"), case("PILToTensor"),
    case("Resize", 7), case("Resize", (5, 31)), case("Resize", [40, 17]),
    case("Resize", 9, max_size=11), case("Resize", (12, 9), antialias=False),
    case("Resize", (40, 17), interpolation="NEAREST"),
    case("Resize", (40, 17), interpolation="NEAREST_EXACT"),
    case("Resize", (10, 37), interpolation="BICUBIC"),
    case("CenterCrop", 10), case("CenterCrop", (40, 11)),
    case("Pad", 3), case("Pad", (1, 2), fill=7), case("Pad", (-1, 2, 3, -4)),
    *(case("Pad", (1, 2, 3, 4), padding_mode=mode) for mode in ("edge", "reflect", "symmetric")),
    case("RandomCrop", 10), case("RandomCrop", (12, 9), padding=4),
    case("RandomCrop", (33, 12), pad_if_needed=True, padding_mode="reflect"),
    case("RandomCrop", 50), case("RandomHorizontalFlip"), case("RandomVerticalFlip", 0.3),
    case("RandomResizedCrop", 16),
    case("RandomResizedCrop", (8, 20), scale=(0.3, 0.9), ratio=(0.2, 5.0)),
    case("RandomResizedCrop", 8, ratio=(5.0, 6.0)),
    case("RandomErasing", 1.0), case("RandomErasing", value="random"),
    case("RandomErasing", value=(1, 2, 3)), case("Grayscale"), case("Grayscale", 3),
    case("Normalize", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)), case("Normalize", [0.5], [0.0]),
    case("ConvertImageDtype", "int16"), case("ConvertImageDtype", "float64")]


def made(module, library, name, args, options):
    if "interpolation" in options:
        options = {**options, "interpolation": module.InterpolationMode[options["interpolation"]]}
    if name == "ConvertImageDtype":
        args = [getattr(library, args[0])]
    return getattr(module, name)(*args, **options)


def outcome(library, transform, img):
    """What three calls give, and the generator's next number; or the error."""
    library.manual_seed(3)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = [transform(img) for _ in range(3)]
    except (TypeError, ValueError, RuntimeError) as error:
        return type(error), str(error).replace("gpugrad._tensor.Tensor", "torch.Tensor")
    arrays = [x.numpy() if isinstance(x, library.Tensor) else np.asarray(x) for x in results]
    return type(results[0]).__name__, arrays, library.rand(1).item()


@pytest.mark.parametrize("name, args, options", CASES)
@pytest.mark.parametrize("shape", [(20, 29, 3), (28, 28), (31, 16, 3)])
def test_transforms(name, args, options, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    whole = np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))
    batch = np.stack([whole, whole[:, ::-1]])
    t, g = (made(*pair, name, args, options) for pair in ((theirs, torch), (ours, gpugrad)))
    assert repr(t) == repr(g)
    for kind, x in {"PIL": Image.fromarray(pixels), "array": pixels, "bytes": whole,
                    "floats": whole / np.float32(255), "batch": batch}.items():
        tensor = isinstance(x, np.ndarray) and kind != "array"
        if kind in ("bytes", "batch") and name == "ToTensor":
            continue                                     # gpugrad takes them
        if kind in ("PIL", "array") and name == "RandomErasing":
            with pytest.raises(TypeError, match="img should be Tensor Image"):   # an AttributeError
                g(x)
            continue
        expected = outcome(torch, t, torch.from_numpy(x) if tensor else x)
        found = outcome(gpugrad, g, gpugrad.from_numpy(x) if tensor else x)
        if isinstance(expected[0], type):
            assert found == expected, kind
            continue
        assert found[0] == expected[0] and found[2] == expected[2], kind
        for a, b in zip(found[1], expected[1], strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape, kind
            if a.dtype == np.uint8:      # halves may be rounded either way
                different = a != b
                assert np.abs(a.astype(int) - b).max() <= 1 and different.mean() < 0.05, kind
            else:
                np.testing.assert_allclose(a, b, atol=2e-6, rtol=1e-6, err_msg=kind)


def test_signatures():
    """torchvision's parameters and defaults, and after them nothing but keywords."""
    pairs = [(getattr(theirs, name), made) for name, made in vars(ours).items()
             if inspect.isclass(made) and made.__module__ == ours.__name__ and name[0] != "_"]
    pairs += [(getattr(theirs.functional, name), made)
              for name, made in vars(ours.functional).items()
              if inspect.isfunction(made) and hasattr(theirs.functional, name) and name[0] != "_"]
    pairs += [(getattr(torchvision.datasets, name), getattr(datasets, name)) for name in (
        "MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100", "ImageFolder", "DatasetFolder",
        "FakeData", "VisionDataset")]
    assert len(pairs) > 35
    for t, g in pairs:
        listed = [[(p.name, getattr(p.default, "value", p.default)) for p in
                   inspect.signature(x).parameters.values() if p.kind is not p.KEYWORD_ONLY]
                  for x in (t, g)]
        for (name, default), (own_name, own) in zip(*listed, strict=True):
            if str(default) == "torch.float32" or callable(default):
                default = own
            assert (name, default) == (own_name, own), f"{t}: {name}"


def test_what_is_known_of_files():
    for kind in "MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100":
        t, g = getattr(torchvision.datasets, kind), getattr(datasets, kind)
        for name in ("resources", "classes", "base_folder", "url", "filename", "tgz_md5",
                     "train_list", "test_list", "meta"):
            assert getattr(t, name, None) == getattr(g, name, None), (kind, name)
        assert set(getattr(g, "mirrors", [])) & set(getattr(t, "mirrors", g.mirrors))


def test_samples_and_reprs(tmp_path):
    rng = np.random.default_rng(0)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, n in ("train", 6), ("t10k", 4):
        for what, array in (("images-idx3", rng.integers(0, 256, (n, 28, 28), np.uint8)),
                            ("labels-idx1", rng.integers(0, 10, n, np.uint8))):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            (raw / f"{part}-{what}-ubyte").write_bytes(head + array.tobytes())
    sets = [(torchvision.datasets.MNIST, datasets.MNIST)]
    for kind, files in (("CIFAR10", [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]),
                        ("CIFAR100", ["train", "test"])):
        pair = []
        for module in torchvision.datasets, datasets:
            base = getattr(module, kind)
            pair.append(type(kind, (base,), {
                "train_list": [[name, None] for name in files[:-1]],
                "test_list": [[files[-1], None]], "meta": {**base.meta, "md5": None}}))
        sets.append(tuple(pair))
        folder = tmp_path / base.base_folder
        folder.mkdir()
        labels = "labels" if kind == "CIFAR10" else "fine_labels"
        for name in files:
            (folder / name).write_bytes(pickle.dumps(
                {"data": rng.integers(0, 256, (3, 3072), np.uint8), labels: [2, 0, 1]}))
        (folder / base.meta["filename"]).write_bytes(pickle.dumps({base.meta["key"]: [*"abc"]}))
    for name in "b/1.png", "a/2.png", "a/3.PNG":
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 9), np.uint8)).save(tmp_path / "images" / name)
    for t, g in sets:
        for train in True, False:
            a, b = (made(str(tmp_path), train, steps.Compose([steps.ToTensor(), steps.Resize(9)]),
                         abs) for made, steps in ((t, theirs), (g, ours)))
            check_sets(a, b)
            assert a.classes == b.classes and a.class_to_idx == b.class_to_idx
            assert type(a.data).__name__ == type(b.data).__name__
            assert a.data.shape == b.data.shape and type(a.targets).__name__ == type(
                b.targets).__name__
    a, b = (module.ImageFolder(tmp_path / "images", steps.ToTensor())
            for module, steps in ((torchvision.datasets, theirs), (datasets, ours)))
    check_sets(a, b)
    assert (a.samples, a.imgs, a.targets, a.classes) == (b.samples, b.imgs, b.targets, b.classes)
    a, b = (module.FakeData(5, (3, 12, 11), 4, steps.ToTensor(), random_offset=7)
            for module, steps in ((torchvision.datasets, theirs), (datasets, ours)))
    check_sets(a, b, few=3)


def check_sets(a, b, few=0):
    assert repr(a) == repr(b) and len(a) == len(b)
    for i in range(len(a)):
        (x, label), (y, own) = a[i], b[i]
        assert (label, type(label)) == (own, type(own)) and x.shape == tuple(y.shape)
        assert (np.abs(x.numpy() - y.numpy()) > 1e-6).sum() <= few


NETWORKS = ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "vgg11_bn"]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    torch.manual_seed(0)
    a = getattr(torchvision.models, name)(num_classes=10).eval()
    gpugrad.manual_seed(0)
    b = getattr(gpugrad.vision.models, name)(num_classes=10).eval()
    assert repr(a) == repr(b)
    for (k, v), (key, value) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert k == key
        np.testing.assert_allclose(value.numpy(), v.numpy(), 1e-5, 1e-6)
    x = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    want = a(torch.from_numpy(x)).detach().numpy()
    got = b(gpugrad.from_numpy(x)).detach().numpy()
    assert abs(got - want).max() < 1e-5 * abs(want).max()


def test_networks_options():
    options = {"replace_stride_with_dilation": [False, True, True], "zero_init_residual": True}
    torch.manual_seed(0)
    a = torchvision.models.resnet50(**options)
    gpugrad.manual_seed(0)
    b = gpugrad.vision.models.resnet50(**options)
    assert repr(a) == repr(b)
    for v, value in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        np.testing.assert_allclose(value.numpy(), v.numpy(), 1e-5, 1e-6)


def test_trained_weights():
    for name in gpugrad.vision.models.list_models():
        want = torchvision.models.get_model_weights(name)
        got = getattr(gpugrad.vision.models, want.__name__)
        assert [*got.__members__] == [k for k in want.__members__ if k != "IMAGENET1K_FEATURES"]
        for key, weights in got.__members__.items():
            assert weights.url == want[key].url
            assert weights.value[1] == want[key].transforms.keywords.get("resize_size", 256)
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 256, (300, 400, 3), np.uint8))
    want = torchvision.models.ResNet50_Weights.DEFAULT.transforms()(picture)
    got = gpugrad.vision.models.ResNet50_Weights.DEFAULT.transforms()(picture)
    np.testing.assert_allclose(got.numpy(), want.numpy(), atol=1e-6)


@pytest.mark.parametrize("options", [
    {}, {"nrow": 3, "padding": 1}, {"normalize": True},
    {"normalize": True, "scale_each": True, "pad_value": 0.5},
    {"normalize": True, "value_range": (-1.0, 1.0)}])
def test_make_grid(options):
    for shape in (5, 3, 6, 7), (5, 1, 6, 7), (1, 3, 4, 4), (3, 4, 4), (1, 4, 4), (4, 5):
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        want = torchvision.utils.make_grid(torch.from_numpy(x), **options).numpy()
        got = gpugrad.vision.utils.make_grid(gpugrad.from_numpy(x), **options).numpy()
        np.testing.assert_allclose(got, want, atol=1e-6)
