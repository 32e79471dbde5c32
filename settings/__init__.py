"""The sections of params.yaml, a file each: names, types, ranges, and what must fit within a section."""
