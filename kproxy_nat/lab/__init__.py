"""Network namespaces for nodes, clients and endpoints, with real traffic between them."""
