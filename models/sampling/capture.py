"""Decoding steps as CUDA graphs: the first step of a kind runs and is then captured; later ones replay it.

Safe in a program that does more than sample. The first step runs on the capturing stream, so that libraries set up their
workspaces there and not inside the graph. Only calls from this thread can invalidate a capture (`thread_local`), so other
threads may allocate meanwhile. If capturing fails, steps are launched one by one from then on, after one warning.
"""

import warnings
from collections.abc import Callable, Hashable
from typing import Any

import torch


class StepGraphs:
    """CUDA graphs of one function on tensors at fixed addresses, one graph per set of shapes.

    Args:
        device: the GPU of those tensors.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.failed = device, False
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._stream: torch.cuda.Stream | None = None
        self._pool: Any = None

    def run(self, kind: Hashable, step: Callable[[], None], rewind: Callable[[], None]) -> None:
        """Run one step.

        Args:
            kind: steps of one kind launch the same kernels on the same shapes.
            step: the step, which reads its inputs from tensors shared with the other steps.
            rewind: undoes the step's changes outside tensors; called before the step is captured.
        """
        if kind in self._graphs:
            self._graphs[kind].replay()
            return
        stream = self._side_stream()
        if stream is None:
            step()
            return
        with torch.cuda.device(self.device):
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                step()
            torch.cuda.current_stream().wait_stream(stream)
            rewind()
            graph = self._captured(step, stream)
        if graph is not None:
            self._graphs[kind] = graph

    def _side_stream(self) -> torch.cuda.Stream | None:
        """The capturing stream; None after a failure."""
        if self._stream is None and not self.failed:
            try:
                self._stream, self._pool = torch.cuda.Stream(self.device), torch.cuda.graph_pool_handle()
            except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
                self._give_up(error)
        return None if self.failed else self._stream

    def _captured(self, step: Callable[[], None], stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph | None:
        """A graph of the step; capturing runs no kernel, so tensors keep the step's results."""
        before = torch.cuda.current_stream()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, self._pool, stream, capture_error_mode="thread_local"):
                step()
        except RuntimeError as error:
            # torch leaves the capturing stream current if ending a capture fails
            torch.cuda.set_stream(before)
            self._give_up(error)
            return None
        return graph

    def _give_up(self, error: Exception) -> None:
        self.failed = True
        first = next(iter(str(error).splitlines()), type(error).__name__)
        warnings.warn(
            f"CUDA graphs are off for this sampler, its steps are launched one by one: {first}", stacklevel=2
        )
