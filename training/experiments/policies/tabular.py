"""Markov decision processes small enough to be solved: values are exact."""

# Shape suffixes: S states, A videos, N steps.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch

from models.arrays import F32, F64, I64
from training.policies import Policy, Steps, draw_choices

_TOLERANCE: Final = 1e-10
_GO_ON: Final = 0.95
"""Probability that a session goes on after a video that does not tempt."""


@dataclass(frozen=True, slots=True)
class TabularProcess:
    """Rewards and moves of every state and video. States and videos are known by their number alone."""

    reward: F64
    """`[S, A]` mean rewards."""
    move: F64
    """`[S, A, S]` probability of the next state; what is missing to 1 ends the session."""
    gamma: float
    noise: float = 0.2
    """Standard deviation of a reward."""

    @classmethod
    def chain(cls, seed: int, *, states: int = 40, gamma: float = 0.9) -> Self:
        """Draw a feed in which the video that earns most now costs the rest of the session.

        A user's interest is a chain of states. Of four videos one deepens it by a state or two and earns
        little, one earns most but throws interest back to its start or ends the session, and two lead to
        states nearby. What every video earns rises along the chain.
        """
        random = np.random.default_rng(seed)
        level_S = np.linspace(0.3, 1.5, states)
        deepen, tempt = random.permutation(4)[:2]
        share_A = random.uniform(0.45, 0.6, 4)
        share_A[[deepen, tempt]] = random.uniform(0.5, 0.6), random.uniform(1.0, 1.2)
        reward_SA = level_S[:, None] * share_A
        move_SAS = np.zeros((states, 4, states))
        rows = np.arange(states)
        for video in range(4):
            if video == tempt:
                move_SAS[:, video, 0] = 0.6
                continue
            steps = {1: 0.6, 2: 0.4} if video == deepen else {-1: 0.5, 0: 0.3, 1: 0.2}
            for step, probability in steps.items():
                following = np.clip(rows + step, 0, states - 1)
                move_SAS[rows, video, following] += _GO_ON * probability
        return cls(reward_SA, move_SAS, gamma)

    @property
    def states(self) -> int:
        """S."""
        return len(self.reward)

    @property
    def videos(self) -> int:
        """A, all of which are candidates in every state."""
        return int(self.reward.shape[1])

    def best(self) -> F64:
        """Return the best policy by value iteration, `[S, A]` probabilities."""
        value_S = np.zeros(self.states)
        while True:
            q_SA = self.reward + self.gamma * self.move @ value_S
            if np.abs(q_SA.max(axis=1) - value_S).max() < _TOLERANCE:
                return _one_hot(q_SA)
            value_S = q_SA.max(axis=1)

    def myopic(self) -> F64:
        """Return the policy of the highest next reward, `[S, A]`."""
        return _one_hot(self.reward)

    def uniform(self) -> F64:
        """Return the policy that chooses at random, `[S, A]`."""
        return np.full(self.reward.shape, 1 / self.videos)

    def value(self, policy_SA: F64) -> float:
        """Return the mean discounted return from the first state, exactly."""
        move_SS = np.einsum("sa,sat->st", policy_SA, self.move)
        reward_S = (policy_SA * self.reward).sum(axis=1)
        value_S = np.linalg.solve(np.eye(self.states) - self.gamma * move_SS, reward_S)
        return float(value_S[0])

    def as_policy(self, policy_SA: F64) -> Policy:
        """Return the policy of a table."""
        table = torch.from_numpy(policy_SA.astype(np.float32))
        return lambda state, _: table[state.argmax(dim=-1)]

    def table(self, policy: Policy) -> F64:
        """Return a fitted policy as `[S, A]` probabilities."""
        candidates = torch.arange(self.videos).expand(self.states, -1)
        with torch.no_grad():
            return policy(torch.eye(self.states), candidates).numpy().astype(np.float64)

    def vectors(self) -> F32:
        """Return the videos' vectors."""
        return np.eye(self.videos, dtype=np.float32)

    def simulate(self, policy_SA: F64, sessions: int, seed: int, *, longest: int = 100) -> Steps:
        """Log sessions of as many users; all sessions go on at once."""
        random = np.random.default_rng(seed)
        state = np.zeros(sessions, np.int64)
        going = np.arange(sessions)
        parts: list[tuple[I64, I64, I64, I64, F64]] = []
        for time in range(longest):
            at = state[going]
            action = draw_choices(policy_SA[at], random)
            reward = self.reward[at, action] + self.noise * random.normal(size=len(at))
            parts.append((going, np.full(len(at), time, np.int64), at, action, reward))
            rest = 1 - self.move[at, action].sum(axis=1, keepdims=True)
            following = draw_choices(np.concatenate([self.move[at, action], rest], axis=1), random)
            state[going] = following
            going = going[following < self.states]
        user_N, time_N, at, action = (np.concatenate([part[i] for part in parts]) for i in range(4))
        order = np.lexsort((time_N, user_N))
        user, at, action = user_N[order], at[order], action[order]
        reward = np.concatenate([part[4] for part in parts])[order]
        return Steps(
            user=user,
            session=user,
            state=np.eye(self.states, dtype=np.float32)[at],
            candidates=np.tile(np.arange(self.videos), (len(user), 1)),
            action=action,
            reward=reward.astype(np.float32),
            propensity=policy_SA[at, action].astype(np.float32),
        )


def _one_hot(score_SA: F64) -> F64:
    out: F64 = np.eye(score_SA.shape[1])[score_SA.argmax(axis=1)]
    return out
