"""What a replica keeps on disk: journal, proofs, superblock and identity, as jobs over a `Disk`."""
