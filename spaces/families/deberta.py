"""DeBERTa v2 and v3: attention to content and to distance, which has an embedding of its own."""

from protege.spaces.families.bert import BERT
from protege.spaces.families.family import STEM, Family
from protege.spaces.families.heads import BERT_SIZES

DEBERTA = Family(
    name="DeBERTa-v2",
    model_types=("deberta-v2",),
    tensors={
        **{
            name: axes
            for name, axes in BERT.tensors.items()
            if name.startswith("encoder.") and ".attention.self" not in name
        },
        "embeddings.word_embeddings": "vocab embedding_size",
        "embeddings.{position,token_type}_embeddings": "place embedding_size",
        "embeddings.embed_proj": "hidden embedding_size",
        "embeddings.LayerNorm": "hidden",
        "encoder.layer.*.attention.self.{query,key,value}_proj": "heads hidden",
        "encoder.layer.*.attention.self.{pos_key,pos_query}_proj": "heads hidden",
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
    stem=(*STEM, "encoder.{rel_embeddings,LayerNorm,conv}"),
)
