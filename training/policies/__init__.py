"""Long-term value: what showing a video earns until the session ends, learned from a log.

A log is a Markov decision process: the state is what was known before an exposure, the action a video among
candidates, the reward any label or the seconds watched, and the end of the session (30 minutes of silence)
ends the return. `log_steps` makes steps of a log and `write_steps` files of them, `fit_q` learns Q(s, a), and
a `Policy` chooses by it. What another policy would have earned is estimated by `fitted_q_evaluation` and
`doubly_robust_return`. Where the log's policy never varied there is no overlap, and no such estimate.
"""

from training.policies._config import QLearningConfig
from training.policies._conservative import conservative_loss
from training.policies._dense_dqn import MOST_BYTES, dense_head_bytes, dense_network, fit_dense_dqn
from training.policies._doubly_robust_return import ReturnEstimate, doubly_robust_return
from training.policies._fit import fit_q, returns
from training.policies._fitted_q_evaluation import fitted_q_evaluation
from training.policies._log import history_states, log_steps, session_numbers
from training.policies._policy import Policy, draw_choices, greedy, imitation, mixture, one_hot_of_best
from training.policies._q_network import QNetwork, Scores
from training.policies._retrace import retrace
from training.policies._self_supervised import self_supervised_loss
from training.policies._steps import Steps, read_steps, write_steps
from training.policies._windows import discounts

__all__ = [
    "MOST_BYTES",
    "Policy",
    "QLearningConfig",
    "QNetwork",
    "ReturnEstimate",
    "Scores",
    "Steps",
    "conservative_loss",
    "dense_head_bytes",
    "dense_network",
    "discounts",
    "doubly_robust_return",
    "draw_choices",
    "fit_dense_dqn",
    "fit_q",
    "fitted_q_evaluation",
    "greedy",
    "history_states",
    "imitation",
    "log_steps",
    "mixture",
    "one_hot_of_best",
    "read_steps",
    "retrace",
    "returns",
    "self_supervised_loss",
    "session_numbers",
    "write_steps",
]
