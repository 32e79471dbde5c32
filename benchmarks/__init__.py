"""Speed and memory, side by side with what is replaced; results in results/."""
