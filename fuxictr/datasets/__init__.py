"""Raw datasets: registry, download, column functions, the demo generator."""
