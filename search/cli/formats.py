"""The options of ``export`` for the formats of other runtimes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from protege.search.handover.formats.table import FormatName, WeightPrecision
from protege.search.progress import say, watching
from protege.search.records.plain import printable
from protege.spaces.errors import BadInput


@Parameter(name="*")
@dataclass(frozen=True)
class FormatOptions:
    """Formats of other runtimes.

    Attributes:
        as_: A format to write the model in too, inside the student's folder: onnx, openvino, gguf
            or executorch; may be repeated. Each is loaded and compared with the PyTorch model.
        precision: Precision of the weights in that format.
        python: Python interpreter that has the runtime (default: this one).
    """

    as_: Annotated[tuple[FormatName, ...], Parameter(name="--as")] = ()
    precision: WeightPrecision = "float32"
    python: str = ""

    def check(self) -> None:
        """Check that the options fit each other.

        Raises:
            BadInput: There is a precision and no format.
        """
        if not self.as_ and (self.precision != "float32" or self.python):
            raise BadInput("--precision and --python are for other formats; name one, --as onnx")

    def write(self, folder: Path) -> None:
        """Write a student's model in the formats, inside its folder."""
        if not self.as_:
            return
        from protege.search.handover.formats.exporting import export_formats

        lines: list[str] = []
        with watching(f"exporting as {', '.join(self.as_)}"):
            export_formats(folder, self.as_, self.precision, python=self.python, tell=lines.append)
        for line in lines:
            say(f"{printable(folder)}/{printable(line)}")

    def write_beside(self, folder: Path, target: Path | None) -> None:
        """Write the formats of a student that is exported already.

        Args:
            folder: The student's folder.
            target: A new folder for a copy of it; None adds the formats to the folder itself.

        Raises:
            BadInput: No format is named.
        """
        if not self.as_:
            raise BadInput(f"{folder}: exported already; name a format, such as --as onnx")
        if target is not None:
            from protege.search.handover.formats.exporting import copied

            folder = copied(folder, target)
        self.write(folder)
        say(f"Student: {printable(folder)}")
