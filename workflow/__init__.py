"""The stages as a whole: their common params file, the definition of a stage, and running one from the command line.

Nothing here affects a result, because a stage gets only its own section and paths; so no stage depends on it in dvc.yaml.
"""
