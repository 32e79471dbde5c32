"""The stages as a whole: the params file of all of them, what a stage is, and how one is run from the command line.

Nothing here decides a result, so no stage depends on it in dvc.yaml: a stage gets its own section and paths, and nothing else.
"""
