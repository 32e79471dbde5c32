"""Stackformer (paper section 3.3, Eq. 9-14)."""

from models.stackformer.model import Condition, NetworkConfig, Stackformer, StackformerConfig, StackformerLoss

__all__ = ["Condition", "NetworkConfig", "Stackformer", "StackformerConfig", "StackformerLoss"]
