"""Extraction by PyTorch and ONNX Runtime, a photo at a time; to be imported where torch is there."""

import copy
import importlib
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from benchmarks import torch_networks
from tfretrieval.data.parallel import CORES
from tfretrieval.importing.published import IMAGENET_MEAN, IMAGENET_STD


class PhotoLoop:
    """What cnnimageretrieval-pytorch does with a list of photos; they are read ahead on all cores.

    Args:
        network: of `torch_networks`, [1, 3, H, W] -> [1, D].
        paths: JPEG files.
        size: pixels that longer sides are shrunk to.
        scales: factors on the photos' sides.
        power: exponent of the mean over scales.
    """

    def __init__(
        self, network: torch_networks.ResNetGeM, paths: list[str], size: int, scales: tuple[float, ...], power: float
    ):
        torch.set_num_threads(CORES)
        self._network, self._paths, self._size, self._scales, self._power = network, paths, size, scales, power

    def run(self, channels_last: bool, autocast: bool) -> Callable[[], np.ndarray]:
        """Returns a run over all photos, to float32 [N, D].

        Args:
            channels_last: hold weights and maps with the channels last.
            autocast: let convolutions compute in bfloat16.
        """
        layout = torch.channels_last if channels_last else torch.contiguous_format
        network = copy.deepcopy(self._network).to(memory_format=layout)

        def run() -> np.ndarray:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                return self._describe(network, lambda photo: photo.contiguous(memory_format=layout))

        return run

    def run_onnx(self) -> Callable[[], np.ndarray]:
        """Returns a run with the network in ONNX Runtime; the scales are PyTorch's.

        Raises:
            ImportError: a package is missing.
        """
        for name in ("onnx", "onnxruntime"):
            importlib.import_module(name)
        import onnxruntime

        file = io.BytesIO()
        axes = {"photos": {0: "n", 2: "h", 3: "w"}, "descriptors": {0: "n"}}
        names = {"input_names": ["photos"], "output_names": ["descriptors"]}
        example = torch.zeros(1, 3, 64, 96)
        torch.onnx.export(self._network, (example,), file, dynamic_axes=axes, dynamo=False, **names)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = CORES
        session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])

        def network(photo: torch.Tensor) -> torch.Tensor:
            (found,) = session.run(None, {"photos": photo.numpy()})
            return torch.from_numpy(found)

        return lambda: self._describe(network, torch.Tensor.contiguous)

    def _describe(self, network: Callable, arrange: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        describe = torch_networks.extract_scales
        with ThreadPoolExecutor(CORES) as pool:
            found = [describe(network, arrange(photo), self._scales, self._power) for photo in self._photos(pool)]
        return torch.stack(found).numpy()

    def _photos(self, pool: ThreadPoolExecutor) -> Iterator[torch.Tensor]:
        return pool.map(lambda path: read_photo(path, self._size), self._paths)


def read_photo(path: str, size: int) -> torch.Tensor:
    """Reads, shrinks and normalises a photo as cnnimageretrieval-pytorch does, float32 [1, 3, H, W]."""
    with Image.open(path) as photo:
        photo = photo.convert("RGB")
    photo.thumbnail((size, size), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1).contiguous().float().div(255)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((pixels - mean) / std)[None]
