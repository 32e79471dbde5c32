"""Sampling from a Stackformer (paper section 3.3, Algorithm 1): cached transformers, drawing tokens, CUDA graphs."""

from models.sampling.choice import Truncation, draw, draw_uniform
from models.sampling.sampled import Sampled, SamplingSettings
from models.sampling.sampler import Sampler, sample
from models.sampling.state import CachedStackformer, PositionMemory
from models.sampling.stopping import StoppingSampler

__all__ = [
    "CachedStackformer",
    "PositionMemory",
    "Sampled",
    "Sampler",
    "SamplingSettings",
    "StoppingSampler",
    "Truncation",
    "draw",
    "draw_uniform",
    "sample",
]
