"""What benchmarks of serving share: exported networks, and the local server as a process of its own."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from export import saving
from export.sent_photos import DEFAULT_LIMITS, PhotoLimits
from tfretrieval.errors import InputError
from tfretrieval.models.descriptor import DescriptorConfig, build_descriptor

MODEL = "descriptor"
START_SECONDS = 300


@dataclasses.dataclass(frozen=True)
class ServedNetwork:
    """The network that a benchmark serves.

    Attributes:
        backbone: Network trunk.
        weights: Weights of the trunk; random ones where empty.
        size: Longer side that photos are resized to, in pixels.
    """

    backbone: str = "mobilenet_v2_1.0"
    weights: str = "../shared/data/weights/mobilenetv2_1.0_224_imagenet_notop.weights.h5"
    size: int = 224

    def __post_init__(self):
        if self.size < 8:
            raise InputError(f"--size={self.size}; 8 pixels or more are wanted.")

    def build(self, seed: int = 0) -> keras.Model:
        """Builds it.

        Raises:
            InputError: the weights are not there.
        """
        if self.weights and not Path(self.weights).is_file():
            raise InputError(f"--weights={self.weights} is missing; a weights file, or --weights= for random ones.")
        keras.utils.set_random_seed(seed)
        return build_descriptor(DescriptorConfig(self.backbone, self.weights or None))


def shaken(network: keras.Model, share: float, seed: int = 1) -> keras.Model:
    """Adds noise to the kernels of a network, in place: another network, which still tells photos apart.

    Args:
        network: the network.
        share: standard deviation of the noise, as a share of each kernel's own.
        seed: of the noise.
    """
    random = np.random.default_rng(seed)
    for weight in network.trainable_weights:
        if len(weight.shape) == 4:
            values = keras.ops.convert_to_numpy(weight)
            weight.assign(values + random.normal(0, share * values.std(), values.shape))
    return network


def export_version(network: keras.Model, size: int, base: Path, limits: PhotoLimits = DEFAULT_LIMITS) -> Path:
    """Exports a network as the next version of the model at `base`, as `export.saved_model` does."""
    return saving.write_version(saving.ExportSource(network, size, "0" * 64, {}), base, {}, limits=limits)


class ServerProcess:
    """`python -m export.serve` of a model, as a process of its own. Use it in a `with` block.

    Args:
        base: the model's folder, served as `MODEL`.
        *options: further flags of the server.
        cores: the processor's cores it may use; all by default.

    Attributes:
        grpc_address: `host:port`.
        rest_url: `http://host:port`.
    """

    def __init__(self, base: str | Path, *options: str, cores: tuple[int, ...] = ()):
        self._command = [sys.executable, "-m", "export.serve", f"--model_name={MODEL}", f"--model_base_path={base}"]
        self._command += ["--port=0", "--rest_api_port=0", *options]
        self._cores = cores
        self._log = tempfile.TemporaryFile("ab+")  # noqa: SIM115 - closed with the process; appended to, read from 0
        self.grpc_address = self.rest_url = ""

    def __enter__(self) -> "ServerProcess":
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=self._log, env=env, text=True,
            preexec_fn=(lambda: os.sched_setaffinity(0, self._cores)) if self._cores else None,
        )  # fmt: skip
        told = self._process.stdout.readline()
        found = re.search(r"gRPC (\S+), REST (\S+)", told)
        if found is None:
            self._process.wait(START_SECONDS)
            raise InputError(f"the server did not start: {self.log() or told}")
        self.grpc_address, self.rest_url = found.groups()
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.stdout.close()
        self._log.close()

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def log(self) -> str:
        """Returns what the server wrote on its standard error."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()

    def megabytes(self, peak: bool = False) -> float:
        """Returns the process's resident memory, now or at most so far. Linux only."""
        wanted = "VmHWM:" if peak else "VmRSS:"
        lines = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(wanted)) / 1024
