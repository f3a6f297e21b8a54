"""The DCGAN's program: it learns to draw, resumes to the bit, stops at Ctrl-C, what it refuses."""
from __future__ import annotations

import re
import signal
import sys

import numpy as np
import pytest
from example_runs import EXAMPLES, PNG, assert_same

import gpugrad as torch

FEW = ("--smoke", "--width", 4, "--latent", 8, "--batch-size", 64)


@pytest.fixture(scope="module")
def whole_run(run_example, tmp_path_factory):
    """A smoke run of three epochs, as a user starts it: its folder and what it printed."""
    pytest.importorskip("sklearn", reason="the example's data are scikit-learn's")
    pytest.importorskip("matplotlib", reason="the example draws with matplotlib")
    out = tmp_path_factory.mktemp("whole")
    return out, run_example("dcgan.py", *FEW, "--out", out)


@pytest.fixture
def dcgan(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import dcgan

    return dcgan


def tiny(dcgan, images, device="cpu", **changes):
    """A run on images (n, 32, 32), with narrow nets."""
    settings = {**dcgan.DEFAULTS, "width": 4, "latent": 4, "batch_size": 8, **changes}
    return dcgan.Run(settings, images[:, None].astype(np.float32), torch.device(device))


def crosses(count):
    """Images (count, 32, 32) of one and the same cross."""
    image = np.zeros((32, 32))
    image[:, 13:19] = image[13:19] = 1
    return np.stack([image] * count)


def test_a_run_leaves_a_checkpoint_and_a_picture(whole_run):
    out, run = whole_run
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("scikit-learn's digits: 512 images of 32x32\nDCGAN with ")
    lines = run.stderr.splitlines()
    assert len(lines) == 3
    for i, line in enumerate(lines):
        assert re.fullmatch(
            rf"epoch {i + 1}/3  loss of the generator \d\.\d{{3}}, discriminator \d\.\d{{3}}  "
            r"takes real for real \d+ %, fake for real \d+ %", line), line
    assert re.search(r"\ntaken for real: \d+ % of its digits in the last epoch\n\Z", run.stdout)
    assert sorted(p.name for p in out.iterdir()) == ["checkpoint.pt", "dcgan.png"]
    assert (out / "dcgan.png").read_bytes()[:8] == PNG
    assert (out / "dcgan.png").stat().st_size > 50_000

    history = torch.load(out / "checkpoint.pt")["history"]
    assert history[-1]["discriminator"] < history[0]["discriminator"] < 2
    first, last = (history[i]["samples"] for i in (0, -1))
    assert first.shape == (12, 32, 32) and first.dtype == torch.uint8
    assert not torch.equal(first, last)


def test_it_learns_to_draw(dcgan):
    images = crosses(160)
    run = tiny(dcgan, images, width=8, lr=0.002)

    def distance():
        return float(np.abs(run.draw(run.watched).numpy() - images[0]).mean())

    before = distance()
    for _ in range(6):
        run.train_epoch()
    assert before > 0.45 and distance() < 0.15, (before, distance())
    assert np.array_equal(run.history[-1]["samples"].numpy(),
                          (255 * run.draw(run.watched)).round().numpy())


def test_what_draws_is_an_average_of_the_generators(dcgan):
    run = tiny(dcgan, crosses(16))
    generators = []
    for _ in range(3):
        run.step(torch.zeros(4, 1, 32, 32))
        generators.append({name: x.clone() for name, x in run.generator.state_dict().items()})
    for name, x in run.average.module.state_dict().items():
        first, second, third = (g[name].double() for g in generators)
        second = first * 2 / 11 + second * 9 / 11           # the share kept is (n + 1) / (n + 10)
        expected = second * 3 / 12 + third * 9 / 12
        if x.is_floating_point():
            assert torch.allclose(x.double(), expected, atol=1e-6), name
    assert dcgan.moving_average(torch.zeros(()), torch.ones(()), torch.tensor(10 ** 6)).item() \
        == pytest.approx(0.005, rel=1e-3)


def test_each_net_is_taught_its_own_part(dcgan):
    """Both losses by hand, and the discriminator's weights are as its own step left them."""
    run = tiny(dcgan, crosses(16))
    images = torch.rand(8, 1, 32, 32)
    torch.manual_seed(5)
    drawn, told, real, fake = run.step(images).tolist()

    again = tiny(dcgan, crosses(16))
    torch.manual_seed(5)
    fakes = again.generator(again.noise(8))
    on_real = again.discriminator(images).sigmoid()
    on_fake = again.discriminator(fakes.detach()).sigmoid()
    by_hand = (-0.9 * on_real.log() - 0.1 * (1 - on_real).log() - (1 - on_fake).log()).mean()
    by_hand.backward()
    again.optimizers[1].step()
    assert told == pytest.approx(by_hand.item(), rel=1e-5)
    assert (real, fake) == ((on_real > 0.5).float().mean().item(),
                            (on_fake > 0.5).float().mean().item())
    for a, b in zip(run.discriminator.parameters(), again.discriminator.parameters()):
        assert a.requires_grad and torch.allclose(a, b, atol=1e-6)
    assert drawn == pytest.approx(-again.discriminator(fakes).sigmoid().log().mean().item(),
                                  rel=1e-4)


def test_the_same_on_every_device(dcgan, device):
    images = np.random.default_rng(0).random((16, 32, 32))
    found = []
    for name in ("cpu", device):
        run = tiny(dcgan, images, name, width=2)
        run.train_epoch()
        found.append(run.history[0])
    a, b = found
    for name in ("generator", "discriminator", "real", "fake"):
        assert b[name] == pytest.approx(a[name], rel=1e-4), name
    assert (a["samples"].int() - b["samples"].int()).abs().max() <= 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_leaves_a_checkpoint_that_goes_on_bit_for_bit(whole_run, start_example, run_example,
                                                             tmp_path):
    process = start_example("dcgan.py", *FEW, "--out", tmp_path)
    try:
        assert process.stderr.readline().startswith("epoch 1/3")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in err, err
    assert re.search(r"stopped; go on with\n +python .*dcgan\.py --resume .*checkpoint\.pt\n",
                     out), out
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]

    run = run_example("dcgan.py", "--resume", tmp_path / "checkpoint.pt")
    assert run.returncode == 0, run.stderr
    assert_same(torch.load(whole_run[0] / "checkpoint.pt"), torch.load(tmp_path / "checkpoint.pt"))


def test_the_epochs_shown_are_ever_farther_apart(dcgan):
    assert dcgan.milestones(1) == [1]
    assert dcgan.milestones(3) == [1, 2, 3]
    shown = dcgan.milestones(100)
    assert len(shown) == 8 and shown[0] == 1 and shown[-1] == 100
    assert np.all(np.diff(np.diff(shown)) >= 0)


def test_what_it_refuses(dcgan, whole_run, tmp_path):
    checkpoint = whole_run[0] / "checkpoint.pt"
    state = torch.load(checkpoint)
    state["nets"][0]["0.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "other.pt")
    (tmp_path / "damaged.pt").write_bytes(checkpoint.read_bytes()[:500])
    for options, text in (
            (["--resume", checkpoint, "--width", 7], "--width 7 doesn't go with --resume"),
            (["--resume", tmp_path / "other.pt"], "doesn't fit this program"),
            (["--resume", tmp_path / "damaged.pt"], "damaged or not a checkpoint"),
            (["--resume", tmp_path / "none.pt"], "there is no checkpoint"),
            (["--batch-size", 2000], "--batch-size 2000 is more than the 1,437 images"),
            (["--device", "tpu"], "--device tpu")):
        with pytest.raises(SystemExit, match=text):
            dcgan.main([*map(str, options), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
