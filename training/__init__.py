"""Optimisers, schedules, EMA, checkpoints and the step of each model: pure torch, no Ray."""
