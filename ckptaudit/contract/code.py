"""The very code that makes of an image file what a model wants: each snippet reads ``path`` and leaves the input in ``batch``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ckptaudit.arch.preprocessing import Preprocessing
from ckptaudit.records import dataclass

_BYTE = 1 / 255
#: Interpolations by their names in Pillow and OpenCV; others are taken as bilinear, which a comment says.
_INTERPOLATIONS = {
    "nearest": ("NEAREST", "INTER_NEAREST"),
    "bilinear": ("BILINEAR", "INTER_LINEAR"),
    "bicubic": ("BICUBIC", "INTER_CUBIC"),
    "lanczos": ("LANCZOS", "INTER_LANCZOS4"),
}


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the snippets share: everything that was left open is decided."""

    size: tuple[int, int] | None
    resize: tuple[int, ...] | None
    fit: str
    pillow: str
    opencv: str
    bgr: bool
    channels_last: bool
    channels: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, told: Preprocessing) -> _Plan:
        channels = len(told.mean or told.std or (0,) * 3)
        pillow, opencv = _INTERPOLATIONS.get(told.interpolation or "bilinear", _INTERPOLATIONS["bilinear"])
        resize = told.resize
        fit = told.fit or ("crop" if resize is not None and len(resize) == 1 else "squash")
        if fit == "crop" and resize is None and told.size is not None:
            resize = (min(told.size),)
        return cls(
            told.size,
            resize,
            fit,
            pillow,
            opencv,
            told.channels == "BGR",
            told.layout == "NHWC",
            channels,
            _BYTE if told.scale is None else told.scale,
            told.mean or (0.0,) * channels,
            told.std or (1.0,) * channels,
        )


def code_for(told: Preprocessing) -> Mapping[str, str]:
    """Python by library: ``torchvision``, ``numpy``, ``keras`` and ``opencv``.

    Each reads an image file, ``path``, and leaves in ``batch`` what the model is given: one image, of torch or as an array. What the
    statement leaves open is RGB, from 0 to 1, and of the image's own size.
    """
    plan = _Plan.of(told)
    return {name: "\n".join(lines(plan)) + "\n" for name, lines in _WRITERS.items()}


def _torchvision(plan: _Plan) -> list[str]:
    # ToTensor divides by 255, which the statement may do otherwise: its numbers are brought to that.
    factor = 255 * plan.scale
    mean, std = [value / factor for value in plan.mean], [value / factor for value in plan.std]
    steps = []
    mode = f"interpolation=InterpolationMode.{plan.pillow}"
    if plan.fit == "squash" and (sides := plan.size or _two(plan.resize)):
        steps.append(f"transforms.Resize({sides}, {mode}),")
    elif plan.fit == "pad" and plan.size:
        steps += [f"transforms.Lambda(lambda image: ImageOps.pad(image, {plan.size[::-1]}, Image.Resampling.{plan.pillow})),"]
    elif plan.resize:
        steps.append(f"transforms.Resize({plan.resize[0] if len(plan.resize) == 1 else plan.resize}, {mode}),")
        if plan.size:
            steps.append(f"transforms.CenterCrop({plan.size}),")
    steps.append("transforms.ToTensor(),  # from 0 to 1, channels first")
    if plan.bgr:
        steps.append("transforms.Lambda(lambda tensor: tensor.flip(0)),  # BGR")
    if any(mean) or any(value != 1 for value in std):
        steps.append(f"transforms.Normalize({_short(mean)}, {_short(std)}),")
    pad = plan.fit == "pad" and plan.size
    return [
        f"from PIL import Image{', ImageOps' if pad else ''}",
        "from torchvision import transforms",
        *(["from torchvision.transforms import InterpolationMode"] if any("InterpolationMode" in step for step in steps) else []),
        "",
        "transform = transforms.Compose([",
        *(f"    {step}" for step in steps),
        "])",
        f'batch = transform(Image.open(path).convert("{_mode(plan)}"))[None]'
        + (".permute(0, 2, 3, 1)  # channels last" if plan.channels_last else ""),
    ]


def _numpy(plan: _Plan) -> list[str]:
    return [
        "import numpy",
        f"from PIL import Image{', ImageOps' if plan.fit == 'pad' and plan.size else ''}",
        "",
        f'image = Image.open(path).convert("{_mode(plan)}")',
        *_pillow_size(plan),
        f"pixels = numpy.asarray(image, numpy.float32){'[..., None]' if plan.channels == 1 else ''}  # from 0 to 255",
        *(["pixels = pixels[..., ::-1]  # BGR"] if plan.bgr else []),
        f"values = {_arithmetic(plan, 'pixels', 'numpy.array')}",
        "batch = values[None]  # channels last" if plan.channels_last else "batch = values.transpose(2, 0, 1)[None]  # channels first",
    ]


def _keras(plan: _Plan) -> list[str]:
    colours = ', color_mode="grayscale"' if plan.channels == 1 else ""
    return [
        "import keras",
        "import numpy",
        *(["from PIL import Image, ImageOps"] if plan.fit == "pad" and plan.size else ["from PIL import Image"] if _moves(plan) else []),
        "",
        f"image = keras.utils.load_img(path{colours})",
        *_pillow_size(plan),
        'pixels = keras.utils.img_to_array(image, data_format="channels_last")  # from 0 to 255',
        *(["pixels = pixels[..., ::-1]  # BGR"] if plan.bgr else []),
        f"values = {_arithmetic(plan, 'pixels', 'numpy.array')}",
        "batch = values[None]  # channels last" if plan.channels_last else "batch = values.transpose(2, 0, 1)[None]  # channels first",
    ]


def _opencv(plan: _Plan) -> list[str]:
    """``blobFromImage`` gives (pixel - mean) · scalefactor with one factor: deviations that differ need a second step."""
    even = len(set(plan.std)) == 1
    factor = plan.scale / plan.std[0] if even else plan.scale
    mean = [value / plan.scale for value in plan.mean]
    swap = "False" if plan.bgr or plan.channels == 1 else "True"
    grey = ", cv2.IMREAD_GRAYSCALE" if plan.channels == 1 else ""
    lines = ["import cv2", *(["import numpy"] if not even or plan.channels_last or (plan.fit == "pad" and plan.size) else []), ""]
    lines += [f"image = cv2.imread(path{grey})  # {'grey' if grey else 'BGR'}, from 0 to 255", *_opencv_size(plan)]
    lines.append(f"batch = cv2.dnn.blobFromImage(image, scalefactor={factor:.10g}, mean={_tuple(mean)}, swapRB={swap}, crop=False)")
    if not even:
        lines.append("# one scalefactor serves all channels, so the deviations are divided by in a second step")
        lines.append(f"batch /= numpy.array({_short(plan.std)}, numpy.float32).reshape(1, -1, 1, 1)")
    if plan.channels_last:
        lines.append("batch = numpy.ascontiguousarray(batch.transpose(0, 2, 3, 1))  # channels last")
    return lines


_WRITERS: Mapping[str, Callable[[_Plan], list[str]]] = {
    "torchvision": _torchvision,
    "numpy": _numpy,
    "keras": _keras,
    "opencv": _opencv,
}


def _pillow_size(plan: _Plan) -> list[str]:
    """Lines that bring a Pillow image, ``image``, to its size."""
    how = f"Image.Resampling.{plan.pillow}"
    if plan.fit == "pad" and plan.size:
        return [f"image = ImageOps.pad(image, {plan.size[::-1]}, {how})"]
    if plan.fit == "squash":
        sides = plan.size or _two(plan.resize)
        return [f"image = image.resize({sides[::-1]}, {how})"] if sides else []
    lines = []
    if plan.resize and len(plan.resize) == 1:
        side = plan.resize[0]
        lines.append(f"short = min(image.size)  # becomes {side}")
        lines.append(f"image = image.resize(({side} * image.width // short, {side} * image.height // short), {how})")
    elif plan.resize:
        lines.append(f"image = image.resize({plan.resize[::-1]}, {how})")
    if plan.size:
        height, width = plan.size
        lines.append(f"left, top = round((image.width - {width}) / 2), round((image.height - {height}) / 2)")
        lines.append(f"image = image.crop((left, top, left + {width}, top + {height}))")
    return lines


def _opencv_size(plan: _Plan) -> list[str]:
    """The same for an array of OpenCV."""
    how = f"interpolation=cv2.{plan.opencv}"
    if plan.fit == "squash":
        sides = plan.size or _two(plan.resize)
        return [f"image = cv2.resize(image, {sides[::-1]}, {how})"] if sides else []
    lines = []
    if plan.fit == "pad" and plan.size:
        height, width = plan.size
        return [
            f"factor = min({height} / image.shape[0], {width} / image.shape[1])",
            f"small = cv2.resize(image, (round(image.shape[1] * factor), round(image.shape[0] * factor)), {how})",
            f"image = numpy.zeros(({height}, {width}, *image.shape[2:]), numpy.uint8)",
            "top, left = round((image.shape[0] - small.shape[0]) / 2), round((image.shape[1] - small.shape[1]) / 2)",
            "image[top:top + small.shape[0], left:left + small.shape[1]] = small",
        ]
    if plan.resize and len(plan.resize) == 1:
        side = plan.resize[0]
        lines.append(f"short = min(image.shape[:2])  # becomes {side}")
        lines.append(f"image = cv2.resize(image, ({side} * image.shape[1] // short, {side} * image.shape[0] // short), {how})")
    elif plan.resize:
        lines.append(f"image = cv2.resize(image, {plan.resize[::-1]}, {how})")
    if plan.size:
        height, width = plan.size
        lines.append(f"top, left = round((image.shape[0] - {height}) / 2), round((image.shape[1] - {width}) / 2)")
        lines.append(f"image = image[top:top + {height}, left:left + {width}]")
    return lines


def _arithmetic(plan: _Plan, pixels: str, array: str) -> str:
    scaled = pixels if plan.scale == 1 else f"{pixels} / 255" if plan.scale == _BYTE else f"{pixels} * {plan.scale:.10g}"
    moved = f"{scaled} - {array}({_short(plan.mean)}, 'float32')" if any(plan.mean) else scaled
    if all(value == 1 for value in plan.std):
        return moved
    return f"({moved}) / {array}({_short(plan.std)}, 'float32')"


def _moves(plan: _Plan) -> bool:
    return any("Image." in line for line in _pillow_size(plan))


def _mode(plan: _Plan) -> str:
    return "L" if plan.channels == 1 else "RGB"


def _two(resize: tuple[int, ...] | None) -> tuple[int, int] | None:
    return (resize[0], resize[-1]) if resize else None


def _short(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.8g}' for value in values)}]"


def _tuple(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.8g}' for value in values)}{',' if len(values) == 1 else ''})"
