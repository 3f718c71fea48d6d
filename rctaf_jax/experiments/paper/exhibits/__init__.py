"""A file for each figure and table of the paper, and what they share."""
