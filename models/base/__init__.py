"""Shared by both models: precision, saving and loading of weights, facts for manifests."""
