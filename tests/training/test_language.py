"""Counterfactual fine-tuning: its loss, its prompts, the tokens of videos, and decoding along the trie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from models.arrays import I64
from training.language import (
    START,
    CausalTransformer,
    LanguageConfig,
    LongViews,
    SemanticIds,
    SemanticIdsConfig,
    TransformerConfig,
    Trie,
    Windows,
    beam_search,
    counterfactual_loss,
    exact_scores,
    fit_language,
    fit_semantic_ids,
    histories,
    logits_without_history,
    one_token_ids,
    targets_with_history,
    token_rows,
    token_weights,
    training_windows,
    weighted_cross_entropy,
)
from training.train.trainer import batches_by_length

VIDEOS = 60
KNOWN = np.arange(2, VIDEOS)
SMALL = TransformerConfig(width=16, feedforward=24)


@pytest.fixture(scope="module")
def ids() -> SemanticIds:
    feature = np.random.default_rng(0).normal(size=(VIDEOS, 5)).astype(np.float32)
    return fit_semantic_ids(feature, KNOWN, SemanticIdsConfig(levels=2, codes=6), seed=0)


@pytest.fixture
def model(ids: SemanticIds) -> CausalTransformer:
    torch.manual_seed(0)
    model = CausalTransformer(ids.tokens, SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)  # so that attention is far from a mean
    return model


def views(users: int = 30, each: int = 7) -> LongViews:
    random = np.random.default_rng(1)
    count = users * each
    video = np.minimum(KNOWN[0] + random.geometric(0.08, count), KNOWN[-1])
    rows = np.arange(count)
    return LongViews(np.repeat(np.arange(users), each), video, random.integers(3, size=count), rows, rows)


def windows() -> Windows:
    found = views()
    every = np.ones(len(found.user), np.bool_)
    return training_windows(found, every, every, 4)


# --- the loss


def targets(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    z, without = torch.randn(2, 7, 3, 11, generator=random)
    return z, without, torch.randint(11, (7, 3), generator=random)


def test_token_weights_fall_linearly_from_1_to_beta() -> None:
    torch.testing.assert_close(token_weights(4, 0.25), torch.tensor([1.0, 0.75, 0.5, 0.25]))
    torch.testing.assert_close(token_weights(1, 0.25), torch.ones(1))


def test_the_loss_is_that_of_the_equations() -> None:
    z, without, target = targets()
    weight = token_weights(3, 0.4)
    plain = effect = total = 0.0
    for n in range(7):
        for t in range(3):
            y, w = int(target[n, t]), float(weight[t])
            plain -= w * float(torch.log_softmax(z[n, t], 0)[y])
            effect -= w * float(torch.log_softmax(z[n, t] - without[n, t], 0)[y])
            total += w
    found = counterfactual_loss(z, without, target, weight, 0.3)
    assert float(found) == pytest.approx((plain + 0.3 * effect) / total, rel=1e-5)


def test_logits_that_do_not_vary_without_the_history_make_both_terms_equal() -> None:
    z, _, target = targets()
    constant = torch.full_like(z, 3.0)
    weight = token_weights(3, 0.25)
    twice = counterfactual_loss(z, constant, target, weight, 1.0)
    torch.testing.assert_close(twice, 2 * weighted_cross_entropy(z, target, weight))


def test_both_passes_have_the_gradient(model: CausalTransformer, ids: SemanticIds) -> None:
    """A detached counterfactual pass has another one."""
    config = LanguageConfig()

    def gradient(*, detach: bool) -> Tensor:
        model.zero_grad()
        found = targets_with_history(model, windows(), config, ids)
        without = logits_without_history(model, found.token)
        without = without.detach() if detach else without
        counterfactual_loss(found.logit, without, found.token, token_weights(3, 0.25), 0.1).backward()  # type: ignore[no-untyped-call]
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    both, one = gradient(detach=False), gradient(detach=True)
    assert float((both - one).norm() / both.norm()) > 0.01
    # The fit's own gradient is the one through both.
    fitted, detached = stepped(ids, detach=False), stepped(ids, detach=True)
    own = fit_language(windows(), ids, one_step(0.1, 0.25), seed=3).model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in fitted.items())
    assert any(not torch.equal(own[name], value) for name, value in detached.items())


def one_step(effect_weight: float, last_weight: float) -> LanguageConfig:
    return LanguageConfig(
        transformer=SMALL,
        effect_weight=effect_weight,
        last_weight=last_weight,
        epochs=1,
        batch=1000,
        average=None,
    )


def stepped(ids: SemanticIds, *, detach: bool) -> dict[str, Tensor]:
    """One step of the counterfactual loss, by hand."""
    torch.manual_seed(3)
    model = CausalTransformer(ids.tokens, SMALL)
    config = one_step(0.1, 0.25)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    rows = batches_by_length((windows().video > 0).sum(1), 1000, np.random.default_rng(3))[0]
    found = targets_with_history(model, windows().take(rows), config, ids)
    without = logits_without_history(model, found.token)
    without = without.detach() if detach else without
    weight = token_weights(3, config.last_weight)
    counterfactual_loss(found.logit, without, found.token, weight, 0.1).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return model.state_dict()


def test_without_lambda_and_with_beta_1_it_is_plain_training_to_the_bit(ids: SemanticIds) -> None:
    config = LanguageConfig(
        transformer=SMALL, effect_weight=0.0, last_weight=1.0, epochs=2, batch=16, average=None
    )
    fitted = fit_language(windows(), ids, config, seed=5)
    torch.manual_seed(5)
    random = np.random.default_rng(5)
    plain = CausalTransformer(ids.tokens, SMALL)
    optimiser = torch.optim.AdamW(
        plain.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    for _ in range(2):
        for rows in batches_by_length((windows().video > 0).sum(1), 16, random):
            optimiser.zero_grad()
            found = targets_with_history(plain, windows().take(rows), config, ids)
            F.cross_entropy(found.logit.flatten(0, 1), found.token.flatten()).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    own, other = fitted.model.state_dict(), plain.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)


# --- prompts


def test_a_row_has_the_prompt_of_each_of_its_targets(model: CausalTransformer, ids: SemanticIds) -> None:
    """The logits of a packed row are those of its targets' own prompts, with the target's tokens after."""
    config = LanguageConfig()
    some = windows().take(np.arange(6))
    found = targets_with_history(model, some, config, ids)
    at = 0
    for row in range(6):
        for column in np.flatnonzero(some.is_target[row]):
            video, action = some.video[[row], :column], some.action[[row], :column]
            alone = Windows(video, action, np.zeros(video.shape, np.bool_))
            prompt = token_rows(alone, ids, actions=True)[0]
            prompt = prompt[prompt > 0]
            target = ids.token[some.video[row, column]]
            state = model(torch.from_numpy(np.append(prompt, target[:-1]))[None])
            logit = model.logits(state[0, len(prompt) - 1 :])
            torch.testing.assert_close(found.logit[at], logit, rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(found.token[at].numpy(), target)
            at += 1
    assert at == len(found.token)


def test_the_counterfactual_prompt_is_the_same_without_the_history(
    model: CausalTransformer, ids: SemanticIds
) -> None:
    none = Windows(np.zeros((1, 3), np.int64), np.zeros((1, 3), np.int64), np.zeros((1, 3), np.bool_))
    prompt = token_rows(none, ids, actions=True)[0]
    assert prompt[prompt > 0].tolist() == [START]
    target = torch.from_numpy(ids.token[[5, 9, 5]])
    without = logits_without_history(model, target)
    for n, token in enumerate(target):
        state = model(torch.cat([torch.tensor([START]), token[:-1]])[None])
        torch.testing.assert_close(without[n], model.logits(state[0]), rtol=1e-5, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 12), st.integers(1, 8))
def test_padding_on_the_left_changes_nothing(padding: int, length: int) -> None:
    torch.manual_seed(0)
    model = CausalTransformer(30, SMALL).eval()
    token = torch.randint(1, 30, (2, length))
    padded = F.pad(token, (padding, 0))
    with torch.no_grad():
        torch.testing.assert_close(model(padded)[:, padding:], model(token), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(model.read(padded).last, model(token)[:, -1], rtol=1e-5, atol=1e-6)


def test_every_long_view_with_a_history_is_a_target_once() -> None:
    found = views(users=20, each=11)
    known = np.random.default_rng(2).random(len(found.user)) < 0.8
    cut = training_windows(found, known, known, 4)
    assert int(cut.is_target.sum()) == int(known.sum()) - 20
    assert int(cut.is_target.sum(1).max()) == 4
    assert bool((cut.is_target.sum(1) < (cut.video > 0).sum(1)).all())


def test_a_history_ends_before_its_moment() -> None:
    found = views(users=2, each=5)
    found = found._replace(timestamp_ms=np.array([0, 1, 2, 2, 3, 0, 0, 0, 1, 2]))
    history = histories(found, np.array([3, 7, 9]), 3)
    np.testing.assert_array_equal(history.video[0], [0, *found.video[:2]])
    assert not history.video[1].any()
    np.testing.assert_array_equal(history.video[2], found.video[6:9])


# --- tokens and the trie


def test_semantic_ids_are_unique_and_alike_for_like_videos(ids: SemanticIds) -> None:
    assert len(np.unique(ids.token[KNOWN], axis=0)) == len(KNOWN)
    assert not ids.token[: KNOWN[0]].any()
    feature = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    same = fit_semantic_ids(feature, np.arange(20), SemanticIdsConfig(levels=2, codes=12), seed=1).token
    for group in range(4):
        part = same[5 * group : 5 * group + 5]
        assert len(np.unique(part[:, :-1], axis=0)) == 1
        assert sorted(part[:, -1] - part[:, -1].min()) == [0, 1, 2, 3, 4]
    assert one_token_ids(KNOWN, VIDEOS).tokens - len(KNOWN) == same.min()


def prompts(ids: SemanticIds) -> Tensor:
    found = views()
    return torch.from_numpy(token_rows(histories(found, np.arange(6, 210, 7), 4), ids, actions=True))


def brute_force(model: CausalTransformer, ids: SemanticIds, prompt: Tensor, video: I64) -> list[float]:
    """Every video's probability by a forward pass for each of its tokens, among those that may follow."""
    catalogue = ids.token[ids.catalogue]
    out = []
    for token in ids.token[video]:
        score = 0.0
        for t, code in enumerate(token):
            row = torch.cat([prompt, torch.from_numpy(token[:t])])
            allowed = np.unique(catalogue[(catalogue[:, :t] == token[:t]).all(1)][:, t])
            logit = model.logits(model(row[None])[0, -1])
            score += float(logit[code] - logit[torch.from_numpy(allowed)].logsumexp(0))
        out.append(score)
    return out


@torch.no_grad()
def test_exact_scores_are_those_of_every_path(model: CausalTransformer, ids: SemanticIds) -> None:
    trie, token = Trie.from_ids(ids), prompts(ids)[:3]
    found = exact_scores(model, trie, model.read(token))
    torch.testing.assert_close(found.exp().sum(1), torch.ones(3))
    for row, score in zip(token, found, strict=True):
        want = brute_force(model, ids, row[row > 0], trie.video.numpy())
        torch.testing.assert_close(score, torch.tensor(want), rtol=1e-4, atol=1e-4)


def test_beams_and_exact_scores_agree_on_the_five_best(ids: SemanticIds) -> None:
    config = LanguageConfig(transformer=SMALL, epochs=15, batch=16)
    model = fit_language(windows(), ids, config, seed=0).model
    trie, prompt = Trie.from_ids(ids), model.read(prompts(ids))
    best = exact_scores(model, trie, prompt).topk(5)
    beams = beam_search(model, trie, prompt, 20)
    agree = (beams.video[:, :5] == trie.video[best.indices]).all(1)
    assert float(agree.float().mean()) >= 0.95
    torch.testing.assert_close(beams.score[agree, :5], best.values[agree], rtol=1e-4, atol=1e-4)
    # Beams as wide as the catalogue are exact, and more find no other videos.
    every = beam_search(model, trie, prompt, VIDEOS)
    assert set(every.video[0].tolist()) == {-1, *KNOWN.tolist()}


def test_candidates_alone_have_their_share_of_the_probability(
    model: CausalTransformer, ids: SemanticIds
) -> None:
    """With one token a video the softmax is over the candidates, and their order stays."""
    single = one_token_ids(KNOWN, VIDEOS)
    torch.manual_seed(1)
    small = CausalTransformer(single.tokens, SMALL).eval()
    prompt = small.read(torch.tensor([[START]]))
    some = np.array([4, 20, 33])
    every, part = Trie.from_ids(single), Trie(single.token[some], some)
    score = exact_scores(small, every, prompt)[0]
    of_some = score[torch.tensor([every.video.tolist().index(v) for v in some])]
    torch.testing.assert_close(exact_scores(small, part, prompt)[0], torch.log_softmax(of_some, 0))


def test_a_trie_refuses_videos_with_the_same_tokens() -> None:
    with pytest.raises(ValueError, match="same tokens"):
        Trie(np.array([[6, 7], [6, 7]]), np.array([2, 3]))
