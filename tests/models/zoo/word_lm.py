"""An LSTM language model of words: packed sequences, tied weights, dropouts of all sorts."""
from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Variable
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from .training import Training


class LockedDropout(nn.Module):
    """The same units are dropped at all times."""

    def __init__(self, p=0.5):
        super().__init__()
        self.p = p

    def forward(self, x):
        if self.training and self.p > 0:
            kept = x.data.new(1, *x.shape[1:]).bernoulli_(1 - self.p)
            kept = Variable(kept.div_(1 - self.p), requires_grad=False)
            x = x * kept.expand_as(x)
        return x


def embed_some(table, words, p):
    """The vectors of words; whole words are dropped, wherever they stand."""
    weight = table.weight
    if p:
        kept = weight.data.new().resize_(len(weight), 1).bernoulli_(1 - p)
        weight = weight * (kept / (1 - p)).expand_as(weight)
    padding = -1 if table.padding_idx is None else table.padding_idx
    return F.embedding(words, weight, padding, table.max_norm, table.norm_type,
                       table.scale_grad_by_freq, table.sparse)


class WordModel(nn.Module):
    """kind: 'LSTM', 'GRU', or 'tanh' or 'relu' for a simple network."""

    def __init__(self, kind, words, size, layers, dropout=0.5, tied=True):
        super(WordModel, self).__init__()
        self.kind, self.words = kind, words
        self.drop = nn.Dropout(dropout)
        self.lookup = nn.Embedding(words, size)
        if kind in ('LSTM', 'GRU'):
            self.rnn = getattr(nn, kind)(size, size, layers, dropout=dropout)
        else:
            self.rnn = nn.RNN(size, size, layers, nonlinearity=kind, dropout=dropout)
        self.scores = nn.Linear(size, words)
        if tied:
            self.scores.weight = self.lookup.weight
        for p in (self.lookup.weight, self.scores.weight):
            nn.init.uniform_(p, -0.1, 0.1)
        nn.init.zeros_(self.scores.bias)

    def forward(self, ids, state):
        self.rnn.flatten_parameters()
        y, state = self.rnn(self.drop(self.lookup(ids)), state)
        y = self.scores(self.drop(y))
        return F.log_softmax(y.view(-1, self.words), dim=1), state

    def first_state(self, batch):
        some = next(self.parameters())
        h = some.new_zeros(self.rnn.num_layers, batch, self.rnn.hidden_size)
        return (h, torch.zeros_like(h)) if self.kind == 'LSTM' else h


def without_history(state):
    if torch.is_tensor(state):
        return state.detach()
    return tuple(map(without_history, state))


def in_columns(text, n):
    """The text in n columns that are read side by side."""
    rows = text.size(0) // n
    return text.narrow(0, 0, rows * n).view(n, rows).t().contiguous()


class TruncatedBackprop(Training):
    """Goes through the text in pieces; the hidden state stays, its history does not."""

    def __init__(self, net, text, bptt=7):
        super().__init__(net, [])
        self.text, self.bptt, self.at, self.lr = in_columns(text, 4), bptt, 0, 5.0
        self.hidden = net.first_state(4)

    def outputs(self):
        return self.net(self.text[:self.bptt], self.hidden)

    def loss(self):
        self.net.zero_grad()
        at = self.at % (self.text.size(0) - self.bptt)
        data, target = self.text[at:at + self.bptt], self.text[at + 1:at + 1 + self.bptt]
        output, hidden = self.net(data, self.hidden)
        self.hidden = without_history(hidden)
        return F.nll_loss(output, target.view(-1))

    def step(self):
        self.net.train()
        loss = self.loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 0.25)
        for p in self.net.parameters():
            p.data.add_(p.grad, alpha=-self.lr)
        self.at += 1
        return math.log(math.exp(loss.item()))

    def state_dict(self):
        return {**super().state_dict(), "hidden": self.hidden, "at": self.at}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.hidden, self.at = state["hidden"], state["at"]


def word_lstm(device, kind="LSTM"):
    net = WordModel(kind, 13, 8, 2, dropout=0.2).to(device)
    return TruncatedBackprop(net, torch.randint(13, (70,)).to(device))


def word_rnn(device):
    return word_lstm(device, "tanh")


class Tagger(nn.Module):
    """Sentences of different lengths, packed, through a bidirectional LSTM with projections."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(13, 6, padding_idx=0)
        self.locked = LockedDropout(0.3)
        self.lstm = nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True, proj_size=4)
        self.gru = nn.GRU(8, 5, batch_first=True, bidirectional=True)
        self.out = nn.Linear(10, 4)
        for name, param in self.lstm.named_parameters():
            if "weight_hh" in name or "weight_hr" in name:
                nn.init.orthogonal_(param)
            elif "weight_ih" in name:
                nn.init.xavier_uniform_(param.data)
            elif "bias_ih" in name:
                n = param.size(0)
                param.data.fill_(0)
                param.data[n // 4:n // 2].fill_(1)
            else:
                nn.init.constant_(param, 0)

    def forward(self, words, lengths):
        x = self.locked(embed_some(self.embed, words, 0.1 if self.training else 0))
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, (h_n, c_n) = self.lstm(packed)
        states, last = self.gru(states)
        states, found = pad_packed_sequence(states, batch_first=True, total_length=words.size(1))
        assert torch.equal(found, lengths.cpu())
        last = last.transpose(0, 1).reshape(len(lengths), -1)
        return self.out(states), last, h_n, c_n


def tagger(device):
    net = Tagger().to(device)
    lengths = torch.tensor([4, 6, 1, 3])
    words = pad_sequence([torch.randint(1, 13, (int(n),)) for n in lengths], batch_first=True)
    words, lengths = words.to(device), lengths.to(device)
    tags = torch.where(words > 0, words % 4, torch.full_like(words, -100))
    mask = torch.arange(words.size(1), device=device)[None, :] < lengths[:, None]

    def criterion(out):
        smooth = out[1].pow(2).mean() + (out[0][:, 1:] - out[0][:, :-1]).pow(2).mean()
        assert torch.equal(mask, words.ne(0))
        per_word = F.cross_entropy(out[0].transpose(1, 2), tags, reduction="none")
        return per_word.masked_select(mask).mean() + 0.01 * smooth

    optimizer = torch.optim.Adagrad(net.parameters(), lr=0.1)
    return Training(net, [words, lengths], criterion, optimizer, clip=5.0)
