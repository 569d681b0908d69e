"""Photos and videos decoded to square RGB images; class folders, and checks of them."""
