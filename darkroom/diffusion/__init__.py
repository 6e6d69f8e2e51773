"""Pure functions of tensors: schedules, predictions, samplers, guidance, the training objective."""
