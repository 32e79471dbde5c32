"""Accidents: two at once, Ctrl-C, a full or closed disk, clocks, locales, strange paths, no memory, no number."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cluster.shard_map import ShardJob, map_shards
from settings.tokenize import TokenizeSettings
from shards.images import ImageShards
from tests.hostile.images import HERE, settings, sharded
from tests.hostile.pictures import PNG
from tests.hostile.table import ROOT, Case, World, fresh
from tests.training.test_stackformer_training import TRAINING
from tests.waiting import matching, slowness, until
from training.loop.checkpoints import list_checkpoints
from training.loop.train import TrainingFolder, train
from workflow import running
from workspace.exact.manifest import read_manifest
from workspace.holding import locked
from workspace.runs import RunFolder

QUIET = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def started(world: World, *command: str, **environment: str) -> "subprocess.Popen[str]":
    """A module of ours in the world's folder, as a user starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", *command], cwd=world.root, env=os.environ | QUIET | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
    )  # fmt: skip


def two_at_once(world: World, folder: Path) -> str:
    """A run that another process holds."""
    run = RunFolder(folder / "run")
    run.root.mkdir()

    def again() -> None:
        with locked(run), locked(run):
            raise AssertionError("held twice")

    return world.told(again)


def two_stages(world: World, folder: Path) -> str:
    """Two processes of one stage: one works, the other says so; the artifact is whole."""
    first = started(world, "stages.shard", "--out", "twice/shards")
    second = started(world, "stages.shard", "--out", "twice/shards")
    said = [process.communicate(timeout=300 * slowness())[1] for process in (first, second)]
    statuses = sorted(process.returncode for process in (first, second))
    told = read_manifest(world.root / "twice" / "shards", "image-shards").fingerprint
    same = told == read_manifest(world.artifact("shards"), "image-shards").fingerprint
    busy = any("is being worked on by another process" in text for text in said)
    assert statuses == [0, 0] or busy, said
    assert not any("Traceback" in text for text in said), said
    return "the same artifact" if same else "another artifact"


def ctrl_c(number: int, times: int) -> Callable[[World, Path], str]:
    """A training that is stopped as soon as it has a checkpoint, by one signal or two."""

    def one(world: World, folder: Path) -> str:
        out = folder / "mqvae"
        shutil.rmtree(world.root / ".runs" / "train_mqvae", ignore_errors=True)
        options = ("--set", "mqvae.steps=4000", "--out", str(out))
        process = started(world, "stages.train_mqvae", *options)
        runs = world.root / ".runs" / "train_mqvae"
        until(lambda: matching(runs, "*/work/step-*") or process.poll() is not None, 240)
        assert process.poll() is None, process.communicate()
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.02)
        said = process.communicate(timeout=120 * slowness())[1]
        kept = [path for path in runs.glob("*/work/step-*") if (path / "state.json").is_file()]
        assert "Traceback" not in said, said
        told = next(line for line in said.splitlines() if "stopped" in line)
        return f"status {process.returncode}, {told}, checkpoint {'kept' if kept else 'lost'}, {'half an artifact' if out.exists() else 'no artifact'}"

    return one


def closed_folder(world: World, folder: Path) -> str:
    """An artifacts folder that may not be written, as another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    closed = folder / "artifacts"
    closed.mkdir(mode=0o755)
    os.chown(world.root, 65534, 65534)
    for part in (".runs", ".runs/tokenize"):
        if (world.root / part).exists():
            os.chown(world.root / part, 65534, 65534)
    for path in (folder, folder.parent, world.root.parent):
        path.chmod(0o755)
    with chdir(folder):  # `World.run` comes back to where it was called, as that user
        os.seteuid(65534)
        try:
            return world.run("tokenize", "--out", str(closed / "tokens"))
        finally:
            os.seteuid(0)


def full_disk(world: World, folder: Path) -> str:
    """A process that may write no more than some kilobytes a file."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from workflow.running import told_in_a_line\n"
        "from workspace.exact.manifest import atomic_path\nfrom pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    with atomic_path(Path(sys.argv[1])) as path: path.write_bytes(bytes(1 << 20))\n"
        "except OSError as error: print(type(error).__name__, error.strerror, Path(sys.argv[1]).exists())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder / "x")],
        env=os.environ | QUIET,
        capture_output=True,
        text=True,
        check=True,
    )
    assert list(folder.iterdir()) == [], "something half-written was left"
    return done.stdout.strip()


def no_space(world: World, folder: Path) -> str:
    """What a stage tells of a disk that is full."""
    return str(running.told_in_a_line(OSError(28, "No space left on device", "artifacts/shards")))


def clock_jumps(world: World, folder: Path) -> str:
    """A clock that goes back an hour at each look, and files from 1969 and 2106: the same bytes."""
    source = fresh(folder / "source")
    for number in range(9):
        (source / f"{number}.png").write_bytes(PNG)
    first = sharded(folder / "one", settings(source, val_fraction=0.5))
    for number, moment in enumerate((-1000, 1 << 32, 0, 10**9)):
        os.utime(source / f"{number}.png", (moment, moment))
    looks = iter(range(10**9, 0, -3600))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: float(next(looks)))
        second = sharded(folder / "two", settings(source, val_fraction=0.5))
    prints = {read_manifest(made.out, "image-shards").fingerprint for made in (first, second)}
    return "the same bytes" if len(prints) == 1 else "other bytes"


def locale(world: World, folder: Path) -> str:
    """A terminal that knows ASCII alone; names of artifacts and pictures do not care."""
    environment = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    process = started(world, "shards.describe", "artifacts/tokens", **environment)
    out, said = process.communicate(timeout=120 * slowness())
    return f"status {process.returncode}, {'described' if 'token-shards' in out else said[-300:]}"


def strange_path(world: World, folder: Path) -> str:
    """A repository in a path with a quote, a space and more."""
    source = fresh(folder / 'it\'s "köln" ☂ $HOME; #' / "source")
    for number in range(9):
        (source / f"{number}.png").write_bytes(PNG)
    made = sharded(source.parent / "run", settings(source, val_fraction=0.5))
    assert "'" in str(world.root) and " " in str(world.root)
    return f"{ImageShards.open(made.out).facts.counts['train'] > 0 and 'all stages and shards whole'}"


def no_memory(world: World, folder: Path) -> str:
    """A stage whose address space ends: what torch raises is told with the setting to lower."""
    script = (
        "import sys, resource, torch; torch.set_num_threads(1)\n"
        "from tests.hostile.table import World; from pathlib import Path\n"
        "world = World(Path('.').resolve())\n"
        "assert world.run('train_mqvae', '--out', 'memory/warm') == 'done'\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), -1))\n"
        "print(world.run('train_mqvae', '--out', 'memory/x', '--set', 'mqvae.global_batch=8192',\n"
        "                '--set', 'mqvae.micro_batch=8192'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=world.root, env=os.environ | QUIET, capture_output=True, text=True, timeout=300 * slowness(), check=False,
    )  # fmt: skip
    return done.stdout.strip() or done.stderr[-400:]


def worker_without_memory(world: World, folder: Path) -> str:
    """A worker's MemoryError, as `map_shards` tells it, with the batch to lower."""
    from stages import tokenize

    whole = tokenize.encoder

    def dies(*arguments: object) -> Callable[[ShardJob], dict[str, int]]:
        def one(job: ShardJob) -> dict[str, int]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

        return one

    tokenize.encoder = dies  # type: ignore[assignment]
    try:
        return world.run("tokenize")
    finally:
        tokenize.encoder = whole


def killed_worker(world: World, folder: Path) -> str:
    """What Ray says where its memory monitor killed a worker."""
    told = "tokenize: 1 of 3 shards failed (train/000001.tar): its worker died: Task was killed due to the node running low on memory."
    assert running.is_out_of_memory(RuntimeError(told))
    given = {
        "batch": 64,
        "precision": "fp32",
        "block": 8,
        "augmentations": [{"flip": False}],
        "text_vocab": 0,
        "text_length": 0,
        "seed": 0,
    }
    return running.lower_batch(TokenizeSettings.model_validate(given))


class Turning:
    """A training_module whose loss stops being a number at a step."""

    def __init__(self, step: int, weights: bool) -> None:
        self.model, self.ema = nn.Linear(2, 1), nn.Linear(2, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1)
        self.step, self.weights = step, weights

        self.scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.parallel: tuple[nn.Module, ...] = ()

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"model": self.model, "ema": self.ema}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"sgd": self.optimizer}

    def connect(self, size: int) -> None:
        assert size == 1

    def micro_step(self, batch: Tensor, step: int, share: float) -> dict[str, Tensor]:
        loss = self.model(batch).square().mean()
        (share * loss).backward()  # type: ignore[no-untyped-call]
        bad = torch.tensor(float("nan")) if step == self.step and not self.weights else loss.detach()
        return {"l1": loss.detach(), "perceptual": bad}

    def finish_step(self, step: int, reduce: object, admit: object) -> dict[str, float]:
        self.optimizer.step()
        if self.weights and step == self.step:
            self.model.weight.data[0, 0] = float("inf")
        return {}

    def validate(self, step: int) -> dict[str, float]:
        return {"psnr": 0.0}


class Alone:
    """One worker."""

    rank, size, device = 0, 1, torch.device("cpu")


def no_number(weights: bool) -> Callable[[World, Path], str]:
    """A loss, or a weight, that is not finite at step 6, with checkpoints every two steps."""

    def one(world: World, folder: Path) -> str:
        loop = TRAINING.replaced(
            steps=10, global_batch=2, micro_batch=2, log_every=1, validate_every=100, checkpoint_every=2
        )
        places = TrainingFolder(folder / "work", folder / "metrics", folder / "progress.json")
        told = world.told(
            lambda: train(Turning(5, weights), lambda step: [torch.ones(2, 2)], loop, Alone(), places)
        )  # type: ignore[arg-type]
        return f"{told}; kept {list_checkpoints(folder / 'work')[-1].name}"

    return one


def vanished_output(world: World, folder: Path) -> str:
    """A finished shard's output that somebody removed is made again, and nothing else."""
    (folder / "in").mkdir()
    jobs = [ShardJob(folder / "in" / f"{n}", folder / "out" / f"{n}", n) for n in range(3)]
    (folder / "out").mkdir()
    made: list[int] = []

    def one(job: ShardJob) -> dict[str, int]:
        made.append(job.index)
        job.output.write_text("x")
        return {}

    for _ in range(2):
        map_shards(lambda: one, jobs, HERE, folder / "done", "shards", folder / "progress.json")
        jobs[1].output.unlink()
    return f"made {made}"


def cases() -> list[Case]:
    """Every accident."""
    group = "accidents"
    stopped = "stopped; what is finished is kept: `dvc repro train_mqvae` continues from there, checkpoint kept, no artifact"
    return [
        Case("one run, two processes", group, "a lock that is held", "is being worked on by another process: wait for it, or stop it", two_at_once),
        Case("two `shard` at once", group, "two processes, one output", "the same artifact", two_stages),
        Case("Ctrl-C twice", group, "SIGINT, SIGINT", f"status 130, [train_mqvae] {stopped}", ctrl_c(signal.SIGINT, 2)),
        Case("SIGTERM in a training", group, "as a scheduler sends it", f"status 130, [train_mqvae] {stopped}", ctrl_c(signal.SIGTERM, 1)),
        Case("a read-only artifacts folder", group, "another user's", "nothing can be written to", closed_folder),
        Case("a file that cannot grow", group, "RLIMIT_FSIZE 4 kB", "OSError File too large False", full_disk),
        Case("a full disk", group, "ENOSPC", "no space is left on the disk for artifacts/shards", no_space),
        Case("a clock that jumps", group, "back an hour a look; files of 1969 and 2106", "the same bytes", clock_jumps),
        Case("locale C", group, "LC_ALL=C, no UTF-8 mode", "status 0, described", locale),
        Case("a path with quotes, spaces, unicode, $ and #", group, "of the source and of the run", "all stages and shards whole", strange_path),
        Case("no memory", group, "RLIMIT_AS at a batch of 8,192", "out of memory: lower mqvae.micro_batch (now 8192)", no_memory),
        Case("no memory in a worker", group, "torch.OutOfMemoryError", "out of memory: lower tokenize.batch (now 32)", worker_without_memory),
        Case("a worker that Ray killed for its memory", group, "Ray's words", "out of memory: lower tokenize.batch (now 64)", killed_worker),
        Case("NaN in the loss", group, "at step 6", "step 6: the loss term perceptual is nan; lower the learning rate", no_number(False)),
        Case("a weight that is not finite", group, "after step 6", "step 6: the weights model/weight are not finite", no_number(True)),
        Case("an output that was removed", group, "of one of three shards", "made [0, 1, 2, 1]", vanished_output),
    ]  # fmt: skip
