"""What both trainings share: the loop, checkpoints, optimisers, schedules, EMA, what watches them."""
