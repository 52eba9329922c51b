"""Any picture to the input contract; reading and normalising need numpy and Pillow alone. May import `files`."""
