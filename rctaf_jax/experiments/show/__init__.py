"""How numbers, names, plots and progress look, whatever they are of."""
