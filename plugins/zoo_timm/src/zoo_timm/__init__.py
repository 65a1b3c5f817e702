"""Every timm architecture as a zoo classifier and backbone, under the namespace `timm/`."""
