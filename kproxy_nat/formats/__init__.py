"""Rule sets as text, and back: modules that render and modules that parse mirror each other."""
