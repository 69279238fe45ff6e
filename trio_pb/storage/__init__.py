"""What a replica keeps on disk: journal, proofs, superblock, checkpoints and identity, as jobs over a `Disk`."""
