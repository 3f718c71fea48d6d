"""Ray: a cluster that is joined, tasks that are watched; an attack shared out over its nodes."""
