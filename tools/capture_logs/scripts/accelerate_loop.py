"""A loop in the way of the no_trainer examples: accelerate, its logger, one tqdm bar on the local main process."""

import logging
import math

import tiny
import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from tqdm.auto import tqdm
from transformers import get_scheduler

EPOCHS = 2


def main():
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    logger = get_logger(__name__)
    logging.basicConfig(
        format="%(asctime)s - %(levelname)s - %(name)s - %(message)s", datefmt="%m/%d/%Y %H:%M:%S", level=logging.INFO
    )
    logger.info(accelerator.state, main_process_only=False)
    made = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 300, (32, 32), generator=made)
    loader = torch.utils.data.DataLoader(rows, batch_size=4)
    model = tiny.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    steps = EPOCHS * math.ceil(len(loader) / 2)
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=steps)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    logger.info("***** Running training *****")
    logger.info(f"  Num examples = {len(rows)}")
    logger.info(f"  Num Epochs = {EPOCHS}")
    logger.info("  Instantaneous batch size per device = 4")
    logger.info("  Gradient Accumulation steps = 2")
    logger.info(f"  Total optimization steps = {steps}")
    bar = tqdm(range(steps), disable=not accelerator.is_local_main_process)
    done = 0
    for epoch in range(EPOCHS):
        for batch in loader:
            with accelerator.accumulate(model):
                loss = model(input_ids=batch, labels=batch).loss
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                bar.update(1)
                done += 1
                bar.set_postfix(loss=loss.item(), lr=scheduler.get_last_lr()[0])
                if done == 3:
                    accelerator.save_state(f"out/step_{done}")
        with torch.no_grad():
            eval_loss = model(input_ids=rows[:8], labels=rows[:8]).loss
        logger.info(f"epoch {epoch}: perplexity: {math.exp(eval_loss)} eval_loss: {eval_loss}")


main()
