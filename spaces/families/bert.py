"""BERT and the encoders built like it: post-LN, learned positions, heads tied to the width."""

from protege.spaces.families.family import Family

BERT = Family(
    name="BERT",
    model_types=("bert",),
    tensors={
        "embeddings.word_embeddings": "vocab hidden",
        "embeddings.position_embeddings": "position hidden",
        "embeddings.token_type_embeddings": "type hidden",
        "embeddings.LayerNorm": "hidden",
        "encoder.layer.*.attention.self.{query,key,value}": "heads hidden",
        "encoder.layer.*.attention.output.dense": "hidden heads",
        "encoder.layer.*.attention.output.LayerNorm": "hidden",
        "encoder.layer.*.intermediate.dense": "ffn hidden",
        "encoder.layer.*.output.dense": "hidden ffn",
        "encoder.layer.*.output.LayerNorm": "hidden",
        "pooler.dense": "hidden hidden",
        "cls.predictions.transform.dense": "hidden hidden",
        "cls.predictions.transform.LayerNorm": "hidden",
        "cls.predictions.decoder": "vocab hidden",
        "cls.predictions": "vocab",
        "classifier": "label hidden",
    },
    knobs=("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"),
)
