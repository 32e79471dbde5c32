"""Changing a part of a picture: which cells are drawn again, and drawing them given the others."""
