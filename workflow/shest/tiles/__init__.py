"""From an image and outlines to tiles: blocks, masks, haematoxylin, quadruple tiles, shards."""
