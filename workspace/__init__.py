"""Shared by all stages: settings, manifests, run folders, progress, errors."""
