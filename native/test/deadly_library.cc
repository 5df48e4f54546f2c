// A library that ends the process which loads it.

#include <cstdlib>

__attribute__((constructor)) static void End() { abort(); }
