"""SetFit on a tiny static embedding: contrastive bar, then the head."""

import tiny
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.linear_model import LogisticRegression


def main():
    body = SentenceTransformer(modules=[StaticEmbedding(tiny.tokenizer(chat=False), embedding_dim=32)], device="cpu")
    rows = Dataset.from_dict({"text": tiny.texts(16), "label": [i % 2 for i in range(16)]})
    args = TrainingArguments(
        num_epochs=1,
        batch_size=8,
        logging_steps=2,
        report_to="none",
        num_iterations=2,
        eval_strategy="steps",
        eval_steps=4,
    )
    Trainer(
        SetFitModel(model_body=body, model_head=LogisticRegression()), args=args, train_dataset=rows, eval_dataset=rows
    ).train()


main()
