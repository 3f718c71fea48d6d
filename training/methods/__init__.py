"""Training methods: a file each, what they share, and their names.

`method` says what a method is, `perturbations` holds inner maximisations that several use, and
`registry` is the one table to extend.
"""
