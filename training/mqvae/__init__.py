"""Training an MQ-VAE: its batches and its step."""
