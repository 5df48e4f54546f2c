// The load generator of the bench: reads a plan from standard input, prints what came of it as JSON.
// ../load.ts drives it.
#include <sys/prctl.h>

#include <csignal>
#include <exception>
#include <iostream>

#include "generator.h"

int main() {
  std::ios::sync_with_stdio(false);
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // nobody would read what it prints
  try {
    const load::Plan plan = load::ReadPlan(std::cin);
    load::Generator generator(plan);
    load::Print(generator.Run(), std::cout);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
