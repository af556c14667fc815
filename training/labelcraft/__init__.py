"""LabelCraft: labels learned so that a recommender trained on them serves the platform's objectives.

A label maker g_φ turns the feedback on an exposure into a label, a recommender f_θ is trained on the labels,
and the platform's objectives M_i are measured on the slates that f_θ would show held-out users:

    max_φ  Σ_i ω_i M_i(θ*(φ))    such that    θ*(φ) = argmin_θ Σ_x ℓ(f_θ(x), g_φ(w, d, e))

One mini-batch B of training rows, with a sample of the held-out users:

    1  y  = g_φ(feedback)                         labels of B                       _model.py
    2  θ' = θ - η1 ∇_θ L(θ, y)                    lookahead: one inner step         _gradients.py
    3  α  = soft top-k of f_θ' on the users       slate weights α/k, by transport   _soft_top_k.py
    4  M_i(α/k), ω_i                              objectives and their balance      _objectives.py _balance.py
    5  ∂M/∂y_b = (2/B) ⟨∇_θ f(x_b), η1 ∇_θ' M⟩    which rows should be labelled higher, by one
                                                  forward-mode product              _gradients.py
    6  φ ← φ + η2 Σ_b ∂M/∂y_b ∇_φ y_b             outer step                        _step.py
    7  θ ← θ - η1 ∇_θ L(θ, g_φ)                   inner step on the new labels      _step.py

`closed_form/` solves the inner problem exactly instead of step 2, for a table of labels.

`_hold_out.py` lays the held-out users out, `_warm_start.py` is where φ begins, `_train.py` alternates the
steps until early stopping, `_config.py` has the hyperparameters.

Source: Bai et al., "LabelCraft: Empowering Short Video Recommendations with Automated Label Crafting",
WSDM 2024; code baiyimeng/LabelCraft@dce15ee. Deviations, each with its reason where it is made: step 5 is
exact without second-order autodiff; the soft top-k is solved to convergence, at a temperature relative to the
spread of the scores; inputs are scaled, with biases; φ starts at each row's own share of the objectives;
early stopping has rows of its own; and options for Adam in both loops, a warm-up and a fixed mean label.
"""

from training.labelcraft._config import LabelCraftConfig
from training.labelcraft._gradients import InnerLoss
from training.labelcraft._model import LabelCraft
from training.labelcraft._objectives import (
    OBJECTIVES,
    RELATIVE_OBJECTIVES,
    Candidates,
    Objective,
    author_diversity,
    candidates_of,
    next_day_return,
    no_skips,
)
from training.labelcraft._soft_top_k import relative_temperature, soft_top_k
from training.labelcraft._step import BilevelLearner
from training.labelcraft._train import FittedLabels, fit_labelcraft

__all__ = [
    "OBJECTIVES",
    "RELATIVE_OBJECTIVES",
    "BilevelLearner",
    "Candidates",
    "FittedLabels",
    "InnerLoss",
    "LabelCraft",
    "LabelCraftConfig",
    "Objective",
    "author_diversity",
    "candidates_of",
    "fit_labelcraft",
    "next_day_return",
    "no_skips",
    "relative_temperature",
    "soft_top_k",
]
