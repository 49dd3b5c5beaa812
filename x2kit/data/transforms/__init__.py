"""Views of images, RandAugment, boxes, text cleaning, masking."""
