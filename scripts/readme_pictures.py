"""Copy the README's pictures out of the executed notebooks, so that they are always the notebooks' own."""

import base64
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
PICTURES = {
    "street": ("00_start_here.ipynb", "picture-street"),
    "plateau": ("02_reproduce_the_plateau.ipynb", "picture-plateau"),
    "wall": ("02_reproduce_the_plateau.ipynb", "picture-wall"),
}
"""Name -> notebook, and the tag of the cell whose figure it is."""


def main() -> None:
    (ROOT / "docs").mkdir(exist_ok=True)
    for name, (notebook, tag) in PICTURES.items():
        cells = nbformat.read(ROOT / "notebooks" / notebook, as_version=4).cells
        (cell,) = [cell for cell in cells if tag in cell.metadata.get("tags", [])]
        (picture,) = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
        (ROOT / "docs" / f"{name}.png").write_bytes(base64.b64decode(picture))


if __name__ == "__main__":
    main()
