"""How files arrive: the tus protocol."""
