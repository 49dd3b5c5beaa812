"""Classification of a sentence about one image, several images or a video. Imports no torch."""
