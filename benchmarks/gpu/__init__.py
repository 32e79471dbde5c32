"""Everything that a GPU must show, in one run: `python -m benchmarks.gpu --minutes 12 --out DIR` (docs/gpu.md)."""
