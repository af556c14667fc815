"""The VQ-VAE and its sequences: gradients, codes, and what each kind of sampling can see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.lda import VQVAE, Sampling, sample_sequences


def net(groups: int = 2, codes: int = 8) -> VQVAE:
    return VQVAE(groups, 16, codes, 4, generator=torch.Generator().manual_seed(0))


def sequences(groups: int = 2, count: int = 64) -> torch.Tensor:
    return torch.randn(groups, count, 16, generator=torch.Generator().manual_seed(1)).sort(-1).values


def test_the_gradient_passes_straight_through_the_quantiser() -> None:
    vqvae = net()
    out = vqvae(sequences())
    decoded_loss = (sequences() - out.decoded).square().mean()
    into_encoder, into_code = torch.autograd.grad(
        decoded_loss, [vqvae.weights[0], vqvae.codebook], allow_unused=True
    )
    assert into_encoder.abs().sum() > 0
    assert into_code is None  # the codebook learns from its own term alone


def test_each_loss_term_moves_what_it_should() -> None:
    vqvae = net()
    vqvae.commitment = 0.0
    vqvae.loss(sequences())[0].backward()  # type: ignore[no-untyped-call]
    assert vqvae.codebook.grad is not None
    assert vqvae.codebook.grad.abs().sum() > 0


def test_the_code_is_the_nearest_one() -> None:
    vqvae = net()
    encoded = vqvae.encode(sequences())
    want = torch.cdist(encoded, vqvae.codebook).argmin(-1)
    torch.testing.assert_close(vqvae.nearest(encoded), want)
    out = vqvae(sequences())
    torch.testing.assert_close(out.quantised[1, 3], vqvae.codebook[1, out.code[1, 3]])


def test_groups_do_not_see_each_other() -> None:
    vqvae, x = net(), sequences()
    changed = x.clone()
    changed[1] += 5.0
    torch.testing.assert_close(vqvae(changed).decoded[0], vqvae(x).decoded[0], rtol=0, atol=0)


def test_kmeans_starts_with_every_code_in_use() -> None:
    vqvae, x = net(), sequences(count=256)
    vqvae.initialise_codes(x, rounds=10, generator=torch.Generator().manual_seed(2))
    code = vqvae.nearest(vqvae.encode(x)).tolist()
    assert [len(set(c)) for c in code] == [8, 8]


def test_dead_codes_come_back_where_encodings_are() -> None:
    vqvae, x = net(), sequences()
    with torch.no_grad():
        vqvae.codebook[:, 0] = 1e6
    count = torch.full((2, 8), 8.0)
    count[:, 0] = 0
    kept = vqvae.codebook[:, 1:].clone()
    moved = vqvae.restart_dead_codes(count, x, torch.Generator().manual_seed(3))
    assert moved == 2
    torch.testing.assert_close(vqvae.codebook[:, 1:], kept, rtol=0, atol=0)
    assert torch.cdist(vqvae.codebook[:, :1], vqvae.encode(x)).min() < 1e-3


@pytest.mark.parametrize("sampling", ["local", "iid"])
def test_sequences_are_ascending_values_of_the_group(sampling: Sampling) -> None:
    values = np.random.default_rng(0).random(500).astype(np.float32)
    drawn = sample_sequences(values, 50, 16, sampling=sampling, window=0.02, seed=0)
    assert drawn.shape == (50, 16)
    assert (np.diff(drawn, axis=1) >= 0).all()
    assert np.isin(drawn, values).all()


def test_local_sequences_stay_in_their_rank_window_and_cover_the_group() -> None:
    values = np.linspace(0, 1, 1000, dtype=np.float32)
    drawn = sample_sequences(values, 400, 16, sampling="local", window=0.02, seed=0)
    assert (drawn[:, -1] - drawn[:, 0]).max() <= 0.0411
    assert drawn.min() < 0.02
    assert drawn.max() > 0.98


def test_no_values_give_no_sequences() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        sample_sequences(np.zeros(0, np.float32), 4, 4, sampling="iid", window=0.02, seed=0)
