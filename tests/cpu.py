"""CPU seconds of each file and test, with the processes that it waited for: `pytest --cpu` lists the dearest.

The longest files come first, whatever their names, so that no core waits at the end for the last one.
"""

import resource
from collections import Counter
from typing import Any

import pytest

DEAREST = (
    "tests/test_workflow.py",
    "tests/benchmarks/test_gpu_kit.py",
    "tests/hostile/test_hostile.py",
    "tests/pipelines/test_dashboard.py",
    "tests/test_experiments_page.py",
    "tests/pipelines/test_reproduce.py",
    "tests/workspace/test_outputs.py",
    "tests/test_users_files.py",
    "tests/models/test_paper_size.py",
    "tests/models/test_kernels.py",
    "tests/test_readme_rows.py",
    "tests/field/test_training_rows.py",
    "tests/experiments/test_arms.py",
    "tests/test_token_product.py",
    "tests/field/test_tar_rows.py",
    "tests/chaos/test_chaos.py",
    "tests/cluster/test_on_ray.py",
    "tests/hostile/test_samples.py",
    "tests/training/test_workers.py",
    "tests/workspace/test_settings_help.py",
    "tests/workspace/test_preset.py",
    "tests/reporting/test_page_in_a_browser.py",
    "tests/test_readme.py",
    "tests/evaluation/test_stages.py",
    "tests/stages/test_train_and_sample.py",
    "tests/benchmarks/test_harness.py",
)
"""By `pytest --cpu`, the dearest first, with those that wait; the first makes the repository that others copy, so the two that
begin beside it must not need it."""
SHOWN = 25


def spent() -> float:
    """CPU seconds of this process and of its children whose end was waited for."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def rank(item: pytest.Item) -> int:
    """The place of a test's file in the order of files."""
    name = item.nodeid.split("::")[0]
    return DEAREST.index(name) if name in DEAREST else len(DEAREST)


class Meter:
    """A plugin that adds up what each file spends, in the workers as in a process alone."""

    def __init__(self) -> None:
        self.files: Counter[str] = Counter()
        self.tests: Counter[str] = Counter()
        self.since = spent()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Any:
        report = yield
        now = spent()
        report.user_properties.append(("cpu", now - self.since))
        self.since = now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Each phase's report carries those of the phases before: the last one of a kind is its own."""
        own = [value for name, value in report.user_properties if name == "cpu"]
        seconds = float(own[-1]) if own else 0.0
        self.files[report.nodeid.split("::")[0]] += seconds
        self.tests[report.nodeid if report.when == "call" else f"{report.nodeid} ({report.when})"] += seconds

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.section(f"CPU seconds: {sum(self.files.values()):.0f} in all")
        for dearest in (self.files, self.tests):
            for name, seconds in dearest.most_common(SHOWN):
                terminalreporter.write_line(f"{seconds:7.1f}  {name}")
