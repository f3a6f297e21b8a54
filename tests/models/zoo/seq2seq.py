"""From one sequence to another: recurrent encoder, decoder with attention, teacher forcing."""
from __future__ import annotations

import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim

from .training import Training

PAD, SOS, EOS = 0, 1, 2
MAX_LENGTH = 6


class Encoder(nn.Module):
    """Reads in both directions, whose states are added up."""

    def __init__(self, words, size, dropout=0.1):
        super(Encoder, self).__init__()
        self.lookup = nn.Embedding(words, size, padding_idx=PAD)
        self.rnn = nn.GRU(size, size, batch_first=True, bidirectional=True)
        self.join, self.drop = nn.Linear(2 * size, size), nn.Dropout(dropout)

    def forward(self, ids):
        states, last = self.rnn(self.drop(self.lookup(ids)))
        there, back = states.chunk(2, dim=-1)
        last = torch.tanh(self.join(torch.cat((last[-2], last[-1]), dim=1)))
        return there + back, last.unsqueeze(0)


class Additive(nn.Module):
    def __init__(self, size):
        super(Additive, self).__init__()
        self.of_query, self.of_key = nn.Linear(size, size), nn.Linear(size, size)
        self.score = nn.Linear(size, 1)

    def forward(self, query, keys, mask):
        scores = self.score((self.of_query(query) + self.of_key(keys)).tanh()).squeeze(2)
        scores.masked_fill_(mask, -1e9)
        weights = F.softmax(scores.unsqueeze(1), dim=-1)
        return torch.bmm(weights, keys), weights


class Multiplicative(nn.Module):
    """kind: 'general', a product with a matrix, or 'concat', a layer over both"""

    def __init__(self, kind, size):
        super().__init__()
        self.kind = kind
        if kind == "general":
            self.matrix = nn.Linear(size, size, bias=False)
        elif kind == "concat":
            self.layer = nn.Linear(2 * size, size)
            self.v = nn.Parameter(torch.FloatTensor(size))
            nn.init.normal_(self.v, std=0.1)

    def forward(self, query, keys, mask):
        if self.kind == "general":
            scores = (query * self.matrix(keys)).sum(dim=2)
        else:
            both = torch.cat((query.expand_as(keys), keys), dim=2)
            scores = torch.matmul(torch.tanh(self.layer(both)), self.v)
        weights = F.softmax(scores.masked_fill(mask, float("-inf")), dim=1).unsqueeze(1)
        return weights.bmm(keys), weights


class Decoder(nn.Module):
    """Goes on with the word it is told, or with the likeliest one."""

    def __init__(self, attention, size, words, dropout=0.1):
        super(Decoder, self).__init__()
        self.lookup, self.attention = nn.Embedding(words, size), attention
        self.rnn = nn.GRU(2 * size, size, batch_first=True)
        self.scores, self.drop = nn.Linear(size, words), nn.Dropout(dropout)

    def forward(self, keys, state, mask, told=None):
        word = torch.empty(keys.size(0), 1, dtype=torch.long, device=keys.device).fill_(SOS)
        scores, looks = [], []
        for i in range(MAX_LENGTH):
            seen, weights = self.attention(state.permute(1, 0, 2), keys, mask)
            y, state = self.rnn(torch.cat((self.drop(self.lookup(word)), seen), dim=2), state)
            scores.append(self.scores(y))
            looks.append(weights)
            word = scores[-1].topk(1)[1].squeeze(-1).detach() if told is None else told[:, i, None]
        return F.log_softmax(torch.cat(scores, dim=1), dim=-1), state, torch.cat(looks, dim=1)


class Seq2Seq(nn.Module):
    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, src, trg, teacher_forcing_ratio=0.5):
        states, hidden = self.encoder(src)
        forced = self.training and random.Random(0).random() < 1 - teacher_forcing_ratio / 10
        return self.decoder(states, hidden, src == PAD, trg if forced else None)


class TwoOptimizers(Training):
    def __init__(self, net, inputs, criterion, learning_rate):
        super().__init__(net, inputs, criterion)
        self.optimizers = [optim.Adam(net.encoder.parameters(), lr=learning_rate),
                           optim.Adamax(net.decoder.parameters(), lr=learning_rate)]


def seq2seq(device, attention=Additive):
    net = Seq2Seq(Encoder(11, 8), Decoder(attention(8), 8, 11)).to(device)
    src, trg = torch.randint(3, 11, (3, 5)), torch.randint(3, 11, (3, MAX_LENGTH))
    src[1, 3:] = PAD
    trg[1, 4], trg[1, 5:] = EOS, PAD
    src, trg = src.to(device), trg.to(device)
    criterion = nn.NLLLoss(ignore_index=PAD)
    return TwoOptimizers(net, [src, trg], lambda out: criterion(
        out[0].view(-1, out[0].size(-1)), trg.view(-1)), 0.01)


def seq2seq_general(device):
    return seq2seq(device, lambda size: Multiplicative("general", size))


def seq2seq_concat(device):
    return seq2seq(device, lambda size: Multiplicative("concat", size))


class ConvolutionalTranslator(nn.Module):
    """Gated convolutions look back only, and attend to the source by dot product."""

    def __init__(self, dim=8, words=11):
        super().__init__()
        self.tok, self.pos = nn.Embedding(words, dim), nn.Embedding(16, dim)
        self.convs = nn.ModuleList(
            [nn.utils.parametrizations.weight_norm(nn.Conv1d(dim, 2 * dim, 3)) for _ in range(2)])
        self.register_buffer("scale", torch.sqrt(torch.FloatTensor([0.5])), persistent=False)
        self.out = nn.Linear(dim, words)

    def embedded(self, ids):
        pos = torch.arange(0, ids.shape[1]).unsqueeze(0).repeat(ids.shape[0], 1).to(ids.device)
        return self.tok(ids) + self.pos(pos)

    def forward(self, src, trg):
        keys, x = self.embedded(src), self.embedded(trg)
        for conv in self.convs:
            conved = F.glu(conv(F.pad(x.permute(0, 2, 1), (2, 0))), dim=1).permute(0, 2, 1)
            attention = F.softmax(torch.matmul(conved, keys.permute(0, 2, 1)), dim=2)
            x = (torch.matmul(attention, keys) + conved + x) * self.scale
        return self.out(x)


def convolutional_translator(device):
    net = ConvolutionalTranslator().to(device)
    src, trg = torch.randint(3, 11, (3, 5)).to(device), torch.randint(3, 11, (3, 7)).to(device)
    optimizer = optim.NAdam(net.parameters(), lr=0.01)
    return Training(net, [src, trg[:, :-1]], lambda out: F.cross_entropy(
        out.reshape(-1, 11), trg[:, 1:].reshape(-1)), optimizer, clip=0.1)
