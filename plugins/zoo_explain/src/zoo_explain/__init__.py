"""What a vision model looks at, and what its embeddings know."""
