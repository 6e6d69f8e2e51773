"""From plans to pictures: the runs, and the network calls that they share."""
