"""What zoo-detection adds beside models."""
