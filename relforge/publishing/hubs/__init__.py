"""Model repositories of hubs: their clients in a process of their own, and what goes up."""
