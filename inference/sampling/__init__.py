"""New images from trained models: conditions, sampling codes and positions, decoding them."""
