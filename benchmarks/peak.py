"""The machine's fused multiply-add peak, measured: independent chains of the widest vectors on every thread."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

SOURCE = r"""
#include <stdio.h>
#include <time.h>
#if defined(__AVX512F__)
  #define BYTES 64
#elif defined(__AVX__)
  #define BYTES 32
#else
  #define BYTES 16
#endif
typedef float vec __attribute__((vector_size(BYTES)));
#define STEP(x) x = x * factor + term
static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}
int main(void) {
  double best = 0;
  for (int round = 0; round < 5; round++) {
    const long steps = 20000000;
    int threads = 0;
    float sink = 0;
    double start = seconds();
    #pragma omp parallel reduction(+ : threads, sink)
    {
      vec factor = {0}, term = {0};
      factor += 0.999f, term += 0.001f;
      vec a = factor, b = a + 1, c = b + 1, d = c + 1, e = d + 1, f = e + 1; /* all different: none may be left out */
      vec g = f + 1, h = g + 1, i = h + 1, j = i + 1, k = j + 1, l = k + 1;
      for (long step = 0; step < steps; step++) {
        STEP(a); STEP(b); STEP(c); STEP(d); STEP(e); STEP(f);
        STEP(g); STEP(h); STEP(i); STEP(j); STEP(k); STEP(l);
      }
      vec sum = a + b + c + d + e + f + g + h + i + j + k + l;
      sink += sum[0];
      threads += 1;
    }
    double rate = threads * steps * 12.0 * 2 * (BYTES / 4) / (seconds() - start) / 1e9;
    if (rate > best && sink != 0) best = rate;
  }
  printf("%.1f\n", best);
  return 0;
}
"""
MARCH = {"baseline": "x86-64-v2", "avx2": "x86-64-v3", "avx512": "x86-64-v4"}


def measure(isa: str, threads: int) -> float:
    """Return the peak in GFLOP/s (float32) with the instruction set `isa` on `threads` threads."""
    compiler = os.environ.get("CC", "cc").split()
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "peak.c"), Path(folder, "peak")
        source.write_text(SOURCE)
        flags = ["-O3", f"-march={MARCH[isa]}", "-fopenmp"]
        subprocess.run([*compiler, *flags, str(source), "-o", str(program)], check=True)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        return float(subprocess.run([program], check=True, capture_output=True, text=True, env=environment).stdout)
