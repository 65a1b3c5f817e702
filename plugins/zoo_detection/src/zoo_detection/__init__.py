"""Object detectors: the R-CNN family, RetinaNet, FCOS, SSD; feature pyramids; evaluation in COCO's terms."""
