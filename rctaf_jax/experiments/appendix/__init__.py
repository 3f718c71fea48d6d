"""The paper's derivation of the Hessian diagonal put to the test."""
