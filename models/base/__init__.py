"""What both models share: precision, weights in a folder, what a manifest says of them."""
