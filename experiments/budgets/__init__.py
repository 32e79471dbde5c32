"""Budgets per image: what one MQ-VAE for any N costs, and what images of different lengths give."""
