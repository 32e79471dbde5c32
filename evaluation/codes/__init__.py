"""What codes alone say: how many are used, and the bits of an image."""
