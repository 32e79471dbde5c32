"""Sampling from a Stackformer (paper section 3.3, Algorithm 1): cached transformers, drawing tokens, CUDA graphs."""

from models.sampling.choice import Truncation, draw, draw_uniform
from models.sampling.sampler import Sampled, Sampler, SamplingSettings, sample
from models.sampling.state import CachedStackformer, PositionMemory

__all__ = [
    "CachedStackformer",
    "PositionMemory",
    "Sampled",
    "Sampler",
    "SamplingSettings",
    "Truncation",
    "draw",
    "draw_uniform",
    "sample",
]
