"""The tasks, one small file each: where a run begins and what wraps its denoiser."""
