"""Running of pipelines: any runner, and again for what is left when a runner gives up."""

import contextlib
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions

from tfretrieval import console
from tfretrieval.beam.options import BeamOptions
from tfretrieval.errors import InputError

Unit = TypeVar("Unit")
DIRECT = "DirectRunner"
_FRUITLESS = 3
_MINDING = "run_worker"  # the name of Beam's threads that each wait for a worker process
_REFUSAL = re.compile(r"tfretrieval\.errors\.InputError: (.*?)(?: \[while running .*)?$", re.MULTILINE)


def run_all(
    missing: Callable[[], Sequence[Unit]],
    do: beam.PTransform,
    options: BeamOptions,
    what: str,
) -> None:
    """Has a runner do all units of a job.

    Runners for clusters try what failed again by themselves; those of one machine give up at the first worker that
    dies. What is then still missing is given to a new pipeline, until three in a row get nothing done.

    Args:
        missing: returns the units that are not done.
        do: does units and leaves them done; its input are the units, its output does not matter.
        options: the runner.
        what: what a unit is, for messages ("shard").

    Raises:
        InputError: a worker raised one, or nothing more gets done.
    """
    fruitless, left = 0, list(missing())
    while left:
        start = time.perf_counter()
        try:
            _run(left, do, options)
            why = "the pipeline ended without an error"
        except Exception as error:  # noqa: BLE001 - runners raise what they like
            _raise_refusal(error)
            why = _last_line(error)
        before, left = len(left), list(missing())
        if not left:
            console.say(f"{options.runner}: {before} {what}s in {time.perf_counter() - start:.1f} s")
            return
        fruitless = fruitless + 1 if len(left) == before else 0
        if fruitless == _FRUITLESS:
            raise InputError(
                f"--runner={options.runner} leaves {len(left)} {what}s undone, first {left[0]!r}: {why}; what is done "
                "stays, and the same command goes on with the rest."
            )
        console.say(f"{options.runner}: {why}; going on with {len(left)} of {before} {what}s")


def _run(units: Sequence[Unit], do: beam.PTransform, options: BeamOptions) -> None:
    # Workers tell every step of theirs otherwise. A level that the user gives comes later, and counts.
    pipeline_options = PipelineOptions(["--default_sdk_harness_log_level=WARNING", *options.words()])
    pipeline = beam.Pipeline(runner=_runner(options.runner, pipeline_options), options=pipeline_options)
    # Without the shuffle, runners keep the units together on one worker.
    _ = pipeline | "units" >> beam.Create(list(units)) | "spread" >> beam.Reshuffle() | "do" >> do
    with _noticed_deaths():
        pipeline.run().wait_until_finish()


class WorkerDiedError(RuntimeError):
    """A worker process of this machine ended in the middle of its work."""


@contextlib.contextmanager
def _noticed_deaths() -> Iterator[None]:
    """Raises `WorkerDiedError` in its block when a worker process of Beam's local runner dies.

    The runner itself waits for its answer for ever: the thread that minds the process ends with an error, which is
    seen here. Only the main thread can be interrupted; elsewhere nothing is noticed.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_kill"):
        yield
        return

    told: list[str] = []
    turn, watching, earlier = threading.Lock(), [True], set(threading.enumerate())

    def died(number: int, frame: object) -> None:
        if watching:
            raise WorkerDiedError(told[0])

    def notice(error: threading.ExceptHookArgs) -> None:
        # Threads of a pipeline that ended before this one may be late to say so.
        if error.thread is not None and error.thread.name == _MINDING:
            with turn:
                if watching and not told and error.thread not in earlier:
                    told.append(str(error.exc_value))
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        elif error.exc_type is not grpc.RpcError:  # what follows of the death
            hook(error)

    hook, handler = threading.excepthook, signal.signal(signal.SIGUSR1, died)
    threading.excepthook = notice
    try:
        yield
    finally:
        watching.clear()
        with turn:  # no signal is on its way when the old handler, which may end the process, is back
            signal.signal(signal.SIGUSR1, handler)
            threading.excepthook = hook


def _runner(name: str, options: PipelineOptions) -> object:
    """Returns a runner.

    Beam's own DirectRunner first looks for a program on the network, Prism, which knows nothing of its
    --direct_num_workers; here it is the one in Python that it falls back to. Prism has a name of its own, PrismRunner.
    """
    if name != DIRECT:
        return name
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle

    told = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=told)
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(info))


def _raise_refusal(error: Exception) -> None:
    """Raises the `InputError` that a worker raised, without what Beam adds to it."""
    text = f"tfretrieval.errors.InputError: {error}" if isinstance(error, InputError) else str(error)
    if refused := _REFUSAL.search(text):
        raise InputError(refused[1]) from error


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
