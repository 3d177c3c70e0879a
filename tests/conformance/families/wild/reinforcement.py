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


@wild("torchrl", "actor and critic of PPO")
def _() -> Case:
    import torch
    from tensordict.nn import TensorDictModule
    from torch import nn
    from torchrl.modules import MLP, NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            net = nn.Sequential(MLP(in_features=4, out_features=4, num_cells=[16]), NormalParamExtractor())
            self.actor = ProbabilisticActor(
                TensorDictModule(net, in_keys=["observation"], out_keys=["loc", "scale"]),
                in_keys=["loc", "scale"],
                distribution_class=TanhNormal,
                return_log_prob=True,
            )
            self.critic = ValueOperator(MLP(in_features=4, out_features=1, num_cells=[16]), in_keys=["observation"])

        def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, ...]:
            from tensordict import TensorDict

            batch = self.critic(self.actor(TensorDict({"observation": observation}, batch_size=[len(observation)])))
            return batch["action"], batch["state_value"]

    return Case(Step(), (signal(5, 4),))


@wild("torchrl", "Decision Transformer")
def _() -> Case:
    from torchrl.modules import DecisionTransformer

    model = DecisionTransformer(
        4,
        2,
        config={
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 2,
            "n_inner": 64,
            "activation": "relu",
            "n_positions": 64,
            "resid_pdrop": 0.1,
            "attn_pdrop": 0.1,
        },
    )
    return Case(model, (signal(2, 5, 4), signal(2, 5, 2), signal(2, 5, 1)))
