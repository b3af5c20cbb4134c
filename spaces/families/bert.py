"""BERT and encoders with its layers: RoBERTa, MPNet, ELECTRA, DeBERTa, DistilBERT, ModernBERT."""

from dataclasses import replace

from protege.spaces.families.family import STEM, Family
from protege.spaces.families.heads import BERT_SIZES, CLASSIFIERS, ROBERTA_LM_HEAD, without

_EMBEDDINGS = {
    "embeddings.word_embeddings": "vocab hidden",
    "embeddings.{position,token_type}_embeddings": "place hidden",
    "embeddings.LayerNorm": "hidden",
}
_NARROW_EMBEDDINGS = {
    "embeddings.word_embeddings": "vocab embedding_size",
    "embeddings.{position,token_type}_embeddings": "place embedding_size",
}
_LAYERS = {
    "encoder.layer.*.attention.self.{query,key,value}": "heads hidden",
    "encoder.layer.*.attention.output.dense": "hidden heads",
    "encoder.layer.*.attention.output.LayerNorm": "hidden",
    "encoder.layer.*.intermediate.dense": "ffn hidden",
    "encoder.layer.*.output.dense": "hidden ffn",
    "encoder.layer.*.output.LayerNorm": "hidden",
}

# BERT: post-LN, learned positions, the number of heads follows the width
BERT = Family(
    name="BERT",
    model_types=("bert",),
    tensors={
        **_EMBEDDINGS,
        **_LAYERS,
        "pooler.dense": "hidden hidden",
        "cls.predictions.transform.dense": "hidden hidden",
        "cls.predictions.transform.LayerNorm": "hidden",
        "cls.predictions.decoder": "vocab hidden",
        "cls.predictions.bias": "vocab",
        **CLASSIFIERS,
    },
    sizes=BERT_SIZES,
    stacks={"encoder": "encoder.layer.*"},
    projections=("query", "key", "value"),
    refused={"add_cross_attention": "a BERT that attends to another model is half of a pair"},
)

# RoBERTa, XLM-RoBERTa and CamemBERT: BERT's layers; positions count from the padding id
ROBERTA = replace(
    BERT,
    name="RoBERTa",
    model_types=("roberta", "xlm-roberta", "camembert"),
    tensors={**without(BERT.tensors, "cls."), **ROBERTA_LM_HEAD},
    first_position=1,
    counts_from_padding=True,
)

# MPNet: BERT with a bias per head and distance, which all layers share
MPNET = Family(
    name="MPNet",
    model_types=("mpnet",),
    tensors={
        **_EMBEDDINGS,
        **without(_LAYERS, ".attention"),
        "encoder.layer.*.attention.attn.{q,k,v}": "heads hidden",
        "encoder.layer.*.attention.attn.o": "hidden heads",
        "encoder.layer.*.attention.LayerNorm": "hidden",
        "encoder.relative_attention_bias": "bucket encoder.head",
        "pooler.dense": "hidden hidden",
        **ROBERTA_LM_HEAD,
        **CLASSIFIERS,
    },
    sizes=BERT_SIZES,
    stacks=BERT.stacks,
    shared=("heads",),
    projections=("q", "k", "v"),
    first_position=2,
    stem=(*STEM, "encoder.relative_attention_bias"),
)

# ELECTRA: BERT's layers after an embedding that may be narrower
ELECTRA = replace(
    BERT,
    name="ELECTRA",
    model_types=("electra",),
    tensors={
        **_NARROW_EMBEDDINGS,
        **_LAYERS,
        **CLASSIFIERS,
        "embeddings.LayerNorm": "embedding_size",
        "embeddings_project": "hidden embedding_size",
        "generator_predictions.dense": "embedding_size hidden",
        "generator_predictions.LayerNorm": "embedding_size",
        "generator_lm_head": "vocab embedding_size",
        "discriminator_predictions.dense": "hidden hidden",
        "discriminator_predictions.dense_prediction": "label hidden",
    },
    as_hidden=("embedding_size",),
    stem=(*STEM, "embeddings_project"),
)

# DeBERTa v2 and v3: attention to content and distance; distances have an embedding
DEBERTA = Family(
    name="DeBERTa-v2",
    model_types=("deberta-v2",),
    tensors={
        **_NARROW_EMBEDDINGS,
        **without(_LAYERS, ".attention.self"),
        "embeddings.embed_proj": "hidden embedding_size",
        "embeddings.LayerNorm": "hidden",
        "encoder.layer.*.attention.self.{query,key,value,pos_key,pos_query}_proj": "heads hidden",
        "encoder.rel_embeddings": "bucket hidden",
        "encoder.LayerNorm": "hidden",
        "encoder.conv.conv": "hidden hidden kernel",
        "encoder.conv.LayerNorm": "hidden",
        "cls.predictions.transform.dense": "embedding_size hidden",
        "cls.predictions.transform.LayerNorm": "embedding_size",
        "cls.predictions.decoder": "vocab embedding_size",
        "cls.predictions.bias": "vocab",
        "pooler.dense": "pooler_hidden_size pooler_hidden_size",
        "lm_predictions.lm_head.dense": "hidden hidden",
        "lm_predictions.lm_head.LayerNorm": "hidden",
        "lm_predictions.lm_head.bias": "vocab",
        "classifier": "label hidden",  # of a text it reads the pooler, of a token the state
        "qa_outputs": "label hidden",
    },
    sizes=BERT_SIZES,
    stacks=BERT.stacks,
    as_hidden=("embedding_size", "pooler_hidden_size"),
    # the convolution of the largest ones reads what the first layer makes of the embedding
    first_layer_stays=("conv_kernel_size",),
    reads_aside=True,  # the rows of its distances
    projections=("query_proj", "key_proj", "value_proj"),
    stem=(*STEM, "encoder.{rel_embeddings,LayerNorm,conv}"),
)

# DistilBERT: BERT without token types and pooler, with names of its own
DISTILBERT = Family(
    name="DistilBERT",
    model_types=("distilbert",),
    tensors={
        **_EMBEDDINGS,
        "transformer.layer.*.attention.{q_lin,k_lin,v_lin}": "heads hidden",
        "transformer.layer.*.attention.out_lin": "hidden heads",
        "transformer.layer.*.{sa_layer_norm,output_layer_norm}": "hidden",
        "transformer.layer.*.ffn.lin1": "ffn hidden",
        "transformer.layer.*.ffn.lin2": "hidden ffn",
        "{vocab_transform,pre_classifier}": "hidden hidden",
        "vocab_layer_norm": "hidden",
        "vocab_projector": "vocab hidden",
        **CLASSIFIERS,
    },
    sizes={
        "num_hidden_layers": "n_layers",
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "vocab_size": "vocab_size",
    },
    stacks={"encoder": "transformer.layer.*"},
    projections=("q_lin", "k_lin", "v_lin"),
)

# ModernBERT: pre-LN, rotary positions, gated feed-forward, local and global attention
MODERNBERT = Family(
    name="ModernBERT",
    model_types=("modernbert",),
    tensors={
        "embeddings.tok_embeddings": "vocab hidden",
        "embeddings.norm": "hidden",
        "layers.*.{attn_norm,mlp_norm}": "hidden",
        "layers.*.attn.Wqkv": "heads+heads+heads hidden",
        "layers.*.attn.Wo": "hidden heads",
        "layers.*.mlp.Wi": "ffn+ffn hidden",
        "layers.*.mlp.Wo": "hidden ffn",
        "final_norm": "hidden",
        "head.dense": "hidden hidden",
        "head.norm": "hidden",
        "decoder": "vocab hidden",
        **CLASSIFIERS,
    },
    sizes=BERT_SIZES,
    stacks={"encoder": "layers.*"},
    per_layer=("layer_types",),
    ffn_matrices=3,
    first_layer_stays=("num_hidden_layers",),  # it alone has no norm before its attention
)

# its decoder: the same layers, with a projection each for queries, keys and values
MODERNBERT_DECODER = replace(
    MODERNBERT,
    name="ModernBERT decoder",
    model_types=("modernbert-decoder",),
    tensors={
        **without(MODERNBERT.tensors, "Wqkv", "head."),
        "layers.*.attn.{q_proj,k_proj,v_proj}": "heads hidden",
        "{head,lm_head}.dense": "hidden hidden",
        "{head,lm_head}.norm": "hidden",
    },
    stacks={"decoder": "layers.*"},
)
