"""Captioning: training losses, generation and the metrics of the COCO evaluation."""
