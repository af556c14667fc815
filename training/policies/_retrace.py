"""n-step returns of another policy than the log's: later logged steps count as far as it would take them."""

# Shape suffixes: B windows, W = n + 1 steps.

from __future__ import annotations

from torch import Tensor


def retrace(
    reward_BW: Tensor,
    discount_BW: Tensor,
    value_BW: Tensor,
    logged_BW: Tensor,
    ratio_BW: Tensor,
    limit: float,
) -> Tensor:
    """Return the target of the first step of each window.

        G_t = r_t + d_t (V_{t+1} + c_{t+1} (G_{t+1} - Q(s_{t+1}, a_{t+1})))
        c = min(limit, π(a | s) / μ(a | s)), and 0 at the last step of the window

    With one step, or limit 0, it is the target of Q-learning.

    Args:
        reward_BW, discount_BW: of each step, and of what follows it.
        value_BW: V, the mean of Q under the policy π.
        logged_BW: Q of the logged videos.
        ratio_BW: π / μ of the logged videos.
        limit: bound of the ratios, without which their product would explode.

    Returns:
        `[B]`

    Source: Munos et al., "Safe and efficient off-policy reinforcement learning", NIPS 2016. Deviation: cut
    after n steps.
    """
    last = reward_BW.shape[1] - 1
    weight_BW = ratio_BW.clamp(max=limit)
    target_B = reward_BW[:, last - 1] + discount_BW[:, last - 1] * value_BW[:, last]
    for k in range(last - 2, -1, -1):
        later_B = value_BW[:, k + 1] + weight_BW[:, k + 1] * (target_B - logged_BW[:, k + 1])
        target_B = reward_BW[:, k] + discount_BW[:, k] * later_B
    return target_B
