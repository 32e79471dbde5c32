"""What every stage leans on: settings, manifests, run folders, progress, errors."""
