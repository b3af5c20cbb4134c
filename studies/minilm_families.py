"""Search students of all-MiniLM-L6-v2 of its own family and of five others, on one front.

Students cut from the teacher compete with convolutions, Fourier transforms, an MLP-Mixer and static
embeddings, which take the teacher's embeddings and learn the rest. Teacher and data are those of
``studies/minilm_cpu.py``. Run it with ``protege run studies/minilm_families.py`` or as a module.
"""

import sys
from dataclasses import replace

from protege.search.cli.main import guarded
from protege.spaces import Choice, OtherFamily, Range, SearchSpace
from studies import minilm_cpu
from studies.ending import conclude

FEW = Choice(1 / 6, 1 / 3)
"""One and two layers of the teacher's six: at equal layers the others are slower than they are
good."""

search = replace(
    minilm_cpu.search,
    name="minilm-families",
    space=SearchSpace(
        layers=Range(0.3, 1.0),
        intermediate=Range(0.25, 1.0),
        others=[
            OtherFamily("convbert", layers=FEW, hidden=Choice(0.5, 1.0)),
            OtherFamily("fnet", layers=FEW, intermediate=Choice(0.25, 1.0)),
            OtherFamily("text_cnn", layers=FEW, intermediate=Choice(0.25, 1.0)),
            OtherFamily("text_mixer", layers=FEW, intermediate=Choice(0.25, 1.0)),
            OtherFamily("static", hidden=Choice(0.25, 0.5, 1.0)),
        ],
    ),
)

if __name__ == "__main__":
    sys.exit(guarded(lambda: conclude(search, trials=34, times_faster=2)))
