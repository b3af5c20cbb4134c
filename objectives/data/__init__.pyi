from .example import Content as Content
from .example import Example as Example
from .example import Label as Label
from .example import Picture as Picture
from .examples import Examples as Examples
from .examples import Texts as Texts
from .examples import one as one
from .images import Images as Images
from .recording import Recording as Recording
from .speech import Speech as Speech
from .split import Split as Split

__all__ = [
    "Content",
    "Example",
    "Examples",
    "Images",
    "Label",
    "Picture",
    "Recording",
    "Speech",
    "Split",
    "Texts",
    "one",
]
