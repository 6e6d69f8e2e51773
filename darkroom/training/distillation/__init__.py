"""Few-step students from their teachers: adversarial diffusion distillation and its kin."""
