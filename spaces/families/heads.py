"""Tables of heads and sizes that families share."""

from collections.abc import Mapping

CLASSIFIERS: Mapping[str, str] = {
    "{classifier,score,cls_classifier,distillation_classifier}": "label hidden",
    "{classifier,classification_head}.dense": "hidden hidden",
    "{classifier,classification_head}.out_proj": "label hidden",
    "qa_outputs": "label hidden",
}
"""Classifiers of texts, tokens and images with one or two layers, and question answering."""

BERT_SIZES: Mapping[str, str] = {
    "num_hidden_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
}
"""Sizes in BERT's configuration; the head size is the hidden size over the number of heads."""

LLAMA_SIZES: Mapping[str, str] = {
    "num_hidden_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
}
"""Sizes in Llama's configuration, which has a head size of its own."""

ROBERTA_LM_HEAD: Mapping[str, str] = {
    "lm_head.dense": "hidden hidden",
    "lm_head.layer_norm": "hidden",
    "lm_head.decoder": "vocab hidden",
    "lm_head.bias": "vocab",
}
