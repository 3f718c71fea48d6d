"""HTML pages of what the rooms below say, and their templates."""
