"""OLMo-core: its trainer on a tiny transformer and random tokens, the console logger's blocks."""

import numpy as np
from olmo_core.config import DType  # noqa: F401
from olmo_core.data import NumpyDataLoaderConfig, NumpyFSLDatasetConfig, TokenizerConfig
from olmo_core.nn.transformer import TransformerConfig
from olmo_core.optim import AdamWConfig, CosWithWarmup
from olmo_core.train import Duration, TrainerConfig, prepare_training_environment, teardown_training_environment
from olmo_core.train.callbacks import CheckpointerCallback, ConsoleLoggerCallback
from olmo_core.train.train_module import TransformerTrainModuleConfig


def main():
    prepare_training_environment(seed=0, backend=None)
    np.random.default_rng(0).integers(3, 250, 6000).astype(np.uint16).tofile("tokens.npy")
    words = TokenizerConfig(vocab_size=256, eos_token_id=0, pad_token_id=1)
    data = NumpyFSLDatasetConfig(paths=["tokens.npy"], sequence_length=64, tokenizer=words, work_dir="work").build()
    model = TransformerConfig.llama_like(
        d_model=32, vocab_size=256, n_layers=1, n_heads=2, hidden_size_multiple_of=32
    ).build(init_device="cpu")
    module = TransformerTrainModuleConfig(
        rank_microbatch_size=256,
        max_sequence_length=64,
        optim=AdamWConfig(lr=1e-3),
        max_grad_norm=1.0,
        scheduler=CosWithWarmup(warmup_steps=2),
    ).build(model)
    loader = NumpyDataLoaderConfig(global_batch_size=256, seed=0, work_dir="work").build(data)
    trainer = (
        TrainerConfig(
            save_folder="out", save_overwrite=True, metrics_collect_interval=4, max_duration=Duration.steps(12)
        )
        .with_callback("checkpointer", CheckpointerCallback(save_interval=8))
        .with_callback("console", ConsoleLoggerCallback(log_interval=4))
        .build(module, loader)
    )
    trainer.fit()
    teardown_training_environment()


main()
