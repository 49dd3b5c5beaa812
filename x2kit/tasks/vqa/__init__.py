"""Questions about images and videos: answers written, ranked, classified or chosen."""
