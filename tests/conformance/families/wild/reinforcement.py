"""Policies and values of reinforcement learning."""

from __future__ import annotations

from zoo import Case

from families.wild.table import signal, wild


@wild("stable-baselines3", "policy of PPO, discrete actions")
def _() -> Case:
    from gymnasium.spaces import Box, Discrete
    from stable_baselines3.common.policies import ActorCriticPolicy

    return Case(ActorCriticPolicy(Box(-1, 1, (4,)), Discrete(3), lambda _: 1e-3), (signal(5, 4),))


@wild("stable-baselines3", "policy of PPO, continuous actions of images")
def _() -> Case:
    import numpy
    from gymnasium.spaces import Box
    from stable_baselines3.common.policies import ActorCriticCnnPolicy

    images = Box(0, 255, (3, 36, 36), dtype=numpy.uint8)
    return Case(ActorCriticCnnPolicy(images, Box(-1, 1, (2,)), lambda _: 1e-3), (signal(2, 3, 36, 36),))


@wild("stable-baselines3", "actor of SAC")
def _() -> Case:
    from gymnasium.spaces import Box
    from stable_baselines3.sac.policies import SACPolicy

    policy = SACPolicy(Box(-1, 1, (4,)), Box(-1, 1, (2,)), lambda _: 1e-3, net_arch=[16, 16])
    return Case(policy.actor, (signal(5, 4),))


@wild("stable-baselines3", "Q-network of DQN")
def _() -> Case:
    from gymnasium.spaces import Box, Discrete
    from stable_baselines3.dqn.policies import DQNPolicy

    return Case(DQNPolicy(Box(-1, 1, (4,)), Discrete(3), lambda _: 1e-3, net_arch=[16, 16]).q_net, (signal(5, 4),))
