"""Speed and memory beside what they replace: one module a row of the table, `python -m benchmarks.row_NN_name`."""
