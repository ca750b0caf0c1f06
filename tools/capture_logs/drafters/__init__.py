"""Drafts what a captured log states, one function a format; draft() picks it by the case's "drafter" or framework.

Each returns (expect, summary, checkpoints) as the corpus format has them. The patterns are exact for one trainer's
release: they are meant to fail loudly on another, not to be general. They share no code with rigwise's reader.
"""

from drafters import boosting, huggingface, language, lightning, loops, others

DRAFTERS = {
    "accelerate-example": huggingface.accelerate_loop,
    "axolotl": huggingface.hf,
    "catboost": boosting.catboost,
    "clu": loops.clu,
    "composer": loops.composer,
    "coqui-trainer": others.coqui,
    "d3rlpy": others.d3rlpy,
    "deepspeed": language.deepspeed,
    "fastai": loops.fastai,
    "flair": language.flair,
    "flax": loops.jax_loop,
    "gensim": language.gensim,
    "gluonts": lightning.gluonts,
    "hf-trainer": huggingface.hf,
    "keras": loops.keras,
    "lerobot": others.lerobot,
    "lightgbm": boosting.lightgbm,
    "lightning": lightning.lightning,
    "lightning-rich": lightning.lightning_rich,
    "litgpt": language.litgpt,
    "llama-factory": huggingface.hf,
    "mlx": language.mlx,
    "mmengine": loops.mmengine,
    "monai": loops.monai,
    "ms-swift": huggingface.hf,
    "ngboost": boosting.ngboost,
    "olmo-core": language.olmo_core,
    "open_clip": others.open_clip,
    "paddle": loops.paddle,
    "poutyne": loops.poutyne,
    "pykeen": loops.pykeen,
    "pytorch-widedeep": loops.widedeep,
    "pytorch-ignite": loops.ignite,
    "pytorch-tabnet": boosting.tabnet,
    "scikit-learn": boosting.sklearn,
    "sentence-transformers": huggingface.hf,
    "setfit": huggingface.hf,
    "skorch": loops.skorch,
    "spacy": language.spacy,
    "speechbrain": loops.speechbrain,
    "stable-baselines3": others.stable_baselines,
    "tf-keras": loops.tf_keras,
    "torchrun-example": loops.ranks,
    "torchtune": language.torchtune,
    "trl": huggingface.hf,
    "ultralytics": others.ultralytics,
    "vowpalwabbit": boosting.vowpalwabbit,
    "xgboost": boosting.xgboost,
    "ydf": boosting.ydf,
}


def draft(case, text):
    """Return (expect, summary, checkpoints) of a log of this case."""
    return DRAFTERS[case.get("drafter", case["framework"])](case, text)
