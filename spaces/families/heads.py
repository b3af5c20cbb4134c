"""Parts of tables that families share."""

from collections.abc import Mapping

CLASSIFIERS: Mapping[str, str] = {
    "{classifier,score,cls_classifier,distillation_classifier}": "label hidden",
    "{classifier,classification_head}.dense": "hidden hidden",
    "{classifier,classification_head}.out_proj": "label hidden",
    "qa_outputs": "label hidden",
}
"""Classifiers of texts, tokens and images with one or two layers, and question answering."""

ROBERTA_LM_HEAD: Mapping[str, str] = {
    "lm_head.dense": "hidden hidden",
    "lm_head.layer_norm": "hidden",
    "lm_head.decoder": "vocab hidden",
    "lm_head.bias": "vocab",
}


def without(table: Mapping[str, str], *parts: str) -> dict[str, str]:
    """Return the entries of a table whose names contain none of these parts."""
    return {n: entry for n, entry in table.items() if not any(part in n for part in parts)}


_NAMES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads")
LLAMA_SIZES = {name: name for name in (*_NAMES, "head_dim", "intermediate_size", "vocab_size")}
"""Sizes in Llama's configuration, which has a head size of its own."""

BERT_SIZES = without(LLAMA_SIZES, "num_key_value_heads", "head_dim")
"""Sizes in BERT's configuration; the head size is the hidden size over the number of heads."""
