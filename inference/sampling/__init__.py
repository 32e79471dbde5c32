"""New images from trained models: what is asked for, drawing codes and positions, decoding them."""
