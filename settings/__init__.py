"""The sections of params.yaml, one file each: names, types, ranges, and checks within a section."""
