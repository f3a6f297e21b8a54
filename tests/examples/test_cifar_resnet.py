"""The ResNet's program: it learns shapes, resumes to the bit, and reads CIFAR-10's own files."""
from __future__ import annotations

import hashlib
import io
import pickle
import re
import tarfile

import numpy as np
import pytest
from example_runs import EXAMPLES, PNG, After, assert_resumes

import gpugrad as torch


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

class Python2(pickle._Pickler):
    """Pickles bytes and text alike, as the strings of Python 2, with which the files were made."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        content = text if isinstance(text, bytes) else text.encode("latin-1")
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)
        self.memoize(text)

    dispatch[bytes] = dispatch[str] = save_string


def pickled(batch):
    file = io.BytesIO()
    Python2(file, 2).dump(batch)
    return file.getvalue()


@pytest.fixture
def small(data, monkeypatch):
    """Six small batches in both forms, in place of CIFAR-10's: contents by name, and arrays."""
    rng = np.random.default_rng(0)
    binary, python = data.FORMS
    contents, arrays = {}, []
    for a, b in zip(binary.files, python.files, strict=True):
        images = rng.integers(0, 256, (4, 3072), np.uint8)
        labels = rng.integers(0, 10, 4, np.uint8)
        contents[a] = np.concatenate([labels[:, None], images], 1).tobytes()
        contents[b] = pickled({"data": images, "labels": labels.tolist()})
        arrays.append((images.reshape(4, 3, 32, 32), labels))
    monkeypatch.setattr(data, "FORMS", [
        form._replace(files={name: hashlib.new(form.hash, contents[name]).hexdigest()
                             for name in form.files}) for form in data.FORMS])
    return contents, arrays


def pack(path, form, contents):
    with tarfile.open(path, "w:gz") as archive:
        folder = path.parent / form.folder
        folder.mkdir()
        for name in form.files:
            (folder / name).write_bytes(contents[name])
            archive.add(folder / name, f"{form.folder}/{name}")
            (folder / name).unlink()
        folder.rmdir()


@pytest.mark.parametrize("form", [0, 1])
@pytest.mark.parametrize("place", ["archive", "folder below", "folder"])
def test_files_are_read(data, small, tmp_path, form, place):
    contents, arrays = small
    form = data.FORMS[form]
    if place == "archive":
        pack(tmp_path / form.archive, form, contents)
    else:
        folder = tmp_path / form.folder if place == "folder below" else tmp_path
        folder.mkdir(exist_ok=True)
        for name in form.files:
            (folder / name).write_bytes(contents[name])
    found = data.cifar10(tmp_path)
    assert found.title == "CIFAR-10" and found.names[:2] == ["airplane", "automobile"]
    np.testing.assert_array_equal(found.train_images, np.concatenate([x for x, _ in arrays[:5]]))
    np.testing.assert_array_equal(found.train_labels, np.concatenate([y for _, y in arrays[:5]]))
    np.testing.assert_array_equal(found.test_images, arrays[5][0])
    np.testing.assert_array_equal(found.test_labels, arrays[5][1])
    assert found.train_labels.dtype == np.int64


def test_missing_files_are_named_with_where_to_get_them(resnet, tmp_path):
    with pytest.raises(SystemExit) as caught:
        resnet.main(["--data-dir", str(tmp_path / "cifar"), "--out", str(tmp_path / "out")])
    message = str(caught.value)
    assert f"CIFAR-10 is not in {tmp_path / 'cifar'}" in message and "--synthetic" in message
    for text in ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "test_batch.bin",
                 "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "data_batch_5"):
        assert text in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["changed", "cut short", "not an archive", "incomplete"])
def test_a_corrupt_file_is_named(data, small, tmp_path, kind):
    contents, _ = small
    form = data.FORMS[1]
    path = tmp_path / form.archive
    if kind == "changed":
        contents["data_batch_3"] = contents["data_batch_3"][:-5] + b"12345"
    if kind == "incomplete":
        form = form._replace(files={name: "" for name in form.files if name != "test_batch"})
    pack(path, form, contents)
    if kind == "cut short":
        path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    if kind == "not an archive":
        path.write_text("<html>404</html>")
    with pytest.raises(data.DataError, match=r"cifar-10-python\.tar\.gz.* is corrupt") as caught:
        data.cifar10(tmp_path)
    words = {"changed": "data_batch_3 is corrupt: its MD5 is not",
             "incomplete": "test_batch is not in it"}
    assert words.get(kind, "Fetch it anew") in str(caught.value)


def test_a_pickle_runs_nothing(data):
    class Evil:
        def __reduce__(self):
            return print, ("evil",)

    with pytest.raises(pickle.UnpicklingError, match="print has no place in CIFAR-10"):
        data._pickled(pickle.dumps(Evil(), 2))


def test_options_that_a_resumed_run_cannot_change(resnet, tiny, tmp_path):
    from program import save_checkpoint

    save_checkpoint(tmp_path / "c.pt", tiny().state())
    for option in ("--epochs", "9"), ("--lr", "0.3"), ("--width", "64"):
        with pytest.raises(SystemExit, match=f"{' '.join(option)}.* doesn't go with --resume"):
            resnet.main(["--resume", str(tmp_path / "c.pt"), *option])
