"""Files that lie at a URL: listed and read through fsspec, kept in a bounded cache of the node."""
