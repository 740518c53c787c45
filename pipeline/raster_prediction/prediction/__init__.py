"""From chips to a map: the network, its windows put together, the files."""
