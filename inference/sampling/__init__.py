"""Generate images with trained models: conditions, sampling of codes and positions, decoding."""
