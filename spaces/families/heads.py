"""The heads that transformers puts on base models: tables that families share."""

from collections.abc import Mapping

CLASSIFIERS: Mapping[str, str] = {
    "{classifier,score,cls_classifier,distillation_classifier}": "label hidden",
    "{classifier,classification_head}.dense": "hidden hidden",
    "{classifier,classification_head}.out_proj": "label hidden",
    "qa_outputs": "label hidden",
}
"""Of texts, tokens and images, in one layer or two, and of spans that answer a question."""

BERT_SIZES: Mapping[str, str] = {
    "num_hidden_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
}
"""Sizes under the names that BERT's configuration gave them; a head is the width over the heads."""

LLAMA_SIZES: Mapping[str, str] = {
    "num_hidden_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
}
"""Sizes under the names that Llama's configuration gave them; heads have a size of their own."""

ROBERTA_LM_HEAD: Mapping[str, str] = {
    "lm_head.dense": "hidden hidden",
    "lm_head.layer_norm": "hidden",
    "lm_head.decoder": "vocab hidden",
    "lm_head.bias": "vocab",
}
