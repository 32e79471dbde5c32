"""Prefect flows. They run DVC as a process, and import no first-party code."""
