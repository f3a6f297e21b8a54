"""Libraries written for PyTorch, unchanged: what they compute here and there from the same seed.

Each program runs twice, by ``python -m gpugrad run`` and with PyTorch; the numbers that it prints
are compared. A library that isn't installed is skipped.
"""
from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
DATA = """
x = torch.randn(64, 4)
y = (x.sum(1) > 0).long()
data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
"""
PROGRAMS = {
    "pytorch_lightning": DATA + """
import pytorch_lightning as pl
class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    def training_step(self, batch, i):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss
    def validation_step(self, batch, i):
        self.log("val", F.cross_entropy(self.net(batch[0]), batch[1]))
    def configure_optimizers(self):
        adam = torch.optim.Adam(self.parameters(), lr=0.05)
        return [adam], [torch.optim.lr_scheduler.StepLR(adam, 1)]
trainer = pl.Trainer(max_epochs=3, logger=False, enable_progress_bar=False, accelerator="cpu",
                     default_root_dir=folder)
trainer.fit(Model(), data, data)
again = Model.load_from_checkpoint(trainer.checkpoint_callback.best_model_path)
print(trainer.callback_metrics["loss"].item(), trainer.callback_metrics["val"].item(),
      again.net[0].weight.sum().item())
""",
    "stable_baselines3": """
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
def size(model):
    return sum(p.abs().sum().item() for p in model.policy.parameters())
model = PPO("MlpPolicy", "CartPole-v1", seed=0, n_steps=128, device="cpu").learn(256)
model.save(folder + "/ppo")
print(size(model), size(PPO.load(folder + "/ppo")))
for kind, world, kw in ((A2C, "CartPole-v1", {}), (DQN, "CartPole-v1", {"learning_starts": 50}),
                        (SAC, "Pendulum-v1", {"learning_starts": 50}),
                        (TD3, "Pendulum-v1", {"learning_starts": 50})):
    print(size(kind("MlpPolicy", world, seed=0, device="cpu", **kw).learn(100)))
""",
    "skorch": DATA + """
from skorch import NeuralNetClassifier
model = NeuralNetClassifier(net, criterion=nn.CrossEntropyLoss, max_epochs=4, lr=0.1, verbose=0,
                            iterator_train__shuffle=True, train_split=None)
model.fit(x.numpy(), y.numpy())
print(*model.history[:, "train_loss"], model.score(x.numpy(), y.numpy()))
""",
    "ignite": DATA + """
from ignite.engine import create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Accuracy, Loss
trainer = create_supervised_trainer(net, torch.optim.SGD(net.parameters(), 0.1), F.cross_entropy)
trainer.run(data, max_epochs=2)
metrics = {"a": Accuracy(), "l": Loss(F.cross_entropy)}
print(*create_supervised_evaluator(net, metrics=metrics).run(data).metrics.values())
""",
    "torchmetrics": """
from torchmetrics import classification as C, regression as R
p, t = torch.rand(100, 5).softmax(-1), torch.randint(0, 5, (100,))
for name in ("Accuracy F1Score Precision Recall ConfusionMatrix AUROC AveragePrecision CohenKappa "
             "MatthewsCorrCoef JaccardIndex Specificity StatScores HingeLoss").split():
    print(*getattr(C, "Multiclass" + name)(5)(p, t).flatten().tolist())
x = torch.randn(50)
for name in "MeanSquaredError R2Score PearsonCorrCoef SpearmanCorrCoef KendallRankCorrCoef".split():
    print(getattr(R, name)()(x, x + 0.1 * torch.randn(50)).item())
from torchmetrics.image import StructuralSimilarityIndexMeasure
a = torch.rand(2, 3, 32, 32)
print(StructuralSimilarityIndexMeasure(data_range=1.0)(a, a * 0.9).item())
""",
    "torchdiffeq": """
from torchdiffeq import odeint, odeint_adjoint
net = nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 2))
class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net
    def forward(self, t, y):
        return self.net(y ** 3)
for solve in (odeint, odeint_adjoint):
    net.zero_grad()
    solve(Field(), torch.tensor([[1.0, 0.0]]), torch.linspace(0, 2, 9)).abs().mean().backward()
    print(*[p.grad.norm().item() for p in net.parameters()])
""",
    "gpytorch": """
import gpytorch
x = torch.linspace(0, 1, 30)
y = torch.sin(6 * x) + 0.2 * torch.randn(30)
class Process(gpytorch.models.ExactGP):
    def __init__(self, likelihood):
        super().__init__(x, y, likelihood)
        self.mean = gpytorch.means.ConstantMean()
        self.kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())
    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean(x), self.kernel(x))
likelihood = gpytorch.likelihoods.GaussianLikelihood()
model = Process(likelihood)
adam = torch.optim.Adam(model.parameters(), lr=0.1)
marginal = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
for _ in range(10):
    adam.zero_grad()
    loss = -marginal(model(x), y)
    loss.backward()
    adam.step()
    print(loss.item())
model.eval(), likelihood.eval()
with torch.no_grad():
    print(*likelihood(model(torch.linspace(0, 1, 5))).mean.tolist())
""",
    "captum": DATA + """
from captum.attr import DeepLift, FeatureAblation, IntegratedGradients, Occlusion, Saliency
for kind in (IntegratedGradients, Saliency, DeepLift, FeatureAblation):
    print(*kind(net).attribute(x[:2], target=1).flatten().tolist())
""",
    "entmax": """
from entmax import entmax15, entmax_bisect, sparsemax
x = torch.randn(4, 7, requires_grad=True)
for y in (sparsemax(x, -1), entmax15(x, -1), entmax_bisect(x, 1.3)):
    y.pow(2).sum().backward()
    print(x.grad.norm().item())
""",
    "nflows": """
from nflows import distributions, flows, transforms as T
flow = flows.Flow(T.CompositeTransform([
    T.MaskedAffineAutoregressiveTransform(features=2, hidden_features=4),
    T.RandomPermutation(features=2),
    T.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        features=2, hidden_features=8, tails="linear", tail_bound=3.0, num_bins=4)]),
    distributions.StandardNormal([2]))
adam = torch.optim.Adam(flow.parameters())
for _ in range(3):
    adam.zero_grad()
    loss = -flow.log_prob(torch.randn(32, 2)).mean()
    loss.backward()
    adam.step()
    print(loss.item())
""",
    "einops": """
from einops import einsum, rearrange, reduce, repeat
from einops.layers.torch import Rearrange
x = torch.randn(2, 3, 8, 8, requires_grad=True)
y = rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=4, q=4)
z = repeat(reduce(y, "b n d -> b d", "max"), "b d -> b k d", k=3)
einsum(z, z, "b k d, b j d -> b k j").sum().backward()
print(x.grad.norm().item(), Rearrange("b c h w -> b (c h w)")(x).sum().item())
""",
    "x_transformers": """
from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper
words = torch.randint(0, 50, (2, 17))
for kw in ({"rotary_pos_emb": True, "attn_flash": True}, {"use_rmsnorm": True, "ff_glu": True},
           {"alibi_pos_bias": True}, {"attn_qk_norm": True}, {"macaron": True},
           {"attn_num_mem_kv": 4}, {"residual_attn": True}, {"attn_one_kv_head": True}):
    net = AutoregressiveWrapper(TransformerWrapper(
        num_tokens=50, max_seq_len=32, attn_layers=Decoder(dim=32, depth=2, heads=4, **kw)))
    loss = net(words)
    loss.backward()
    print(loss.item(), sum(p.grad.norm().item() for p in net.parameters() if p.grad is not None))
""",
    "vector_quantize_pytorch": """
from vector_quantize_pytorch import FSQ, ResidualVQ, VectorQuantize
x = torch.randn(1, 64, 16, requires_grad=True)
for layer in (VectorQuantize(dim=16, codebook_size=32),
              VectorQuantize(dim=16, codebook_size=32, use_cosine_sim=True),
              ResidualVQ(dim=16, num_quantizers=2, codebook_size=32)):
    found, _, loss = layer(x)
    (found.sum() + loss.sum()).backward()
    print(loss.sum().item(), x.grad.norm().item())
print(FSQ([8, 5, 5])(torch.randn(1, 64, 3))[0].sum().item())
""",
    "kornia": """
import kornia as K
x = torch.rand(1, 3, 32, 32, requires_grad=True)
for y in (K.filters.gaussian_blur2d(x, (5, 5), (1.0, 1.0)), K.filters.sobel(x),
          K.filters.median_blur(x, (3, 3)), K.filters.canny(x)[0], K.color.rgb_to_hsv(x),
          K.color.rgb_to_lab(x), K.geometry.rotate(x, torch.tensor([30.0])),
          K.geometry.resize(x, (16, 16)), K.losses.ssim_loss(x, x.detach() * 0.9, 5),
          K.geometry.warp_perspective(x, torch.eye(3)[None], (32, 32)),
          K.feature.harris_response(x), K.morphology.dilation(x, torch.ones(3, 3)),
          K.augmentation.RandomAffine(30.0, p=1.0)(x)):
    x.grad = None
    y.sum().backward()
    print(y.sum().item(), x.grad.norm().item())
""",
    "torch_optimizer": """
import torch_optimizer
for name in ("AdaBound AdaMod AdamP DiffGrad Lamb NovoGrad PID QHAdam QHM Ranger RangerVA SGDP "
             "SGDW Yogi AdaBelief MADGRAD Shampoo").split():
    net = nn.Linear(3, 2)
    steps = getattr(torch_optimizer, name)(net.parameters())
    for _ in range(3):
        steps.zero_grad()
        net(torch.randn(4, 3)).pow(2).sum().backward()
        steps.step()
    print(net.weight.sum().item(), net.bias.sum().item())
""",
}
START = """
import sys
import warnings
warnings.filterwarnings("ignore")
import torch
from torch import nn
from torch.nn import functional as F
folder = sys.argv[1]
torch.manual_seed(0)
"""
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)\Z")


def numbers(command: list[str], folder: Path) -> list[list[float]]:
    folder.mkdir()
    run = subprocess.run([sys.executable, *command, str(folder)], capture_output=True, text=True,
                         timeout=300, cwd=folder, env={
                             **os.environ, "PYTHONPATH": os.pathsep.join(
                                 [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])})
    assert run.returncode == 0, run.stderr[-3000:]
    lines = [line.split() for line in run.stdout.splitlines()]
    return [[float(word) for word in line] for line in lines if all(map(NUMBER.match, line))]


@pytest.mark.parametrize("library", PROGRAMS)
def test_program(library: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    program = tmp_path / "program.py"
    program.write_text(START + PROGRAMS[library])
    want = numbers([str(program)], tmp_path / "theirs")
    got = numbers(["-m", "gpugrad", "run", "--force", str(program)], tmp_path / "ours")
    assert want and len(got) == len(want)
    for a, b in zip(got, want):
        assert a == pytest.approx(b, rel=5e-4, abs=5e-6)
