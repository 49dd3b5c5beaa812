"""Images, pixel arrays, videos and frame sampling."""
