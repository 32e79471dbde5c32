"""What all stages use: settings, manifests, run folders, progress, errors."""
