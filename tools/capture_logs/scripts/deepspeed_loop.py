"""DeepSpeed engine on a CPU: deepspeed_loop.py times|info: the wall-clock breakdown, or its logger at INFO (0.19 is silent by default)."""

import logging
import sys

import deepspeed
import torch


def main():
    if sys.argv[1] == "info":
        logger = logging.getLogger("DeepSpeed")
        for one in (logger, *logger.handlers):
            one.setLevel(logging.INFO)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    engine, _, _, _ = deepspeed.initialize(
        model=model,
        model_parameters=model.parameters(),
        config={
            "train_micro_batch_size_per_gpu": 4,
            "gradient_accumulation_steps": 2,
            "steps_per_print": 2,
            "wall_clock_breakdown": sys.argv[1] == "times",
            "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
            "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 4, "warmup_max_lr": 1e-3}},
            "zero_optimization": {"stage": 1},
        },
    )
    for step in range(1, 13):
        x = torch.randn(4, 16)
        loss = torch.nn.functional.mse_loss(engine(x), x.sum(1, keepdim=True))
        engine.backward(loss)
        engine.step()
        if step % 4 == 0 and engine.global_rank == 0:
            print(f"step {step}: loss {loss.item():.4f}")
    engine.save_checkpoint("ckpt", tag="global_step6")


main()
