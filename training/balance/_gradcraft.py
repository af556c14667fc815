"""GradCraft: gradients of objectives made alike in size, then freed of every conflict at once."""

# Shape suffixes: T objectives. A Gramian `[T, T]` holds the inner products of their gradients.

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torchjd.aggregation import Weighting
from torchjd.linalg import PSDMatrix

_SILENT: Final = 1e-12
"""A gradient shorter than this share of the longest counts as zero."""
_SINGULAR: Final = 1e-12
"""Eigenvalues of the cosines of conflicting gradients below this share of the largest count as zero."""


class Crafted(NamedTuple):
    """What GradCraft makes of one Gramian."""

    weights: Tensor
    """`[T]` of each gradient as it came, in the update: Σ_t weight_t g_t."""
    scale: Tensor
    """`[T]` what each gradient was multiplied by before conflicts were looked for; 0 where it is zero."""
    mix: Tensor
    """`[T, T]` row i: how the resolved gradient g̃_i is made of the scaled ones, g̃_i = Σ_j mix_ij ĝ_j."""
    unmet: float
    """The largest |cos(g̃_i, ĝ_j) - ε| over the pairs that were in conflict, measured on ĝ_i's length: above
    rounding only where gradients depend on each other so that no correction meets every target."""


class GradCraft(Weighting[PSDMatrix]):
    """GradCraft as a TorchJD weighting: the Gramian of the gradients -> their weights in the update.

    `GramianWeightedAggregator(GradCraft())` is the aggregator that goes with it.

    Args:
        tau: τ in [0, 1], how far gradients are brought to the length of the longest; no length is left
            below τ of it. The paper searches {0, .1, …, 1}; its example is .1.
        epsilon: ε ≥ 0, the cosine that is left of a conflict. The paper searches 1e-10 to 1e-8.

    Raises:
        ValueError: a hyperparameter outside its range.
    """

    def __init__(self, tau: float = 0.1, epsilon: float = 1e-10) -> None:
        super().__init__()
        if not 0 <= tau <= 1:
            raise ValueError(f"`tau` must be in [0, 1], found {tau}.")
        if not 0 <= epsilon < 1:
            raise ValueError(f"`epsilon` must be in [0, 1), found {epsilon}.")
        self.tau, self.epsilon = tau, epsilon

    def forward(self, gramian: PSDMatrix, /) -> Tensor:
        """`[T, T]` -> `[T]` weights."""
        return craft(gramian, self.tau, self.epsilon).weights

    def __repr__(self) -> str:
        return f"GradCraft(tau={self.tau}, epsilon={self.epsilon})"


def craft(gramian_TT: Tensor, tau: float = 0.1, epsilon: float = 1e-10) -> Crafted:
    """Weights of the update from inner products alone.

        ĝ_i = (τ max_j‖g_j‖ / ‖g_i‖ + 1 - τ) g_i
        S_i = {j: ĝ_i·ĝ_j < 0}
        g̃_i = ĝ_i + Σ_{j∈S_i} w_ij ĝ_j    with g̃_i·ĝ_j = ε ‖ĝ_i‖ ‖ĝ_j‖ for every j of S_i
        update = mean_i g̃_i

    w is the solution of |S_i| linear equations, for all i at once. They are solved for unit vectors, so that
    lengths 1e6 apart are no harder than equal ones; where gradients in conflict with the same one depend on
    each other, the shortest w is taken that misses the targets least.

    Args:
        gramian_TT: inner products of T gradients over the shared parameters, any float type. Computed in
            float64 whatever it is.
        tau: as in `GradCraft`.
        epsilon: as in `GradCraft`.

    Returns:
        Float tensors of the Gramian's type.

    Source: Liu et al., "GradCraft: Elevating Multi-task Recommendations through Holistic Gradient
    Crafting", KDD 2024. The equations there are over whole gradients. Ours: a zero gradient is left out of
    both steps, and dependent gradients are allowed; the released code has no guard for either. Only what is
    shared goes in here; the released code also compares private parameters, which lengthens the gradients
    and changes no inner product.
    """
    gram_TT = gramian_TT.detach().to(torch.float64)
    objectives = len(gram_TT)
    norm_T = gram_TT.diagonal().clamp(min=0).sqrt()
    longest = norm_T.max() if objectives else norm_T.new_zeros(())
    heard_T = (norm_T > _SILENT * longest) & (longest > 0)
    safe_T = torch.where(heard_T, norm_T, 1.0)
    scale_T = torch.where(heard_T, tau * longest / safe_T + (1 - tau), 0.0)
    length_T = scale_T * safe_T  # of ĝ
    cos_TT = gram_TT / (safe_T[:, None] * safe_T)
    # Row i of the mask is S_i.
    conflict_TT = (cos_TT < 0) & heard_T[:, None] & heard_T
    unit_TT = _solve(cos_TT, conflict_TT, epsilon)
    mix_TT = torch.diag(heard_T.to(gram_TT.dtype)) + unit_TT * length_T[:, None] / torch.where(
        heard_T, length_T, 1.0
    )
    met_TT = cos_TT + unit_TT @ cos_TT
    missed_TT = torch.where(conflict_TT, (met_TT - epsilon).abs(), 0.0)
    weights_T = scale_T * mix_TT.sum(0) / max(objectives, 1)
    kind = gramian_TT.dtype
    return Crafted(
        weights_T.to(kind), scale_T.to(kind), mix_TT.to(kind), float(missed_TT.max()) if objectives else 0.0
    )


def _solve(cos_TT: Tensor, conflict_TT: Tensor, epsilon: float) -> Tensor:
    """Row i: the correction of the unit vector i, 0 outside S_i."""
    both_TTT = conflict_TT[:, :, None] & conflict_TT[:, None, :]
    # Outside S_i the system is the identity, so that all T of them have one size.
    system_TTT = torch.where(both_TTT, cos_TT, torch.eye(len(cos_TT), dtype=cos_TT.dtype))
    wanted_TT = torch.where(conflict_TT, epsilon - cos_TT, 0.0)
    value_TT, vector_TTT = torch.linalg.eigh(system_TTT)
    kept_TT = value_TT > _SINGULAR * value_TT.amax(-1, keepdim=True)
    inverse_TT = torch.where(kept_TT, 1.0 / torch.where(kept_TT, value_TT, 1.0), 0.0)
    along_TT = (vector_TTT.mT @ wanted_TT[:, :, None])[..., 0]
    return torch.where(conflict_TT, (vector_TTT @ (inverse_TT * along_TT)[:, :, None])[..., 0], 0.0)
