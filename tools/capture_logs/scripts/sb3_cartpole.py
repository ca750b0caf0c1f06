"""Stable-Baselines3: sb3_cartpole.py ppo|dqn on CartPole, the boxed table of its logger, an evaluation callback."""

import sys

from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback


def main():
    if sys.argv[1] == "ppo":
        agent = PPO("MlpPolicy", "CartPole-v1", n_steps=128, batch_size=64, n_epochs=2, verbose=1, seed=0, device="cpu")
    else:
        agent = DQN("MlpPolicy", "CartPole-v1", learning_starts=50, verbose=1, seed=0, device="cpu")
    evaluate = EvalCallback(agent.get_env(), eval_freq=250, n_eval_episodes=2, verbose=1, best_model_save_path="best")
    agent.learn(
        384,
        callback=[evaluate, CheckpointCallback(200, "ckpt", verbose=2)],
        log_interval=1 if sys.argv[1] == "ppo" else 8,
        progress_bar="bar" in sys.argv,
    )


main()
