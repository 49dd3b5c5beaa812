"""Transforms: views of images, RandAugment, boxes, text cleaning, masking."""
