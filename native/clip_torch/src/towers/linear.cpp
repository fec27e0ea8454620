// Products with packed weights, as an operator that tracing records.
//
// libtorch has these products (oneDNN's), but tch binds none of them, and tracing refuses the types of
// their arguments. So there is one operator of our own, `image_zero_shot::linear_2`, which looks at the
// weight: its type and whether it is packed choose the kernel. One traced module serves all of them.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <optional>
#include <string_view>

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/TensorIterator.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "cpp.h"

namespace {

using at::Tensor;
using std::optional;
using std::string_view;
using Scalars = c10::List<optional<at::Scalar>>;

template <typename Signature>
c10::TypedOperatorHandle<Signature> find(const char *name, const char *overload = "") {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<Signature>();
}

// Ends with a number that goes up with the operator's arguments: a VM may hold an older copy of this
// library, which has registered its own.
constexpr auto operator_name = "image_zero_shot::linear_2";

// Names of oneDNN's activations for ours.
struct PostOperation {
  string_view name;
  string_view algorithm;
};

PostOperation post_operation(string_view activation) {
  if (activation == "none") return {"none", ""};
  if (activation == "silu") return {"swish", ""};
  if (activation == "gelu") return {"gelu", "none"};
  TORCH_CHECK(activation == "gelu_tanh", "no activation is called ", activation);
  return {"gelu", "tanh"};
}

Tensor activate(Tensor x, string_view activation) {
  if (activation == "silu") return at::silu_(x);
  if (activation == "gelu") return at::gelu_(x, "none");
  if (activation == "gelu_tanh") return at::gelu_(x, "tanh");
  return x;
}

// While one lives, oneDNN multiplies f32 with all digits, whatever another user of libtorch allows in this
// process (TF32, bf16). The setting is the process's, so the first one saves it and the last one
// restores it.
class AllDigits {
 public:
  AllDigits() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (living++ > 0) return;
    before = get();
    changed = before == at::Float32Precision::TF32 || before == at::Float32Precision::BF16;
    if (changed) set(at::Float32Precision::IEEE);
  }

  ~AllDigits() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (--living > 0 || !changed) return;
    try {
      // It may have been inherited from a wider setting, and is to follow that one again.
      set(at::Float32Precision::NONE);
      if (get() != before) set(before);
    } catch (...) {
    }
  }

 private:
  static constexpr auto backend = at::Float32Backend::MKLDNN;
  static constexpr auto operation = at::Float32Op::MATMUL;
  static inline std::mutex mutex;
  static inline int living = 0;
  static inline bool changed = false;
  static inline auto before = at::Float32Precision::NONE;

  static at::Float32Precision get() {
    return at::globalContext().float32Precision(backend, operation);
  }
  static void set(at::Float32Precision precision) {
    at::globalContext().setFloat32Precision(backend, operation, precision);
  }
};

// `_reorder_linear_weight` for no particular number of rows: the product takes any.
Tensor packed(const Tensor &weight) {
  static const auto op =
      find<Tensor(const Tensor &, optional<int64_t>)>("mkldnn::_reorder_linear_weight");
  return op.call(weight, std::nullopt);
}

Tensor packed_linear(const Tensor &x, const Tensor &weight, const optional<Tensor> &bias,
                     string_view activation) {
  static const auto op = find<Tensor(const Tensor &, const Tensor &, const optional<Tensor> &,
                                     string_view, Scalars, optional<string_view>)>(
      "mkldnn::_linear_pointwise");
  const auto post = post_operation(activation);
  return op.call(x, weight, bias, post.name, Scalars(), post.algorithm);
}

// Which instructions a loop may use is decided when the library is loaded.
#if defined(__x86_64__) && defined(__linux__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define FOR_EVERY_PROCESSOR
#endif

// The order of floats as integers: such loops call nothing, so that compilers use wide registers, and a NaN lies
// beyond the infinite values instead of getting lost.
inline int32_t ordered(float value) {
  int32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

inline float value_of(int32_t ordered) {
  const auto bits = ordered ^ ((ordered >> 31) & 0x7fffffff);
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// How many parts of a byte's unit the second byte counts, and which of its values stands for none.
constexpr float parts = 254.0f;
constexpr float no_part = 128.0f;

inline float rounded(float value, uint8_t *byte) {
  // Added to 1.5 * 2^23, a small number is rounded and lies in the last bits.
  const float shifted = value + 12582912.0f;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  *byte = static_cast<uint8_t>(bits);
  return shifted - 12582912.0f;
}

// A row as bytes, `least` and more, in units of `scale`. `finer` gets what rounding took. Of a row with an infinite
// value or a NaN nothing is finite.
FOR_EVERY_PROCESSOR
void quantize_row(const float *row, int64_t length, uint8_t *bytes, uint8_t *finer, float *scale,
                  float *least) {
  auto low = ordered(row[0]), high = low;
  for (int64_t i = 1; i < length; i++) {
    const auto value = ordered(row[i]);
    low = std::min(low, value);
    high = std::max(high, value);
  }
  const float from = value_of(low);
  // In this order of arguments a NaN stays one.
  *scale = std::max((value_of(high) - from) / 255.0f, 1e-30f);
  *least = from;
  const float factor = 1.0f / *scale;
  if (!finer) {
    for (int64_t i = 0; i < length; i++) rounded((row[i] - from) * factor, bytes + i);
    return;
  }
  *least -= *scale * (no_part / parts);
  for (int64_t i = 0; i < length; i++) {
    const float value = (row[i] - from) * factor;
    rounded((value - rounded(value, bytes + i)) * parts + no_part, finer + i);
  }
}

// From products of bytes to that of the values, with the bias.
FOR_EVERY_PROCESSOR
void restore_row(float *row, const float *finer, int64_t length, float scale, float least,
                 const float *sums, const float *bias) {
  if (finer) {
    for (int64_t i = 0; i < length; i++) row[i] += finer[i] * (1.0f / parts);
  }
  for (int64_t i = 0; i < length; i++) row[i] = row[i] * scale + least * sums[i];
  if (bias) {
    for (int64_t i = 0; i < length; i++) row[i] += bias[i];
  }
}

// Calls `work` for each row of some tensors, with a pointer into each. libtorch divides the rows among its threads.
// `at::parallel_for` would not here: this file is compiled without OpenMP, so that libtorch's is the only one.
template <size_t N, typename Work>
void each_row(int64_t length, at::TensorIteratorConfig &config, const Work &work) {
  auto rows = config.check_all_same_dtype(false).resize_outputs(false).build();
  rows.for_each(
      [&](char **data, const int64_t *strides, int64_t count) {
        for (int64_t row = 0; row < count; row++) {
          char *at[N];
          for (size_t i = 0; i < N; i++) at[i] = data[i] + row * strides[i];
          work(at);
        }
      },
      std::max<int64_t>(at::internal::GRAIN_SIZE / length, 1));
}

// The number at the beginning of each row.
Tensor beginnings(const Tensor &rows) { return rows.select(1, 0); }

// Activations as rows of bytes, with a scale and a least value for each row: a token that is large leaves the others
// their digits. If they are fine, there are as many rows of second bytes below.
struct Quantized {
  Tensor values;
  Tensor scales;
  Tensor least;
};

Quantized quantized(const Tensor &x, bool fine) {
  TORCH_CHECK(x.scalar_type() == at::kFloat, "only f32 becomes bytes here");
  const auto rows = x.size(0), length = x.size(1);
  const auto from = beginnings(x);
  Quantized result{at::empty({fine ? 2 * rows : rows, length}, at::kByte),
                   at::empty({rows}, at::kFloat), at::empty({rows}, at::kFloat)};
  const auto to = beginnings(result.values.narrow(0, 0, rows));
  at::TensorIteratorConfig config;
  config.add_output(to).add_output(result.scales).add_output(result.least).add_const_input(from);
  each_row<4>(length, config, [&](char **at) {
    auto *bytes = reinterpret_cast<uint8_t *>(at[0]);
    quantize_row(reinterpret_cast<const float *>(at[3]), length, bytes,
                 fine ? bytes + rows * length : nullptr, reinterpret_cast<float *>(at[1]),
                 reinterpret_cast<float *>(at[2]));
  });
  return result;
}

// The first rows of a product of bytes become that of the values.
Tensor restored(const Tensor &product, const Quantized &x, const Tensor &sums,
                const optional<Tensor> &bias) {
  TORCH_CHECK(product.scalar_type() == at::kFloat, "a product of bytes is to be f32");
  const auto rows = x.scales.size(0), length = product.size(1);
  const bool fine = product.size(0) > rows;
  const auto result = product.narrow(0, 0, rows);
  const auto to = beginnings(result);
  const auto *weight_sums = sums.const_data_ptr<float>();
  const auto *biases = bias ? bias->const_data_ptr<float>() : nullptr;
  at::TensorIteratorConfig config;
  config.add_output(to).add_const_input(x.scales).add_const_input(x.least);
  each_row<3>(length, config, [&](char **at) {
    auto *row = reinterpret_cast<float *>(at[0]);
    restore_row(row, fine ? row + rows * length : nullptr, length,
                *reinterpret_cast<const float *>(at[1]), *reinterpret_cast<const float *>(at[2]),
                weight_sums, biases);
  });
  return result;
}

Tensor int8_packed(const Tensor &weight) {
  static const auto op =
      find<Tensor(Tensor, optional<c10::List<int64_t>>)>("onednn::qlinear_prepack");
  return op.call(weight, std::nullopt);
}

Tensor int8_linear(const Tensor &x, const Tensor &weight, const Tensor &scales,
                   const optional<Tensor> &bias, string_view activation, bool fine) {
  static const auto op =
      find<Tensor(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, optional<Tensor>, double, int64_t,
                  optional<at::ScalarType>, string_view, Scalars, string_view)>(
          "onednn::qlinear_pointwise", "tensor");
  auto shape = x.sizes().vec();
  const auto q = quantized(x.view({-1, shape.back()}), fine);
  const auto one = at::ones({1}), zero = at::zeros({1}, at::kLong);
  shape.back() = scales.size(1);
  const auto zeros = at::zeros({shape.back()}, at::kLong);
  const auto product = op.call(q.values, one, zero, weight, scales[0], zeros, std::nullopt, 1.0, 0,
                               at::kFloat, "none", Scalars(), "");
  return activate(restored(product, q, scales[1], bias).view(shape), activation);
}

// `x W^T + b`, activated. The result is f32 on a CPU, or 16 bits where a packed weight of 16 bits is to be
// `narrow`: where another product follows at once. On a GPU it is of the weight's type.
Tensor linear(const Tensor &x, const Tensor &weight, const Tensor &scales,
              const optional<Tensor> &bias, string_view activation, bool narrow, bool fine) {
  if (scales.numel() > 0 && x.numel() > 0)
    return int8_linear(x.contiguous(), weight, scales, bias, activation, fine);
  const auto type = scales.numel() > 0 ? at::kFloat : weight.scalar_type();
  if (x.numel() == 0) {
    auto shape = x.sizes().vec();
    shape.back() = scales.numel() > 0 ? scales.size(1) : weight.size(0);
    return at::empty(shape, x.options().dtype(narrow || !weight.is_mkldnn() ? type : at::kFloat));
  }
  const auto converted = x.to(type).contiguous();
  const at::NoTF32Guard no_tf32;
  if (!weight.is_mkldnn()) return activate(at::linear(converted, weight, bias), activation);
  if (type != at::kFloat) {
    const auto result = packed_linear(converted, weight, bias, activation);
    return narrow ? result : result.to(at::kFloat);
  }
  const AllDigits all_digits;
  return packed_linear(converted, weight, bias, activation);
}

}  // namespace

extern "C" {

// Makes the operator known. Not when the library is opened: a VM may open a newer copy of it, and
// libtorch ends the process where a static registration fails. The registration is never undone, as
// the older copy stays.
void image_zero_shot_register(char **error) {
  guarded(error, []() -> Tensor * {
    if (!c10::Dispatcher::singleton().findSchema({operator_name, ""})) {
      auto *library = new torch::Library(torch::Library::FRAGMENT, "image_zero_shot", std::nullopt,
                                         __FILE__, __LINE__);
      library->def("linear_2(Tensor x, Tensor weight, Tensor scales, Tensor? bias, str activation, "
                   "bool narrow, bool fine) -> Tensor");
      library->impl("linear_2", torch::dispatch(c10::DispatchKey::CompositeExplicitAutograd,
                                                TORCH_FN(linear)));
    }
    return nullptr;
  });
}

Tensor *image_zero_shot_linear(const Tensor *x, const Tensor *weight, const Tensor *scales,
                               const Tensor *bias, const char *activation, bool narrow, bool fine,
                               char **error) {
  return guarded(error, [&] {
    static const auto op =
        find<Tensor(const Tensor &, const Tensor &, const Tensor &, const optional<Tensor> &,
                    string_view, bool, bool)>(operator_name);
    const auto biases = bias ? optional<Tensor>(*bias) : std::nullopt;
    return new Tensor(op.call(*x, *weight, *scales, biases, activation, narrow, fine));
  });
}

Tensor *image_zero_shot_pack(const Tensor *weight, char **error) {
  return guarded(error, [&] {
    return new Tensor(weight->scalar_type() == at::kChar ? int8_packed(*weight) : packed(*weight));
  });
}

}
