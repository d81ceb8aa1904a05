"""Programs that train, evaluate and sample the models of the zoo, and what they share."""
