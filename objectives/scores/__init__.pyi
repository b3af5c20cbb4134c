from .classes import accuracy as accuracy
from .classes import macro_f1 as macro_f1
from .classes import matthews as matthews
from .classes import multi_label_f1 as multi_label_f1
from .questions import exact_match as exact_match
from .questions import question_f1 as question_f1
from .regression import mean_squared_error as mean_squared_error
from .regression import pearson as pearson
from .sentences import ndcg as ndcg
from .sentences import spearman as spearman
from .tokens import token_f1 as token_f1
from .writing import perplexity as perplexity
from .writing import rouge_l as rouge_l
from .writing import word_error_rate as word_error_rate

__all__ = [
    "accuracy",
    "exact_match",
    "macro_f1",
    "matthews",
    "mean_squared_error",
    "multi_label_f1",
    "ndcg",
    "pearson",
    "perplexity",
    "question_f1",
    "rouge_l",
    "spearman",
    "token_f1",
    "word_error_rate",
]
