"""Training a Stackformer: its batches and its step."""
