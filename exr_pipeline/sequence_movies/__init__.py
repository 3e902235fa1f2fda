"""Movies, contact sheets and filmstrips of sequences; the encoder and its presets."""
