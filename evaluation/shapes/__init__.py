"""Quality of drawn shapes: cuts out the object and fits the outline of the requested shape to it."""
