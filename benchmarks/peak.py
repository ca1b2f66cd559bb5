"""The machine's peaks, measured: fused multiply-adds on the widest vectors, memory traffic far outside the caches."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MULTIPLY_ADD = r"""
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
  for (int round = 0; round < 20; round++) { /* the best counts: short, so that one is left alone */
    const long steps = 5000000;
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
# Read, copy and triad of STREAM (J. McCalpin, 1995), which counts the bytes that the program names.
MEMORY = r"""
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}
int main(int argc, char **argv) {
  const long n = argc > 1 ? atol(argv[1]) : 0;
  float *a = malloc(n * sizeof(float)), *b = malloc(n * sizeof(float)), *c = malloc(n * sizeof(float));
  if (!a || !b || !c) return 1;
  double best[3] = {0, 0, 0};
  float sink = 0;
  #pragma omp parallel for simd schedule(static)
  for (long i = 0; i < n; i++) a[i] = 1, b[i] = 2, c[i] = 3;
  for (int round = 0; round < 5; round++) {
    double at[4];
    float sum = 0;
    at[0] = seconds();
    #pragma omp parallel for simd schedule(static) reduction(+ : sum)
    for (long i = 0; i < n; i++) sum += a[i];
    at[1] = seconds();
    #pragma omp parallel for simd schedule(static)
    for (long i = 0; i < n; i++) c[i] = a[i];
    at[2] = seconds();
    #pragma omp parallel for simd schedule(static)
    for (long i = 0; i < n; i++) a[i] = b[i] + 3 * c[i];
    at[3] = seconds();
    sink += sum;
    for (int k = 0; k < 3; k++) {
      double rate = (k + 1) * n * sizeof(float) / (at[k + 1] - at[k]) / 1e9;
      if (rate > best[k]) best[k] = rate;
    }
  }
  printf("%.2f %.2f %.2f\n", best[0], best[1], best[2]);
  return sink == 0;
}
"""
MARCH = {"baseline": "x86-64-v2", "avx2": "x86-64-v3", "avx512": "x86-64-v4"}
TIMES_CACHE = 4  # the three arrays together, so that hardly anything is found in a cache
LEAST_BYTES, MOST_SHARE = 256 << 20, 0.25  # of them; of the memory that there is


def _run(source: str, isa: str, threads: int, *arguments: str) -> list[float]:
    """Compile and run a program that prints numbers; print why where that fails, and return none."""
    compiler = os.environ.get("CC", "cc").split()
    flags = ["-O3", f"-march={MARCH[isa]}", "-mprefer-vector-width=512", "-fopenmp"]
    try:
        with tempfile.TemporaryDirectory() as folder:
            path, program = Path(folder, "peak.c"), Path(folder, "peak")
            path.write_text(source)
            subprocess.run([*compiler, *flags, str(path), "-o", str(program)], check=True)
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            command = [str(program), *arguments]
            found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            return [float(word) for word in found.stdout.split()]
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"benchmarks: the machine's peak is not measured: {error}", file=sys.stderr)
        return []


def _array_length() -> int:
    """Return how many floats each of three arrays gets."""
    sizes = [path.read_text() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    cache = max((int(size.strip().removesuffix("K")) << 10 for size in sizes), default=0)
    size = max(TIMES_CACHE * cache, LEAST_BYTES)
    if "SC_PHYS_PAGES" in os.sysconf_names:
        size = min(size, int(MOST_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    return size // 3 // 4


def multiply_add(isa: str, threads: int) -> float:
    """Return the peak in GFLOP/s (float32) with the instruction set `isa` on `threads` threads; nan if unknown."""
    return next(iter(_run(MULTIPLY_ADD, isa, threads)), math.nan)


def memory(isa: str, threads: int) -> dict[str, float]:
    """Return GB/s of reading, of copying and of STREAM's triad on `threads` threads."""
    return dict(zip(("read", "copy", "triad"), _run(MEMORY, isa, threads, str(_array_length())), strict=False))
