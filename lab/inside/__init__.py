"""Small programs that a lab starts inside its hosts. They stand alone: nothing but the standard library."""
