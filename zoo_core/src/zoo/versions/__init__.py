"""The registry of one's own models: every version kept, none overwritten. Nothing here imports torch to look."""
