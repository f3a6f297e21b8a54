"""torch.utils.tensorboard: what SummaryWriter writes, read by TensorBoard's own reader."""
from __future__ import annotations

import importlib.util
import sys

import pytest

import gpugrad as torch


def test_without_the_package(monkeypatch):
    for name in list(sys.modules):
        if name.split(".")[0] == "tensorboard" or name == "gpugrad.utils.tensorboard":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        from gpugrad.utils.tensorboard import SummaryWriter  # noqa: F401


@pytest.fixture
def writer(tmp_path):
    pytest.importorskip("tensorboard")
    from gpugrad.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as w:
        yield w


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_numbers(writer, tmp_path, device):
    for i in range(3):
        writer.add_scalar("loss", torch.tensor(1 / (i + 1), device=device), i)
    writer.add_scalar("double", 0.1, 1, new_style=True, double_precision=True)
    writer.add_scalars("both", {"a": 1, "b": 2}, 3)
    writer.add_histogram("h", torch.arange(100.0, device=device), 1)
    writer.add_histogram("few", torch.arange(100.0), 1, bins="auto", max_bins=5)
    writer.add_text("t", "**x**", 1)
    writer.add_tensor("whole", torch.arange(6, device=device).reshape(2, 3))
    writer.add_pr_curve("pr", torch.tensor([1, 0, 1, 0]), torch.tensor([0.9, 0.1, 0.6, 0.7]))
    writer.add_hparams({"lr": 0.1, "name": "sgd", "on": True}, {"accuracy": 0.9}, run_name="run",
                       hparam_domain_discrete={"name": ["sgd", "adam"]})
    writer.flush()
    found = read(tmp_path)
    assert [(e.step, e.value) for e in found.Scalars("loss")] == [
        (0, 1), (1, 0.5), (2, pytest.approx(1 / 3))]
    (h,) = found.Histograms("h")
    h = h.histogram_value
    assert (h.min, h.max, h.num, sum(h.bucket)) == (0, 99, 100, 100)
    assert len(h.bucket) == len(h.bucket_limit)
    (text,) = found.Tensors("t/text_summary")
    assert text.tensor_proto.string_val == [b"**x**"]
    assert {"double", "whole", "pr"} <= set(found.Tags()["tensors"])
    assert read(tmp_path / "both_a").Scalars("both")[0].value == 1
    run = read(tmp_path / "run")
    assert run.Scalars("accuracy")[0].value == pytest.approx(0.9)
    assert "_hparams_/experiment" in run.summary_metadata


@pytest.mark.skipif(importlib.util.find_spec("PIL") is None, reason="Pillow is not installed")
def test_pictures(writer, tmp_path):
    import io

    from PIL import Image

    picture = torch.zeros(3, 4, 6)
    picture[0, 1, 2] = 1
    writer.add_image("one", picture)
    writer.add_image("hw", torch.ones(4, 6), dataformats="HW")
    writer.add_images("many", torch.rand(10, 1, 4, 6))
    with pytest.raises(AssertionError, match=r"tensor shape: \(3, 4, 6\), input_format: HW"):
        writer.add_image("bad", picture, dataformats="HW")
    writer.flush()
    found = read(tmp_path)
    (one,) = found.Images("one")
    assert (one.height, one.width) == (4, 6)
    pixels = Image.open(io.BytesIO(one.encoded_image_string))
    assert pixels.getpixel((2, 1)) == (255, 0, 0) and pixels.getpixel((0, 0)) == (0, 0, 0)
    (many,) = found.Images("many")
    assert (many.height, many.width) == (8, 48)


def test_what_is_not_there(writer):
    for call in (lambda: writer.add_graph(None), lambda: writer.add_video("v", None),
                 lambda: writer.add_embedding(None)):
        with pytest.raises(NotImplementedError, match="not supported"):
            call()
    with pytest.raises(AssertionError, match="scalar should be 0D"):
        writer.add_scalar("x", torch.ones(2))
    with pytest.raises(ValueError, match="no element"):
        writer.add_histogram("x", torch.ones(0))
