"""The networks of the paper: MQ-VAE (stage 1) and Stackformer (stage 2). Code, not weights; torch and einops only."""
