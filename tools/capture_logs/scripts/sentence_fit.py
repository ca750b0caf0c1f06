"""sentence-transformers: a tiny static embedding trained on made-up pairs, with an evaluator."""

import tiny
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding


def main():
    model = SentenceTransformer(modules=[StaticEmbedding(tiny.tokenizer(chat=False), embedding_dim=32)], device="cpu")
    texts = tiny.texts(64)
    rows = Dataset.from_dict({"anchor": texts, "positive": [t[::-1] for t in texts]})
    judge = EmbeddingSimilarityEvaluator(texts[:8], texts[8:16], [i / 8 for i in range(8)], name="sts-dev")
    args = SentenceTransformerTrainingArguments(
        "out",
        num_train_epochs=1,
        per_device_train_batch_size=8,
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=4,
        save_steps=4,
        report_to="none",
        use_cpu=True,
        learning_rate=0.05,
    )
    SentenceTransformerTrainer(
        model=model,
        args=args,
        train_dataset=rows,
        eval_dataset=rows.select(range(16)),
        loss=MultipleNegativesRankingLoss(model),
        evaluator=judge,
    ).train()


main()
