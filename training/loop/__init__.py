"""What both trainings share: the loop, checkpoints, optimisers, schedules, EMA, the check for non-finite numbers."""
