"""How OpenMP's threads wait for each other, decided before torch is imported: libgomp reads it when it is loaded."""

import os

POLICY, ASKED = "OMP_WAIT_POLICY", ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
BUSY = 1.5
"""Load per core above which others compute here too; a stage that has just ended on all cores leaves a load of about 1."""


def wait_by_load() -> None:
    """Let waiting threads sleep where others compute too; what is already set in the environment stays.

    By default each thread spins until the last one is done. On cores of its own that is the fastest, by a quarter in the
    smallest networks. Beside other work it spins while another process has the core that the last thread needs: ten times as
    long, and nine times the CPU time (docs/log.md). The numbers are the same to the bit. Ray's workers inherit it.
    """
    if any(name in os.environ for name in ASKED):
        return
    if os.getloadavg()[0] > BUSY * (os.cpu_count() or 1):
        os.environ[POLICY] = "PASSIVE"
