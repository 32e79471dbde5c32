"""One file a stage; each is a worker that takes plain values, and a `main` that reads one section of params.yaml."""
