"""All rows, in the order of docs/robustness.md."""

from tests.field import (
    budget_rows,
    command_rows,
    data_rows,
    edit_rows,
    fault_rows,
    file_rows,
    format_rows,
    label_rows,
    layout_rows,
    name_rows,
    outsider_rows,
    shell_rows,
    source_rows,
    tar_rows,
    token_rows,
    trained_rows,
    training_rows,
    workflow_rows,
)
from tests.field.table import Row

ROWS: tuple[Row, ...] = (
    *workflow_rows.ROWS,
    *shell_rows.ROWS,
    *command_rows.ROWS,
    *edit_rows.ROWS,
    *training_rows.ROWS,
    *trained_rows.ROWS,
    *fault_rows.ROWS,
    *layout_rows.ROWS,
    *label_rows.ROWS,
    *name_rows.ROWS,
    *source_rows.ROWS,
    *outsider_rows.ROWS,
    *data_rows.ROWS,
    *file_rows.ROWS,
    *format_rows.ROWS,
    *tar_rows.ROWS,
    *token_rows.ROWS,
    *budget_rows.ROWS,
)
