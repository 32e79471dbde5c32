"""Shared by both trainings: the loop, checkpoints, optimisers, schedules, EMA, the check for non-finite numbers."""
