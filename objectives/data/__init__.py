"""What students learn from and are judged on: read as a stream, split once and for all."""

from protege.objectives.data.example import Content, Example, Label
from protege.objectives.data.examples import Examples, Images, Texts, one
from protege.objectives.data.picture import Picture
from protege.objectives.data.split import Split

__all__ = ["Content", "Example", "Examples", "Images", "Label", "Picture", "Split", "Texts", "one"]
