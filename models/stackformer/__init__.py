"""Stackformer (paper section 3.3, Eq. 9-14)."""

from models.stackformer.config import Condition, NetworkConfig, StackformerConfig
from models.stackformer.model import Stackformer, StackformerLoss

__all__ = ["Condition", "NetworkConfig", "Stackformer", "StackformerConfig", "StackformerLoss"]
