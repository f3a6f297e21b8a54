"""Networks on graphs: attention over edges by index, dense attention, and sampled neighbours."""
from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .training import Training, labels


def maybe_num_nodes(index: Tensor, num_nodes: int | None = None) -> int:
    return int(index.max()) + 1 if num_nodes is None else num_nodes


def softmax_by(src: Tensor, index: Tensor, num_nodes: int | None = None) -> Tensor:
    """Softmax over the edges that lead to the same node."""
    N = maybe_num_nodes(index, num_nodes)
    where = index.view(-1, *[1] * (src.dim() - 1)).expand_as(src)
    largest = src.new_full((N, *src.shape[1:]), float("-inf"))
    largest = largest.scatter_reduce(0, where, src.detach(), reduce="amax", include_self=False)
    out = (src - largest.index_select(0, index)).exp()
    total = torch.zeros_like(largest).scatter_add_(0, where, out) + 1e-16
    return out / total.index_select(0, index)


class GATConv(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, heads: int = 1, concat: bool = True,
                 negative_slope: float = 0.2, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.out_channels, self.concat = heads, out_channels, concat
        self.negative_slope, self.dropout = negative_slope, dropout
        self.lin = nn.Linear(in_channels, heads * out_channels, bias=False)
        self.att_src = nn.Parameter(torch.empty(1, heads, out_channels))
        self.att_dst = nn.Parameter(torch.empty(1, heads, out_channels))
        self.bias = nn.Parameter(torch.empty(heads * out_channels if concat else out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        gain = nn.init.calculate_gain("relu")
        nn.init.xavier_normal_(self.lin.weight, gain=gain)
        nn.init.xavier_normal_(self.att_src, gain)
        nn.init.xavier_normal_(self.att_dst, gain)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        H, C = self.heads, self.out_channels
        x = self.lin(x).view(-1, H, C)
        src, dst = edge_index
        alpha = (x * self.att_src).sum(-1)[src] + (x * self.att_dst).sum(-1)[dst]
        alpha = softmax_by(F.leaky_relu(alpha, self.negative_slope), dst, x.size(0))
        alpha = F.dropout(alpha, p=self.dropout, training=self.training)
        out = torch.zeros_like(x).index_add(0, dst, x[src] * alpha.unsqueeze(-1))
        out = out.view(-1, H * C) if self.concat else out.mean(dim=1)
        return out + self.bias

    def __repr__(self) -> str:
        return (f"{self.__class__.__name__}({self.lin.in_features}, {self.out_channels}, "
                f"heads={self.heads})")


class GAT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = GATConv(5, 4, heads=2, dropout=0.2)
        self.conv2 = GATConv(8, 3, heads=2, concat=False)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = F.dropout(x, p=0.2, training=self.training)
        x = F.elu(self.conv1(x, edge_index))
        x = F.dropout(x, p=0.2, training=self.training)
        return F.log_softmax(self.conv2(x, edge_index), dim=1)


def edges(device: str, nodes: int = 8, count: int = 14) -> Tensor:
    """Random edges in both directions, each once, and one from each node to itself."""
    pairs = torch.randint(nodes, (2, count))
    pairs = torch.cat([pairs, pairs.flip(0)], dim=1)
    loops = torch.arange(nodes).unsqueeze(0).repeat(2, 1)
    found = torch.unique(torch.cat([pairs, loops], dim=1), dim=1)
    return found.to(device)


def graph_attention(device: str) -> Training:
    net, x, y = GAT().to(device), torch.rand(8, 5).to(device), labels(device, 8, top=3)
    x = x.div_(x.sum(dim=-1, keepdim=True).clamp_(min=1.))
    train_mask = torch.zeros(8, dtype=torch.bool, device=device)
    train_mask[:5] = True
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3, weight_decay=5e-4)
    return Training(net, [x, edges(device)],
                    lambda out: F.nll_loss(out[train_mask], y[train_mask]), optimizer)


class GraphAttentionLayer(nn.Module):
    """Attention by the matrix of neighbours."""

    def __init__(self, c_in, c_out, p, slope, last=False):
        super(GraphAttentionLayer, self).__init__()
        self.p, self.last = p, last
        self.W = nn.Parameter(torch.empty(size=(c_in, c_out)))
        self.a = nn.Parameter(torch.empty(2, c_out))
        for weight in (self.W, self.a):
            nn.init.xavier_uniform_(weight.data, gain=2 ** 0.5)
        self.leaky = nn.LeakyReLU(slope)

    def forward(self, h, adj):
        h = torch.mm(h, self.W)
        here, there = torch.matmul(h, self.a.t()).unbind(1)
        scores = self.leaky(here[:, None] + there)
        scores = torch.where(adj > 0, scores, torch.full_like(scores, -1e15))
        h = F.dropout(scores.softmax(dim=1), self.p, training=self.training).mm(h)
        return h if self.last else F.elu(h)


class DenseGAT(nn.Module):
    def __init__(self, c_in, width, classes, p, slope, heads):
        super().__init__()
        self.heads = [GraphAttentionLayer(c_in, width, p, slope) for _ in range(heads)]
        for i, head in enumerate(self.heads):
            self.add_module('head_%d' % i, head)
        self.last = GraphAttentionLayer(width * heads, classes, p, slope, last=True)

    def forward(self, x, adj):
        x = torch.cat([head(x, adj) for head in self.heads], dim=1)
        return F.log_softmax(F.elu(self.last(x, adj)), dim=1)


def adjacency(pairs, nodes=8):
    adj = torch.zeros(nodes, nodes, device=pairs.device)
    return adj.index_put_((pairs[0], pairs[1]), torch.ones(pairs.size(1), device=pairs.device))


def dense_graph_attention(device):
    net = DenseGAT(5, 4, 3, 0.2, 0.2, 2).to(device)
    y, x, adj = labels(device, 8, top=3), torch.randn(8, 5).to(device), adjacency(edges(device))
    idx_train = torch.LongTensor(range(5)).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3, weight_decay=5e-4)
    return Training(net, [x, adj], lambda out: F.nll_loss(out[idx_train], y[idx_train]), optimizer)


class GraphNet(nn.Module):
    """Convolution with the normalised matrix, gated messages, readout by graph."""

    def __init__(self):
        super().__init__()
        self.weight = nn.parameter.Parameter(torch.FloatTensor(5, 6))
        self.bias = nn.parameter.Parameter(torch.FloatTensor(6))
        stdv = 1. / self.weight.size(1) ** 0.5
        self.weight.data.uniform_(-stdv, stdv)
        self.bias.data.uniform_(-stdv, stdv)
        self.message, self.cell = nn.Bilinear(6, 6, 6), nn.GRUCell(6, 6)
        self.out = nn.Linear(12, 1)

    def forward(self, x, adj, graph):
        degree = adj.sum(1).pow(-0.5)
        degree[torch.isinf(degree)] = 0.
        adj = torch.diag(degree) @ adj @ torch.diag(degree)
        h = F.relu(torch.addmm(self.bias, adj, torch.mm(x, self.weight)))
        for _ in range(2):
            h = self.cell(adj @ self.message(h, h), h)
        count = torch.bincount(graph).unsqueeze(1)
        total = torch.zeros(count.size(0), 6, device=x.device).index_add_(0, graph, h)
        best = torch.stack([h[graph == g].max(dim=0).values for g in range(count.size(0))])
        return self.out(torch.cat([total / count, best], dim=-1)).squeeze(-1)


def graph_regression(device):
    net, x, adj = GraphNet().to(device), torch.randn(8, 5).to(device), adjacency(edges(device))
    graph = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2], device=device)
    y = torch.randn(3).to(device)
    optimizer = torch.optim.RAdam(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CyclicLR(optimizer, 1e-3, 1e-2, step_size_up=2,
                                                 cycle_momentum=False)
    return Training(net, [x, adj, graph], lambda out: F.huber_loss(out, y), optimizer, schedule)
