"""One network and its folder: trained, evaluated, attacked, its Hessian measured."""
