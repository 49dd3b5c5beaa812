"""Images, arrays of numbers, video and frame sampling."""
