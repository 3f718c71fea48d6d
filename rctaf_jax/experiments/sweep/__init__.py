"""Networks that differ in activation and seed, trained and measured wherever there is a device."""
