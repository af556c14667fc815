"""Language: videos as short sequences of tokens, and a causal transformer that predicts the next video.

    tokens of a video     residual vector quantisation, and a last token        _semantic_ids.py
    prompt                START, tokens of a video, what the user did, ...       _long_views.py
    L = L_n + λ L_c       L_c by logits less those without the history           _loss.py _fit.py
    model from scratch    a small causal transformer                            _transformer.py
    pretrained model      SmolLM2-135M with low-rank adapters, an extra         _pretrained.py
    next video            beam search along the trie of all videos, or exactly  _trie.py _decode.py

Source: CFT (counterfactual fine-tuning), https://github.com/itsmeyjt/CFT; semantic ids as in Rajput et al.,
TIGER, NeurIPS 2023. Deviations: a transformer from scratch over semantic ids in place of a large language
model over titles, and a small pretrained one reads the same ids; a row has a prompt for each of its videos;
the running mean of the weights is kept.
"""

from training.language._decode import Beams, beam_search, exact_scores
from training.language._fit import (
    FittedLanguage,
    LanguageConfig,
    Targets,
    fit_language,
    logits_without_history,
    targets_with_history,
)
from training.language._long_views import (
    LongViews,
    Windows,
    histories,
    read_long_views,
    token_rows,
    training_windows,
)
from training.language._loss import counterfactual_loss, token_weights, weighted_cross_entropy
from training.language._pretrained import PretrainedTransformer, load_smollm2
from training.language._semantic_ids import (
    ACTIONS,
    START,
    SemanticIds,
    SemanticIdsConfig,
    action_tokens,
    fit_semantic_ids,
    one_token_ids,
    video_features,
)
from training.language._transformer import CausalTransformer, LanguageModel, Prompt, Suffix, TransformerConfig
from training.language._trie import NONE, Trie

__all__ = [
    "ACTIONS",
    "NONE",
    "START",
    "Beams",
    "CausalTransformer",
    "FittedLanguage",
    "LanguageConfig",
    "LanguageModel",
    "LongViews",
    "PretrainedTransformer",
    "Prompt",
    "SemanticIds",
    "SemanticIdsConfig",
    "Suffix",
    "Targets",
    "TransformerConfig",
    "Trie",
    "Windows",
    "action_tokens",
    "beam_search",
    "counterfactual_loss",
    "exact_scores",
    "fit_language",
    "fit_semantic_ids",
    "histories",
    "load_smollm2",
    "logits_without_history",
    "one_token_ids",
    "read_long_views",
    "targets_with_history",
    "token_rows",
    "token_weights",
    "training_windows",
    "video_features",
    "weighted_cross_entropy",
]
