"""Steps as CUDA graphs: the order of what is done to the GPU, and what becomes of a capture that fails (no GPU is needed)."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from models.sampling import Sampler, SamplingSettings, Truncation
from models.sampling.capture import StepGraphs
from models.stackformer import Stackformer

Build = Callable[..., Stackformer]
SETTINGS = SamplingSettings(1.7, Truncation(0.9, 0, 0.9), Truncation(0.9, 0, 0.9))


@dataclass
class FakeStream:
    name: str
    log: list[str]

    def wait_stream(self, other: "FakeStream") -> None:
        self.log.append(f"{self.name} waits for {other.name}")


@dataclass
class FakeGraph:
    log: list[str]

    def replay(self) -> None:
        self.log.append("replay")


@dataclass
class FakeCuda:
    """What StepGraphs calls, written down in `log`."""

    fails: bool = False
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.main, self.side = FakeStream("main", self.log), FakeStream("side", self.log)
        self.now = self.main

    def Stream(self, device: torch.device) -> FakeStream:
        return self.side

    def graph_pool_handle(self) -> tuple[int, int]:
        return (0, 1)

    def CUDAGraph(self) -> FakeGraph:
        return FakeGraph(self.log)

    def current_stream(self) -> FakeStream:
        return self.now

    def set_stream(self, stream: FakeStream) -> None:
        self.now = stream

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        yield

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.now = self.now, stream
        yield
        self.now = before

    @contextmanager
    def graph(
        self, graph: FakeGraph, pool: Any, stream: FakeStream, capture_error_mode: str
    ) -> Iterator[None]:
        self.log.append(f"capture, {capture_error_mode}")
        self.now = stream
        yield
        if self.fails:  # as torch: an invalid capture raises where it ends, and its stream stays current
            raise RuntimeError("operation failed due to a previous error during capture\nmore")
        self.now = self.main


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    for name in (
        "Stream",
        "graph_pool_handle",
        "CUDAGraph",
        "current_stream",
        "set_stream",
        "device",
        "stream",
        "graph",
    ):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    return fake


def test_a_step_is_run_on_the_capturing_stream_then_captured_then_replayed(cuda: FakeCuda) -> None:
    graphs, log = StepGraphs(torch.device("cuda")), cuda.log

    def step() -> None:
        log.append(f"step on {cuda.now.name}")

    for _ in range(3):
        graphs.run("a", step, lambda: log.append("rewind"))
    once = ["side waits for main", "step on side", "main waits for side", "rewind", "capture, thread_local"]
    assert log == [*once, "step on side", "replay", "replay"]
    assert cuda.now is cuda.main


def test_a_capture_that_fails_warns_once_and_leaves_steps_on_the_callers_stream(cuda: FakeCuda) -> None:
    cuda.fails = True
    graphs, steps = StepGraphs(torch.device("cuda")), []
    with pytest.warns(
        UserWarning, match="CUDA graphs are off .*: operation failed due to a previous error during capture$"
    ):
        graphs.run("a", lambda: steps.append(cuda.now.name), lambda: None)
    assert cuda.now is cuda.main and graphs.failed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graphs.run("a", lambda: steps.append(cuda.now.name), lambda: None)
        graphs.run("b", lambda: steps.append(cuda.now.name), lambda: None)
    assert steps == ["side", "side", "main", "main"]  # run, captured in vain, and two steps one by one


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without CUDA is needed")
def test_a_sampler_that_cannot_capture_says_so_once_and_draws_the_same(build: Build) -> None:
    model = build(num_kept=9)
    condition = torch.arange(4)[:, None] % 3
    expected = Sampler(model, 4, SETTINGS)(condition, range(4))
    sampler = Sampler(model, 4, SETTINGS, bucket=4, capture=True)
    with pytest.warns(UserWarning, match="CUDA graphs are off for this sampler") as told:
        first = sampler(condition, range(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = sampler(condition, range(4))
    assert len(told) == 1
    for got in (first, again):
        assert torch.equal(got.codes_BN, expected.codes_BN)
        assert torch.equal(got.positions_BN, expected.positions_BN)
