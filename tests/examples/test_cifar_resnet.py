"""The ResNet's program: it learns shapes, resumes to the bit, and reads CIFAR-10's own files."""
from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
from example_runs import EXAMPLES, PNG, After, assert_resumes

import gpugrad as torch
from gpugrad.vision import datasets


@pytest.fixture
def resnet(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import cifar_resnet

    return cifar_resnet


@pytest.fixture
def data(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import cifar_data

    return cifar_data


@pytest.fixture
def tiny(resnet, data):
    """tiny(device, ...) makes a run of three batches an epoch on a few shapes."""
    shapes = data.shapes(20, 6)

    def make(device="cpu", **changes):
        settings = {**resnet.DEFAULTS, **resnet.SMOKE, "width": 2, "batch_size": 8, "epochs": 2,
                    **changes}
        return resnet.Run(settings, shapes, torch.device(device))

    return make


def test_a_run_learns_and_leaves_a_checkpoint_and_a_picture(run_example, tmp_path):
    pytest.importorskip("matplotlib", reason="the example draws with matplotlib")
    run = run_example("cifar_resnet.py", "--smoke", "--width", 4, "--epochs", 2, "--out", tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("coloured shapes: 800 images to learn from, 200 held out")
    lines = run.stderr.splitlines()
    found = [re.fullmatch(rf"epoch {i + 1}/2  loss (\d\.\d{{4}})  accuracy +\d+\.\d %  "
                          r"[\d,]+ images/s  test +(\d+\.\d) %", line)
             for i, line in enumerate(lines)]
    assert len(found) == 2 and all(found), lines
    assert float(found[1][1]) < float(found[0][1]) - 0.2
    assert run.stdout.endswith(f"test accuracy: {found[1][2]} %\n") and float(found[1][2]) > 15
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "cifar_resnet.png"]
    assert (tmp_path / "cifar_resnet.png").read_bytes()[:8] == PNG
    assert (tmp_path / "cifar_resnet.png").stat().st_size > 60_000

    state = torch.load(tmp_path / "checkpoint.pt")
    assert (state["epoch"], state["step"], state["order"]) == (2, 0, None)
    assert state["history"][-1]["lr"] < 1e-4 < state["history"][0]["lr"]    # one cycle is over


@pytest.mark.parametrize("batches", [0, 1])
def test_a_run_stopped_after_any_batch_goes_on_exactly(resnet, tiny, tmp_path, batches):
    assert tiny().batches == 3
    assert_resumes(resnet, tiny, resnet.Run.train_epoch, 2, batches, tmp_path / "checkpoint.pt")


def test_the_same_on_every_device(tiny, device):
    found = []
    for where in "cpu", device:
        run = tiny(where, lr=0.01)
        run.train_epoch(After(0))
        found.append((run.loss_sum.item(), run.right.item()))
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_images_are_moved_and_mirrored(resnet):
    torch.manual_seed(0)
    images = torch.arange(1.0, 1 + 100 * 2 * 6 * 5).reshape(100, 2, 6, 5)
    moved = resnet.augmented(images)
    assert moved.shape == images.shape
    kinds = set()
    for before, after in zip(images.numpy(), moved.numpy()):
        padded = np.pad(before, ((0, 0), (4, 4), (4, 4)))
        kinds.update(found := {
            (top, left, mirror) for top in range(9) for left in range(9) for mirror in (1, -1)
            if np.array_equal(after, padded[:, top:top + 6, left:left + 5][..., ::mirror])})
        assert found
    assert {mirror for _, _, mirror in kinds} == {1, -1}
    assert {top for top, _, _ in kinds} == {left for _, left, _ in kinds} == set(range(9))


def test_it_is_resnet18(resnet):
    net = resnet.ResNet18()
    assert sum(p.numel() for p in net.parameters()) == 11_173_962
    small = resnet.ResNet18(4).eval()
    shapes = []
    for block in small.blocks:
        block.register_forward_hook(lambda _, args, out: shapes.append(tuple(out.shape[1:])))
    assert small(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert shapes[::2] == shapes[1::2] == [(4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4)]


def test_shapes_are_the_same_every_time_and_as_many_of_each(data):
    images, again = data.shapes(30, 20), data.shapes(30, 20)
    assert images.train_images.shape == (30, 3, 32, 32) and images.train_images.dtype == np.uint8
    np.testing.assert_array_equal(images.train_images, again.train_images)
    np.testing.assert_array_equal(np.bincount(images.train_labels), [3] * 10)
    np.testing.assert_array_equal(np.bincount(images.test_labels), [2] * 10)
    assert len(set(images.names)) == 10
    assert not np.array_equal(images.train_images[:20], images.test_images)


# CIFAR-10's files --------------------------------------------------------------------------------

def test_its_files_are_read(data, monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (4, 3072), np.uint8) for _ in range(6)]
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for name, images in zip(names, batches):
        (tmp_path / name).write_bytes(pickle.dumps({"data": images, "labels": [3, 1, 0, 2]}))
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({"label_names": [*"abcd"]}))
    cifar = datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [[name, None] for name in names[:5]])
    monkeypatch.setattr(cifar, "test_list", [[names[5], None]])
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": None})
    found = data.cifar10(tmp_path)
    assert found.title == "CIFAR-10" and found.names == [*"abcd"]
    np.testing.assert_array_equal(found.train_images.reshape(20, 3072), np.concatenate(batches[:5]))
    np.testing.assert_array_equal(found.test_images, batches[5].reshape(4, 3, 32, 32))
    np.testing.assert_array_equal(found.train_labels, [3, 1, 0, 2] * 5)
    assert found.test_labels.dtype == np.int64


def test_missing_files_are_named_with_where_to_get_them(resnet, tmp_path):
    with pytest.raises(SystemExit) as caught:
        resnet.main(["--data-dir", str(tmp_path / "cifar"), "--out", str(tmp_path / "out")])
    message = str(caught.value)
    assert f"there is no data_batch_1 in {tmp_path / 'cifar'}" in message
    assert "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz" in message
    assert "cifar-10-batches-py" in message and "--synthetic" in message
    assert not list(tmp_path.iterdir())


def test_a_corrupt_file_is_named(data, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_text("<html>404</html>")
    with pytest.raises(data.DataError, match=r"cifar-10-python\.tar\.gz is corrupt"):
        data.cifar10(tmp_path)


def test_options_that_a_resumed_run_cannot_change(resnet, tiny, tmp_path):
    from program import save_checkpoint

    save_checkpoint(tmp_path / "c.pt", tiny().state())
    for option in ("--epochs", "9"), ("--lr", "0.3"), ("--width", "64"):
        with pytest.raises(SystemExit, match=f"{' '.join(option)}.* doesn't go with --resume"):
            resnet.main(["--resume", str(tmp_path / "c.pt"), *option])
