"""The index of published plugins: so far, the snapshot of first-party plugins that core carries."""
