"""Optimisers, schedules, EMA, checkpoints and each model's training step: pure torch, no Ray."""
