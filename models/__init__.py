"""The paper's networks: MQ-VAE (stage 1) and Stackformer (stage 2). Depends only on torch and einops."""
