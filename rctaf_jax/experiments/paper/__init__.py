"""The experiments of the paper, a file for each figure and table, and how they are run."""
