"""Images of a folder, cut into pieces as training cuts them: the same pieces at every call."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import ImagesError

if TYPE_CHECKING:
    import numpy
    from PIL import Image

#: Files that are looked at, and images that are taken, at most.
_FILES, _IMAGES = 1000, 100
#: Sides of a crop in units of the image's shorter side: training crops so, and statistics remember it.
_SCALES = (0.6, 1.0)
#: Longest side of a crop: more is memory that no network looks at.
_LARGEST = 1024


def image_files(folder: Path) -> list[Path]:
    """Files of a folder and its subfolders that Pillow can open, at most 100.

    Raises
    ------
    ImagesError
        There are none, or Pillow is not installed.
    """
    if not folder.is_dir():
        raise ImagesError(f"{folder}: {'is no folder of images' if folder.exists() else 'no such folder'}")
    library = pillow()
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file())[:_FILES]:
        try:
            with library.open(path) as image:
                if min(image.size) > 1:
                    found.append(path)
        except (OSError, ValueError, SyntaxError, library.DecompressionBombError):
            continue
        if len(found) == _IMAGES:
            break
    if not found:
        raise ImagesError(f"{folder}: no images")
    return found


def crops(files: list[Path], count: int, grey: bool = False) -> list[Image.Image]:
    """Squares from all images in turn, as large as they are there, in an order that mixes them.

    Raises
    ------
    ImagesError
        All images are damaged.
    """
    chance = random.Random(0)  # noqa: S311 (crops are no secrets)
    shares = [count // len(files) + (i < count % len(files)) for i in range(len(files))]
    if count < len(files):  # evenly from all of them, not the first ones
        shares = [0] * len(files)
        for i in range(count):
            shares[i * len(files) // count] = 1
    made = [crop for path, share in zip(files, shares, strict=True) for crop in _of_one(path, share, chance, grey)]
    if not made:
        raise ImagesError(f"{files[0]}: the image is damaged")
    chance.shuffle(made)
    return made


def _of_one(path: Path, count: int, chance: random.Random, grey: bool) -> Iterator[Image.Image]:
    if not count:
        return
    library = pillow()
    from PIL import ImageOps

    try:
        with library.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert("L" if grey else "RGB")
    except (OSError, ValueError, SyntaxError, library.DecompressionBombError):
        return  # its header could be read, the rest is damaged
    for _ in range(count):
        side = max(1.0, chance.uniform(*_SCALES) * min(image.size))
        left, top = (chance.uniform(0, extent - side) for extent in image.size)
        shown = min(round(side) or 1, _LARGEST)
        yield image.resize((shown, shown), library.Resampling.BILINEAR, (left, top, left + side, top + side))


def pixels_of(images: list[Image.Image], size: tuple[int, int]) -> numpy.ndarray[Any, Any]:
    """Images scaled to one size: (images, height, width, channels), 0 to 255."""
    import numpy

    library = pillow()
    scaled = [numpy.asarray(image.resize((size[1], size[0]), library.Resampling.BILINEAR), numpy.uint8) for image in images]
    stacked = numpy.stack(scaled)
    return stacked if stacked.ndim == 4 else stacked[..., None]


def pillow() -> Any:
    """Pillow's module of images.

    Raises
    ------
    ImagesError
        It is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ImagesError("images are read with Pillow, which is not installed; run: pip install 'ckptaudit[probe]'") from None
    return Image
