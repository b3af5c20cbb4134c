"""RoBERTa, XLM-RoBERTa and CamemBERT: BERT's layers, positions counted from the padding id."""

from protege.spaces.families.bert import BERT
from protege.spaces.families.family import Family
from protege.spaces.families.heads import BERT_SIZES, ROBERTA_LM_HEAD

ROBERTA = Family(
    name="RoBERTa",
    model_types=("roberta", "xlm-roberta", "camembert"),
    tensors={
        **{name: axes for name, axes in BERT.tensors.items() if not name.startswith("cls.")},
        **ROBERTA_LM_HEAD,
    },
    sizes=BERT_SIZES,
    stacks=BERT.stacks,
    refused=BERT.refused,
)
