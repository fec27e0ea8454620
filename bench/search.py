"""Peers of bench/search.exs: exact search by numpy, faiss and usearch, as a process that is asked for one at a time.

    python bench/search.py FOLDER COUNT DIM

Writes `rows` and `queries` into FOLDER, as 32-bit floats, and then `ready`. Reads lines `WHO QUERY TOGETHER`,
and writes the milliseconds and the ids of the ten nearest of the last query. Needs numpy, faiss-cpu and usearch.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
from usearch.index import MetricKind, search

THREADS = os.cpu_count()
K = 10
# Our threads step back as far: where others use the machine too, all contenders get the same of it.
os.nice(15)


def real_like(rng, count, dim):
    """As CLIP makes them: within a cone, in clusters within clusters, with a few large components."""
    scale = rng.uniform(0.5, 1.5, dim).astype(np.float32)
    scale[92::200] = 8.0
    draw = lambda n: rng.standard_normal((n, dim), np.float32) * scale
    cone, outer, inner = draw(1), draw(100), draw(3000)
    rows = np.empty((count, dim), np.float32)
    for start in range(0, count, 50_000):
        part = rows[start : start + 50_000]
        at = rng.integers(0, 3000, len(part))
        part[:] = 0.9 * cone + 0.6 * outer[at % 100] + 0.4 * inner[at] + 0.3 * draw(len(part))
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def main(folder, count, dim):
    rng = np.random.default_rng(7)
    rows = real_like(rng, count + 256, dim)
    rows, queries = rows[:count], rows[count:].copy()
    rows.tofile(f"{folder}/rows")
    queries.tofile(f"{folder}/queries")
    index = faiss.IndexFlatIP(dim)
    index.add(rows)
    pool = ThreadPoolExecutor(THREADS)
    words = np.array_split(rows.reshape(-1).view(np.uint64), THREADS)

    def by_numpy(some):
        scores = some @ rows.T if len(some) > 1 else (rows @ some[0])[None]
        best = np.argpartition(-scores, K, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
        return np.take_along_axis(best, order, 1)

    def reading(_some):
        list(pool.map(np.bitwise_or.reduce, words))
        return [[]]

    ways = {
        "read": reading,
        "numpy": by_numpy,
        "faiss": lambda some: index.search(some, K)[1],
        "usearch": lambda some: np.atleast_2d(
            search(rows, some, K, MetricKind.IP, exact=True, threads=THREADS).keys
        ),
    }
    print("ready", flush=True)
    for line in sys.stdin:
        who, query, together = line.split()
        some = queries[(int(query) + np.arange(int(together))) % len(queries)]
        start = time.perf_counter()
        found = ways[who](some)
        taken = (time.perf_counter() - start) * 1000
        print(taken, ",".join(str(at) for at in found[-1]) or "-", flush=True)


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
