"""Candidates attend over a user's steps, for several interests at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Shape suffixes: B users, N candidates, L steps, S interests, H heads, K width of a head, E = H·K.


class CandidateAttention(nn.Module):
    """One vector for each candidate and interest.

        a_ns = (e^{q_n·k_s} v_s + Σ_j c_js e^{q_n·k_j} v_j) / (e^{q_n·k_s} + Σ_j c_js e^{q_n·k_j})

    c_js in [0, 1] is how much step j belongs to interest s; k_s and v_s are its learned null token, so that
    an interest without steps has a defined answer. q, k are scaled by K^-1/4 each.

    One softmax over all steps and null tokens serves every interest: steps outside of it cancel, and its
    numerator and denominator are columns of the same matrix product.

    Args:
        token: E.
        heads: H, divides E.
        interests: S.
    """

    def __init__(self, token: int, heads: int, interests: int) -> None:
        super().__init__()
        self.heads = heads
        self.key = nn.Linear(token, token)
        self.value = nn.Linear(token, token)
        self.null = nn.Parameter(torch.zeros(2, interests, token))

    def forward(
        self, query_BNE: Tensor, token_BLE: Tensor, share_BLS: Tensor | None, valid_BL: Tensor
    ) -> Tensor:
        """Attend.

        Args:
            query_BNE: the candidates.
            token_BLE: the steps.
            share_BLS: c, 0 on padding; None for one interest that every step belongs to in full.
            valid_BL: 0 on padding.

        Returns:
            `[B, N, S, E]`.
        """
        b, n, e = query_BNE.shape
        s, h = self.null.shape[1], self.heads
        k = e // h
        # Keys and values by one matrix, for every step's row: a matrix with a bias is one operator.
        weight = torch.cat([self.key.weight, self.value.weight])
        bias = torch.cat([self.key.bias, self.value.bias])
        step_BL2E = F.linear(token_BLE.flatten(0, 1), weight, bias).reshape(b, token_BLE.shape[1], 2 * e)
        null_BS2E = self.null.transpose(0, 1).flatten(1).expand(b, s, 2 * e)
        both_BJ2E = torch.cat([null_BS2E, step_BL2E], dim=1)
        key_BHJK, value_BHJK = both_BJ2E.reshape(b, -1, 2, h, k).permute(2, 0, 3, 1, 4).unbind(0)
        # Padding is shut out by one more column of keys, met by a 1 in every query: a mask of the logits
        # would be one more pass over the largest array there is.
        shut_B1J1 = F.pad((valid_BL - 1.0) * 1e4, (s, 0))[:, None, :, None]
        key_BHJK = torch.cat([key_BHJK / math.sqrt(k), shut_B1J1.expand(-1, h, -1, 1)], dim=3)
        query_BHNK = F.pad(query_BNE.reshape(b, n, h, k), (0, 1), value=1.0).transpose(1, 2)
        weight_BHNJ = torch.softmax(query_BHNK @ key_BHJK.transpose(2, 3), dim=-1)
        if share_BLS is None:
            mean_BHNK = weight_BHNJ @ value_BHJK
            return mean_BHNK.transpose(1, 2).reshape(b, n, 1, e)

        own_BSS = torch.eye(s).expand(b, s, s)
        share_B1JS1 = torch.cat([own_BSS, share_BLS], dim=1)[:, None, :, :, None]
        part_BHJK = torch.cat([value_BHJK, torch.ones_like(value_BHJK[..., :1])], dim=-1)
        sums_BHNC = weight_BHNJ @ (share_B1JS1 * part_BHJK[:, :, :, None, :]).flatten(3)
        sums_BHNSK = sums_BHNC.reshape(b, h, n, s, k + 1)
        # An interest that is e^-70 of the whole answers 0 rather than 0/0.
        mean_BHNSK = sums_BHNSK[..., :-1] / sums_BHNSK[..., -1:].clamp(min=1e-30)
        return mean_BHNSK.permute(0, 2, 3, 1, 4).reshape(b, n, s, e)
