// Memory of the host that a GPU reads while it computes. tch has no way to ask for it: it can only copy
// what lies elsewhere.

#include <cstdint>

#include <ATen/ATen.h>

#include "cpp.h"

// `rank` sizes, of u8. It comes from libtorch's cache, which waits for the copies that still read it.
extern "C" at::Tensor *image_zero_shot_pinned(const int64_t *sizes, size_t rank, char **error) {
  return guarded(error, [&] {
    return new at::Tensor(at::empty(at::IntArrayRef(sizes, rank),
                                    at::TensorOptions(at::kByte).pinned_memory(true)));
  });
}
