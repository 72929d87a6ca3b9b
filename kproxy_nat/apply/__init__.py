"""Rules brought into network namespaces: plan, transaction, verification, roll-back."""
