from .example import Content as Content
from .example import Example as Example
from .example import Label as Label
from .examples import Examples as Examples
from .examples import one as one
from .images import Images as Images
from .picture import Picture as Picture
from .split import Split as Split
from .texts import Texts as Texts

__all__ = [
    "Content",
    "Example",
    "Examples",
    "Images",
    "Label",
    "Picture",
    "Split",
    "Texts",
    "one",
]
