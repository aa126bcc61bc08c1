"""The table of backbones in docs/backbones.md, made from the code."""

import dataclasses
import math
from pathlib import Path

import keras

from tfretrieval import files
from tfretrieval.backbones.build import BACKBONES, build_backbone
from tfretrieval.errors import InputError
from tfretrieval.layers import MinimumSize

# A multiple of every patch and stride, large enough that edges lost without padding do not count.
_SIDE = 4480
_HEAD = ("name", "stride", "dimension", "parameters", "input scaling", "imagenet", "made by", "notes")
_TEXT = """# Backbones

`--backbone=NAME` takes one of these. All of them take photos of any height and width and end in maps `[N, h, w, C]`,
cut where retrieval reads them. Made by `python -m pipelines.backbones --output=docs/backbones.md`; do not edit.

- **stride**: pixels of the photo per position of the maps. **dimension**: channels C. **parameters**: without a
  classifier, in millions.
- **input scaling**: applied inside the network, a mode of `tfretrieval.layers.InputScaling`; with `none` the backbone
  has its own.
- **imagenet**: what `--weights=imagenet` downloads. Without `--weights` the weights are random; a local `.weights.h5`
  file is taken too, and for backbones of KerasHub the name, handle or directory of a preset of the same network.
  A preset that scales pixels in its own way (its image converter) is heeded.
- **signed**: GeM and its relatives take activations below 0 as 0; average pooling keeps them.
- **AGeM**: has the stages that AGeM's attention needs.

"""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the table says of a backbone.

    Attributes:
        name: key of `BACKBONES`.
        stride: pixels per position of the maps.
        dimension: channels of the maps.
        parameters: number of weights, BatchNorm statistics included.
    """

    name: str
    stride: int
    dimension: int
    parameters: int

    def row(self) -> tuple[str, ...]:
        """Returns the cells of the table's row."""
        entry = BACKBONES[self.name]
        notes = [entry.notes] if entry.notes else []
        published = f"`{entry.published}`" if entry.published else "none"
        millions = f"{self.parameters / 1e6:.2f} M"
        notes += ["AGeM"] if entry.stages else []
        numbers = (f"`{self.name}`", str(self.stride), str(self.dimension), millions)
        return (*numbers, entry.scaling, published, f"`{entry.source}`", "; ".join(notes))


def measure(name: str) -> Facts:
    """Measures a backbone without values: its variables get shapes only, so the largest needs no memory.

    Clears Keras's session (layer numbers, unfinished scopes), as `keras.backend.clear_session` does.

    Raises:
        InputError: the name is unknown.
    """
    with keras.StatelessScope(initialize_variables=False):
        model = build_backbone(name)
        shape = _after_minimum(model).compute_output_spec(keras.KerasTensor((1, _SIDE, _SIDE, 3))).shape
    # Keras remembers variables without values and would give them some, gigabytes, when the next scope ends.
    keras.backend.clear_session()
    fixed = [layer.height for layer in model.layers if isinstance(layer, keras.layers.Resizing)]
    # A small fixed size hides the stride behind its border: 331 pixels leave 11 positions at stride 32.
    stride = 2 ** math.ceil(math.log2(fixed[0] / shape[1])) if fixed else round(_SIDE / shape[1])
    return Facts(name, stride, shape[-1], model.count_params())


def _after_minimum(model: keras.Model) -> keras.Model:
    """Returns what follows a layer that enlarges small photos, through which shapes are not known beforehand."""
    first = [layer for layer in model.layers if isinstance(layer, MinimumSize)]
    return keras.Model(first[0].output, model.output) if first else model


def to_markdown(facts: list[Facts]) -> str:
    """Returns docs/backbones.md with a row for each of the backbones."""
    rows = [_HEAD, tuple("---" if i not in (1, 2, 3) else "---:" for i in range(len(_HEAD)))]
    rows += [fact.row() for fact in facts]
    return _TEXT + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def rows_of(text: str) -> dict[str, tuple[str, ...]]:
    """Returns the cells of a table of `to_markdown` by backbone."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    cells = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]
    return {row[0].strip("` "): row for row in cells}


def write(path: str | Path, text: str) -> None:
    """Writes the table's file.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        files.write_text(path, text)
    except OSError as error:
        raise InputError(f"--output={path} cannot be written: {error.strerror or error}.") from error
