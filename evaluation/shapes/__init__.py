"""How well drawn shapes are drawn: the object cut out, its outline fitted, its kind judged."""
